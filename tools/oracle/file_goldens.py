"""Writes one tiny pipeline in the forms that FLUX.1's files have, and what the oracle makes of each.

usage: file_goldens.py

tests/data/pipelines/packed: the pipeline as a diffusers folder. tests/data/files/<form>: its parts in another form, with values that the form can hold:
  bfl     single files: transformer and VAE with BFL's names, CLIP and T5 as Comfy's users have them
  comfy   all in one file with Comfy's prefixes: transformer in fp8 with `scale_weight`, T5 in plain fp8 (e5m2)
  scaled  the transformer alone behind model.diffusion_model.: `weight_scale` and `comfy_quant`, fp8 and int8 (one scale, one per row), norms ".weight"
  gguf    transformer, T5 and CLIP in GGUF, all types mixed
  bnb     a diffusers folder: transformer in nf4 (nested) and fp4, T5 in int8
tests/data/goldens/files/<form>.safetensors: a picture from the dequantised values, as fp32 (README.md, cases).
tests/data/goldens/files/<form>.digests.safetensors: for each tensor by its diffusers name, FNV-1a (64 bits, as I64) of its dequantised fp32 bytes.
"""
import environment
import json
import os
import shutil

import bitsandbytes.functional as bnb
import catalog
import gguf
import numpy
import other_names
import record
import tiny
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from safetensors.torch import save_file

FILES, GOLDENS = (os.path.join(environment.TEST_DATA, *p) for p in (("files",), ("goldens", "files")))
PIPELINE = os.path.join(environment.TEST_DATA, "pipelines", "packed")
SPEC = tiny.Spec("packed", seed=8, clip=catalog.clip(32, 2, 64), t5=catalog.t5(32, 2, 16, 256), dit=catalog.dit(64, 1, 1, 2, (4, 14, 14), 32, 32, True),
                 vae=catalog.vae((4, 8, 8, 8), 1, 16, 4, 64), scheduler=catalog.DYNAMIC, dtype={"text_encoder": "F16", "text_encoder_2": "F16", "transformer": "BF16"})
CASE = record.Case("car", catalog.CAR, 48, 32, 2, seed=17, guidance=2.25, length=32, embeds=True)
PARTS = ("text_encoder", "text_encoder_2", "transformer", "vae")
HALVES = {"Q2_K": ((80, 1), (82, 1.5)), "Q3_K": ((108, 1),), "Q4_K": ((0, 1), (2, 7.5)), "Q5_K": ((0, 1), (2, 15.5)), "Q6_K": ((208, 1),), "IQ4_XS": ((0, 1),),
          "IQ4_NL": ((0, 1),)}  # where f16 scales lie, and how large they are to the first


def fnv(x):
    """-0 counts as 0: bitsandbytes' kernels make -0 of fp4's code 8, its code table and other kernels 0."""
    h = 0xCBF29CE484222325
    for byte in (x.detach().float() + 0.0).contiguous().numpy().tobytes():
        h = ((h ^ byte) * 0x100000001B3) & (2 ** 64 - 1)
    return torch.tensor([h - 2 ** 64 if h >> 63 else h], dtype=torch.int64)


def states(pipe):
    out = {p: {k: v.detach().clone() for k, v in getattr(pipe, p).state_dict().items() if not k.endswith("position_ids")} for p in PARTS}
    out["text_encoder_2"].pop("encoder.embed_tokens.weight", None)
    return out


def is_matrix(name, x):
    return x.ndim == 2 and "norm_q" not in name and "norm_k" not in name


# ---- bytes in a form, and the values they stand for ----

def in_fp8(x, dtype=torch.float8_e4m3fn, scaled=True):
    scale = x.abs().max() / 448 if scaled else torch.tensor(1.0)
    q = (x / scale).to(dtype)
    return q, scale, q.float() * scale


def in_int8(x, rows):
    scale = (x.abs().amax(1, keepdim=True) if rows else x.abs().max()) / 127
    q = (x / scale).round().to(torch.int8)
    return q, scale, q.float() * scale


