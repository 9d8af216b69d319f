"""Runs the oracle on a pipeline folder and records what every stage gives, under the names of `flux1 --dump` and a few more (README.md)."""
import environment
import contextlib
import copy
import dataclasses
import json
import os

import diffusers
import numpy as np
import torch
import transformers
from diffusers import FluxPipeline
from safetensors.torch import save_file


@dataclasses.dataclass
class Case:
    """One picture. `embeds` stores prompt_embeds, `hidden` the encoders' hidden states, `bf16` the errors of torch's own bf16; `tiled` decodes in tiles."""
    name: str
    prompt: str
    width: int
    height: int
    steps: int
    seed: int = 0
    guidance: float = 0.0
    length: int = 77
    embeds: bool = False
    hidden: bool = False
    bf16: bool = False
    decoded: bool = True
    tiled: bool = False


def load(folder):
    """The whole pipeline with every weight widened to fp32."""
    pipe = FluxPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    if pipe.vae.config.shift_factor is None:               # FluxPipeline cannot add None; no shift means 0
        pipe.vae.register_to_config(shift_factor=0.0)
    return pipe


@contextlib.contextmanager
def watch(owner, method):
    """Collects what `owner.method` returns while the block runs."""
    results, original = [], getattr(owner, method)

    def wrapper(*args, **kwargs):
        results.append(original(*args, **kwargs))
        return results[-1]

    setattr(owner, method, wrapper)
    try:
        yield results
    finally:
        delattr(owner, method)


@contextlib.contextmanager
def hooked(modules):
    """Collects the outputs of named modules: {name: output} of the last call."""
    seen = {}
    handles = [m.register_forward_hook(lambda _, __, out, name=name: seen.__setitem__(name, out)) for name, m in modules.items()]
    try:
        yield seen
    finally:
        for h in handles:
            h.remove()


def token_ids(pipe, prompt, length):
    common = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
    return (pipe.tokenizer(prompt, max_length=pipe.tokenizer_max_length, **common).input_ids,
            pipe.tokenizer_2(prompt, max_length=length, **common).input_ids)


def generate(pipe, **arguments):
    """One pipeline call: {noise, sigmas, latents.k, decoded, image}."""
    out = {}

    def keep(_, step, __, tensors):
        out[f"latents.{step + 1}"] = tensors["latents"].clone()
        return {}

    with watch(pipe, "prepare_latents") as noise, watch(pipe.vae, "decode") as decoded:
        picture = pipe(callback_on_step_end=keep, output_type="pil", **arguments).images[0]
    out["noise"] = noise[0][0]
    out["sigmas"] = pipe.scheduler.sigmas.clone()
    out["decoded"] = decoded[0][0]
    out["image"] = torch.from_numpy(np.array(picture))
    return out


def call_arguments(case):
    return {"width": case.width, "height": case.height, "num_inference_steps": case.steps, "guidance_scale": case.guidance, "max_sequence_length": case.length}


def run(pipe, case):
    """All `--dump` tensors of a case and `image`, fp32."""
    clip, t5 = token_ids(pipe, case.prompt, case.length)
    pipe.vae.use_tiling = case.tiled
    with watch(pipe, "encode_prompt") as embeds:
        out = generate(pipe, prompt=case.prompt, generator=torch.Generator().manual_seed(case.seed), **call_arguments(case))
    out["prompt_embeds"], out["pooled_prompt_embeds"] = embeds[0][0], embeds[0][1]
    out["clip.input_ids"], out["t5.input_ids"] = clip.to(torch.int32), t5.to(torch.int32)
    return out


def encoder_hidden(pipe, out):
    """clip.last_hidden (after the final norm) and t5.block.N (the residual stream after block N)."""
    blocks = {f"t5.block.{i}": b for i, b in enumerate(pipe.text_encoder_2.encoder.block)}
    with hooked(blocks) as seen:
        pipe.text_encoder_2(out["t5.input_ids"].long())
    hidden = {name: value[0] if isinstance(value, tuple) else value for name, value in seen.items()}
    return {"clip.last_hidden": pipe.text_encoder(out["clip.input_ids"].long()).last_hidden_state, **hidden}


