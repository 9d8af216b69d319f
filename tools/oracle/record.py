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
    """One picture. `embeds` stores prompt_embeds, `hidden` the encoders' hidden states, `bf16` the errors of torch's own bf16; `tiled` decodes in tiles.

    `scale` and `negative` are true CFG's; without a scale nothing is said of it. A tuple of prompts is a batch: seed, guidance and negative are tuples then, too.
    """
    name: str
    prompt: str | tuple
    width: int
    height: int
    steps: int
    seed: int | tuple = 0
    guidance: float | tuple = 0.0
    length: int = 77
    embeds: bool = False
    hidden: bool = False
    bf16: bool = False
    decoded: bool = True
    tiled: bool = False
    negative: str | tuple | None = None
    scale: float | None = None

    @property
    def batch(self):
        return isinstance(self.prompt, tuple)


def rows(value):
    return list(value) if isinstance(value, tuple) else [value]


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


@contextlib.contextmanager
def guidance_of_rows(dit, guidance):
    """FluxPipeline has one guidance for all rows of a batch; the transformer takes one a row, in both passes of true CFG."""
    def replace(_, args, named):
        return args, named if named["guidance"] is None else {**named, "guidance": torch.tensor(guidance)}

    handles = [dit.register_forward_pre_hook(replace, with_kwargs=True)] if len(guidance) > 1 else []
    try:
        yield
    finally:
        for h in handles:
            h.remove()


def token_ids(pipe, prompt, length):
    common = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
    clip = pipe.tokenizer(prompt, max_length=pipe.tokenizer_max_length, **common).input_ids
    t5 = pipe.tokenizer_2(prompt, max_length=length, **common).input_ids
    return {"clip.input_ids": clip.to(torch.int32), "t5.input_ids": t5.to(torch.int32)}


def generate(pipe, **arguments):
    """One pipeline call: {noise, sigmas, latents.k, decoded, image}."""
    out = {}

    def keep(_, step, __, tensors):
        out[f"latents.{step + 1}"] = tensors["latents"].clone()
        return {}

    with watch(pipe, "prepare_latents") as noise, watch(pipe.vae, "decode") as decoded:
        pictures = pipe(callback_on_step_end=keep, output_type="pil", **arguments).images
    out["noise"] = noise[0][0]
    out["sigmas"] = pipe.scheduler.sigmas.clone()
    out["decoded"] = decoded[0][0]
    images = [torch.from_numpy(np.array(picture)) for picture in pictures]
    out["image"] = torch.stack(images) if len(images) > 1 else images[0]
    return out


def call_arguments(case):
    cfg = {} if case.scale is None else {"true_cfg_scale": case.scale}
    return {"width": case.width, "height": case.height, "num_inference_steps": case.steps, "guidance_scale": rows(case.guidance)[0],
            "max_sequence_length": case.length, **cfg}


def run(pipe, case):
    """All `--dump` tensors of a case and `image`, fp32. Those of the negative prompt are there when diffusers encoded one."""
    prompts = {name: list(value) if case.batch and value else value for name, value in (("prompt", case.prompt), ("negative_prompt", case.negative))}
    generators = [torch.Generator().manual_seed(seed) for seed in rows(case.seed)]
    pipe.vae.use_tiling = case.tiled
    with watch(pipe, "encode_prompt") as embeds, guidance_of_rows(pipe.transformer, rows(case.guidance)):
        out = generate(pipe, generator=generators if case.batch else generators[0], **prompts, **call_arguments(case))
    for prefix, (text, pooled, _) in zip(("", "negative_"), embeds):
        out[prefix + "prompt_embeds"], out[prefix + "pooled_prompt_embeds"] = text, pooled
        ids = token_ids(pipe, prompts[prefix + "prompt"], case.length)
        out.update({prefix.replace("_", ".") + name: value for name, value in ids.items()})
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
    b, embeds = torch.bfloat16, {}
    for prefix, prompt in (("", case.prompt), ("negative_", case.negative)):
        if prefix + "prompt_embeds" in out:
            embeds[prefix + "prompt_embeds"], embeds[prefix + "pooled_prompt_embeds"], _ = half.encode_prompt(prompt, max_sequence_length=case.length)
    staged = generate(half, **{name: out[name].to(b) for name in embeds}, latents=out["noise"].to(b), **call_arguments(case))
    chained = generate(half, **embeds, latents=out["noise"].to(b), **call_arguments(case))
    decoded = half.vae.decode(unpack(half, out[f"latents.{case.steps}"].to(b), case), return_dict=False)[0]
    errors = {**{name: (value, name) for name, value in embeds.items()}, "decoded": (decoded, "decoded"), "end_to_end.decoded": (chained["decoded"], "decoded")}
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


def texts(case):
    """{name: text} of a case's prompts; those of a batch are prompt.0, prompt.1 …"""
    given = {name: value for name, value in (("prompt", case.prompt), ("negative_prompt", case.negative)) if value is not None}
    if not case.batch:
        return given
    return {f"{name}.{row}": text for name, value in given.items() for row, text in enumerate(value)}


def parameters(case):
    """The case's inputs as tensors, for readers that do not look at the metadata."""
    whole = {"width": case.width, "height": case.height, "steps": case.steps, "seed": case.seed, "max_sequence_length": case.length,
             **({"tiled": 1} if case.tiled else {})}
    cfg = {} if case.scale is None else {"true_cfg_scale": torch.tensor([case.scale])}
    return {**{k: torch.tensor(rows(v), dtype=torch.int64) for k, v in whole.items()}, "guidance": torch.tensor(rows(case.guidance)), **cfg,
            **{name: torch.tensor(list(text.encode()), dtype=torch.uint8) for name, text in texts(case).items()}}


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
        joined = lambda value: ", ".join(map(str, rows(value)))
        metadata.update(texts(case), width=str(case.width), height=str(case.height), steps=str(case.steps), guidance=joined(case.guidance),
                        seed=joined(case.seed), max_sequence_length=str(case.length), **({} if case.scale is None else {"true_cfg_scale": str(case.scale)}))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, path, metadata=metadata)
    sort_metadata(path)
    os.chmod(path, 0o644)