def random_blocks(name, x, random):
    """Types that the gguf package cannot write: random blocks whose values spread as x's do."""
    elements, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    blocks = random.integers(0, 256, (x.numel() // elements, size), dtype=numpy.uint8)

    def with_scale(d):
        for at, factor in HALVES[name]:
            blocks[:, at:at + 2] = numpy.full((len(blocks), 1), d * factor, dtype=numpy.float16).view(numpy.uint8)
        return gguf.quants.dequantize(blocks, GGMLQuantizationType[name])

    with_scale(0.001 * float(x.std()) / float(with_scale(0.001).std()))
    return blocks.reshape(x.shape[0], -1)


def in_gguf(name, x, random):
    """Bytes [rows, …] and the values."""
    kind = GGMLQuantizationType[name]
    if name in ("F32", "F16", "BF16"):
        value = x.to(tiny.DTYPES[name])
        raw = value.contiguous().view(torch.uint8).numpy() if name == "BF16" else value.numpy()
        return raw, value.float()
    packed = random_blocks(name, x, random) if name in HALVES else gguf.quants.quantize(x.numpy(), kind)
    return packed, torch.from_numpy(gguf.quants.dequantize(packed, kind).reshape(tuple(x.shape)).copy())


# ---- forms: each fills tests/data/files/<form> and changes `s` to the values that it holds ----

def save(form, name, tensors, metadata=None):
    path = os.path.join(FILES, form, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata=metadata)
    os.chmod(path, 0o644)


def half(t):
    return {k: v.half() for k, v in t.items()}


def make_bfl(s):
    save("bfl", "flux1.safetensors", {k: v.bfloat16() for k, v in other_names.transformer_to_bfl(s["transformer"]).items()})
    save("bfl", "ae.safetensors", other_names.vae_to_bfl(s["vae"]))
    save("bfl", "clip_l.safetensors", {**half(s["text_encoder"]), "logit_scale": torch.tensor(4.6), "text_projection.weight": torch.zeros(3, 3)})
    t5 = half(s["text_encoder_2"])
    save("bfl", "t5xxl.safetensors", {**t5, "encoder.embed_tokens.weight": t5["shared.weight"].clone()})


def from_bfl(bfl, like):
    """Values under BFL's names, taken apart again: the map is linear, so it can be undone by numbering."""
    numbers, at = {}, 0
    for name, x in like.items():
        numbers[name] = torch.arange(at, at + x.numel()).reshape(x.shape)
        at += x.numel()
    flat = torch.empty(at)
    for name, index in other_names.transformer_to_bfl(numbers).items():
        flat[index.flatten()] = bfl[name].flatten()
    return {name: flat[index] for name, index in numbers.items()}


def make_comfy(s):
    out, values = {"model.diffusion_model.scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}, {}
    for name, x in other_names.transformer_to_bfl(s["transformer"]).items():
        out["model.diffusion_model." + name] = x.bfloat16()
        values[name] = x.bfloat16().float()
        if x.ndim == 2:
            layer = "model.diffusion_model." + name.removesuffix(".weight")
            out[layer + ".weight"], out[layer + ".scale_weight"], values[name] = in_fp8(x)
            out[layer + ".scale_input"] = torch.tensor(1.0)
    s["transformer"] = from_bfl(values, s["transformer"])
    for name, x in s["text_encoder_2"].items():
        q, _, s["text_encoder_2"][name] = in_fp8(x, torch.float8_e5m2, scaled=False)
        out["text_encoders.t5xxl.transformer." + name] = q
    out.update({"text_encoders.clip_l.transformer." + k: v for k, v in half(s["text_encoder"]).items()})
    out.update({"text_encoders.clip_l.transformer.text_projection.weight": torch.zeros(2, 2), "text_encoders.clip_l.logit_scale": torch.tensor(4.6),
                "text_encoders.t5xxl.logit_scale": torch.tensor(4.6)})
    out.update({"vae." + k: v for k, v in other_names.vae_to_bfl(s["vae"]).items()})
    save("comfy", "flux1-fp8.safetensors", out)


def make_scaled(s):
    out, values, layers = {}, {}, {}
    for i, (name, x) in enumerate(other_names.transformer_to_bfl(s["transformer"], ".weight").items()):
        layer = "model.diffusion_model." + name.removesuffix(".weight")
        out["model.diffusion_model." + name] = x
        values[name.replace("_norm.weight", "_norm.scale")] = x
        if x.ndim != 2:
            continue
        q, scale, value = (in_fp8(x), in_int8(x, False), in_int8(x, True), (x.bfloat16(), None, x.bfloat16().float()))[i % 4]
        out[layer + ".weight"], values[name] = q, value
        if scale is None:
            continue
        note = {"format": "float8_e4m3fn" if q.dtype == torch.float8_e4m3fn else "int8_tensorwise"}
        out[layer + ".weight_scale"] = scale
        if i % 2:
            out[layer + ".comfy_quant"] = torch.tensor(list(json.dumps(note).encode()), dtype=torch.uint8)
        else:
            layers[layer] = note
    s["transformer"] = from_bfl(values, s["transformer"])
    save("scaled", "flux1.safetensors", out, {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})})


def write_gguf(path, architecture, tensors, kind_of, random):
    """Returns the values."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    writer, values = gguf.GGUFWriter(path, architecture), {}
    writer.add_quantization_version(2)
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc", ""])
    for i, (name, x) in enumerate(tensors.items()):
        kind = kind_of(i, name, x)
        data, values[name] = in_gguf(kind, x, random)
        writer.add_tensor(name, data, raw_dtype=GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.chmod(path, 0o644)
    return values


SMALL = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "BF16", "F16")
LARGE = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS")


def kind_of(i, name, x):
    """city96: 1-D tensors stay F32 (now and then BF16)."""
    if x.ndim < 2:
        return "F32" if i % 5 else "BF16"
    kinds = LARGE if x.shape[1] % 256 == 0 else SMALL if x.shape[1] % 32 == 0 else ("F16", "F32")
    return kinds[i % len(kinds)]


def make_gguf(s):
    random = numpy.random.default_rng(5)
    folder = os.path.join(FILES, "gguf")
    bfl = write_gguf(os.path.join(folder, "flux1.gguf"), "flux", other_names.transformer_to_bfl(s["transformer"]), kind_of, random)
    s["transformer"] = from_bfl(bfl, s["transformer"])
    for part, file, rename in (("text_encoder_2", "t5.gguf", other_names.t5_to_gguf), ("text_encoder", "clip.gguf", other_names.clip_to_gguf)):
        values = write_gguf(os.path.join(folder, file), "t5encoder" if "t5" in file else "clip", rename(s[part]), kind_of, random)
        s[part] = dict(zip(s[part], (values[theirs] for theirs in rename(s[part]))))


def copy_config(part, **quantization):
    with open(os.path.join(PIPELINE, part, "config.json"), encoding="utf-8") as f:
        tiny.write_json(os.path.join(FILES, "bnb", part, "config.json"), {**json.load(f), "quantization_config": {"quant_method": "bitsandbytes", **quantization}})


def make_bnb(s):
    out = {}
    for i, (name, x) in enumerate(s["transformer"].items()):
        if not is_matrix(name, x):
            out[name] = x.bfloat16()
            s["transformer"][name] = out[name].float()
            continue
        packed, state = bnb.quantize_4bit(x.bfloat16(), blocksize=64, compress_statistics=i % 3 > 0, quant_type="nf4" if i % 4 else "fp4")
        out[name] = packed
        out.update({f"{name}.{k}": v for k, v in state.as_dict(packed=True).items()})
        s["transformer"][name] = bnb.dequantize_4bit(packed, state).float()
    save("bnb/transformer", "diffusion_pytorch_model.safetensors", out)
    copy_config("transformer", load_in_4bit=True)
    out = {}
    for name, x in s["text_encoder_2"].items():
        if x.ndim == 2 and "SelfAttention.relative" not in name and name != "shared.weight":
            q, stats, _ = bnb.int8_vectorwise_quant(x.half())
            layer = name.removesuffix(".weight")
            out.update({name: q, layer + ".SCB": stats, layer + ".weight_format": torch.tensor(0, dtype=torch.uint8)})
            s["text_encoder_2"][name] = bnb.int8_vectorwise_dequant(q, stats)
        else:
            out[name] = x.half()
    save("bnb/text_encoder_2", "model.safetensors", out)
    copy_config("text_encoder_2", load_in_8bit=True)


def main():
    shutil.rmtree(FILES, ignore_errors=True)
    tiny.build(SPEC, PIPELINE)
    pipe = record.load(PIPELINE)
    base = states(pipe)
    other_names.check(base["transformer"], base["vae"], dict.fromkeys(("down_block_types", "up_block_types"), SPEC.vae["block_out_channels"]))
    for form, make in (("bfl", make_bfl), ("comfy", make_comfy), ("scaled", make_scaled), ("gguf", make_gguf), ("bnb", make_bnb)):
        s = {p: {k: v.float().clone() for k, v in base[p].items()} for p in PARTS}
        make(s)
        for part in PARTS:
            missing, unexpected = getattr(pipe, part).load_state_dict(s[part], strict=False)
            assert not unexpected and all("position_ids" in m or "embed_tokens" in m for m in missing), (form, part, missing, unexpected)
        record.save(os.path.join(GOLDENS, form + ".safetensors"), record.run(pipe, CASE), CASE)
        digests = {f"{part}/{name}": fnv(x) for part in PARTS for name, x in s[part].items()}
        record.save(os.path.join(GOLDENS, form + ".digests.safetensors"), digests)


if __name__ == "__main__":
    main()