def relative_l2(value, truth):
    value, truth = value.double(), truth.double()
    return ((value - truth).norm() / truth.norm().clamp_min(1e-300)).item()


def in_bf16(pipe):
    """The same pipeline with all weights and arithmetic in bf16."""
    parts = {name: copy.deepcopy(getattr(pipe, name)).to(torch.bfloat16) for name in ("text_encoder", "text_encoder_2", "transformer", "vae")}
    half = FluxPipeline(scheduler=copy.deepcopy(pipe.scheduler), tokenizer=pipe.tokenizer, tokenizer_2=pipe.tokenizer_2, **parts)
    half.set_progress_bar_config(disable=True)
    return half


def unpack(pipe, latents, case):
    z = pipe._unpack_latents(latents, case.height, case.width, pipe.vae_scale_factor)
    return z / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor


def bf16_errors(half, case, out):
    """Relative L2 of torch's bf16 against fp32: each stage fed the fp32 run's input, and the whole chain (end_to_end) from the prompt and the fp32 noise."""
    b = torch.bfloat16
    embeds, pooled, _ = half.encode_prompt(case.prompt, max_sequence_length=case.length)
    staged = generate(half, prompt_embeds=out["prompt_embeds"].to(b), pooled_prompt_embeds=out["pooled_prompt_embeds"].to(b),
                      latents=out["noise"].to(b), **call_arguments(case))
    chained = generate(half, prompt_embeds=embeds, pooled_prompt_embeds=pooled, latents=out["noise"].to(b), **call_arguments(case))
    decoded = half.vae.decode(unpack(half, out[f"latents.{case.steps}"].to(b), case), return_dict=False)[0]
    errors = {"prompt_embeds": (embeds, "prompt_embeds"), "pooled_prompt_embeds": (pooled, "pooled_prompt_embeds"), "decoded": (decoded, "decoded"),
              "end_to_end.decoded": (chained["decoded"], "decoded")}
    for k in range(1, case.steps + 1):
        errors[f"latents.{k}"] = (staged[f"latents.{k}"], f"latents.{k}")
        errors[f"end_to_end.latents.{k}"] = (chained[f"latents.{k}"], f"latents.{k}")
    return {f"bf16_error.{name}": torch.tensor([relative_l2(value, out[truth])]) for name, (value, truth) in errors.items()}


def velocity(dit, inputs, ids, dtype=torch.float32):
    guidance = inputs["guidance"] if dit.config.guidance_embeds else None
    cast = {k: v.to(dtype) for k, v in inputs.items()}
    return dit(hidden_states=cast["latents"], timestep=cast["sigma"], guidance=guidance, pooled_projections=cast["pooled_prompt_embeds"],
               encoder_hidden_states=cast["prompt_embeds"], txt_ids=torch.zeros(inputs["prompt_embeds"].shape[1], 3), img_ids=ids, return_dict=False)[0]


def dit_stages(pipe, half, case, out):
    """One velocity: its inputs (dit.input.*), the conditioning vector, both embedders, every block (double, then single, counted on), the result.

    1000·sigma and 1000·guidance are exact in bf16, so that bf16_error.dit.velocity is the error of the arithmetic, not of a rounded phase.
    """
    dit, flat = pipe.transformer, {}
    blocks = [*dit.transformer_blocks, *dit.single_transformer_blocks]
    modules = {"temb": dit.time_text_embed, "x_embedder": dit.x_embedder, "context_embedder": dit.context_embedder,
               **{f"block.{i}": b for i, b in enumerate(blocks)}}
    inputs = {"latents": out["noise"], "sigma": torch.tensor([0.5]), "guidance": torch.tensor([case.guidance]),
              "prompt_embeds": out["prompt_embeds"], "pooled_prompt_embeds": out["pooled_prompt_embeds"]}
    scale = 2 * pipe.vae_scale_factor
    ids = pipe._prepare_latent_image_ids(1, case.height // scale, case.width // scale, "cpu", torch.float32)
    with hooked(modules) as seen:
        result = velocity(dit, inputs, ids)
    error = relative_l2(velocity(half.transformer, inputs, ids, torch.bfloat16), result)
    for name, value in seen.items():
        flat.update({f"dit.{name}.text": value[0], f"dit.{name}.image": value[1]} if isinstance(value, tuple) else {f"dit.{name}": value})
    return {"dit.velocity": result, "bf16_error.dit.velocity": torch.tensor([error]), **{f"dit.input.{k}": v for k, v in inputs.items()}, **flat}


VAE_ENDS = ("vae.decode.input", "vae.decode.output", "vae.encode.image", "vae.encode.mean", "vae.encode.logvar",
            "bf16_error.vae.decode", "bf16_error.vae.encode.mean")


def vae_stages(pipe, half, case, out, image_size):
    """Decoding the case's last latents and encoding a random picture of image_size (height, width), level by level."""
    vae, z = pipe.vae, unpack(pipe, out[f"latents.{case.steps}"], case)
    encoder, decoder = vae.encoder, vae.decoder
    parts = {"decode.conv_in": decoder.conv_in, "decode.mid": decoder.mid_block, "encode.conv_in": encoder.conv_in, "encode.mid": encoder.mid_block,
             **{f"decode.up.{i}": m for i, m in enumerate(decoder.up_blocks)}, **{f"encode.down.{i}": m for i, m in enumerate(encoder.down_blocks)}}
    image = torch.rand((1, 3, *image_size), generator=torch.Generator().manual_seed(1)) * 2 - 1
    with hooked(parts) as seen:
        decoded, encoded = vae.decode(z, return_dict=False)[0], vae.encode(image).latent_dist
    b = torch.bfloat16
    errors = {"vae.decode": relative_l2(half.vae.decode(z.to(b), return_dict=False)[0], decoded),
              "vae.encode.mean": relative_l2(half.vae.encode(image.to(b)).latent_dist.mean, encoded.mean)}
    return {"vae.decode.input": z, "vae.decode.output": decoded, "vae.encode.image": image, "vae.encode.mean": encoded.mean, "vae.encode.logvar": encoded.logvar,
            **{f"vae.{k}": v for k, v in seen.items()}, **{f"bf16_error.{k}": torch.tensor([v]) for k, v in errors.items()}}


def parameters(case):
    """The case's inputs as tensors, for readers that do not look at the metadata."""
    whole = {"width": case.width, "height": case.height, "steps": case.steps, "seed": case.seed, "max_sequence_length": case.length,
             **({"tiled": 1} if case.tiled else {})}
    text = torch.tensor(list(case.prompt.encode()), dtype=torch.uint8)
    return {**{k: torch.tensor([v], dtype=torch.int64) for k, v in whole.items()}, "guidance": torch.tensor([case.guidance]), "prompt": text}


def versions():
    return {"torch": torch.__version__, "diffusers": diffusers.__version__, "transformers": transformers.__version__}


def sort_metadata(path):
    """safetensors writes metadata in a random order; sorted, the same tensors give the same file."""
    with open(path, "rb") as f:
        size = int.from_bytes(f.read(8), "little")
        header, data = json.loads(f.read(size)), f.read()
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + data)


def save(path, tensors, case=None):
    """Writes a golden file; a case's inputs go in as tensors and as metadata."""
    metadata = versions()
    if case:
        tensors = {**tensors, **parameters(case)}
        metadata.update(prompt=case.prompt, width=str(case.width), height=str(case.height), steps=str(case.steps), guidance=str(case.guidance),
                        seed=str(case.seed), max_sequence_length=str(case.length))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, path, metadata=metadata)
    sort_metadata(path)
    os.chmod(path, 0o644)
