"""Records what the gguf package, torch and bitsandbytes make of stored weights, for every storage type that flux1 decodes.

usage: type_goldens.py

tests/data/goldens/types.safetensors: `<type>.stored` (bytes) and `<type>.decoded` (fp32; every NaN the same). Blocks are random ones with scales of every
size, and extreme ones: all bits 0, all bits 1, NaN, infinite, largest and subnormal scales. The 8-bit floats are all 256 codes.
`nf4.…`, `fp4.…`, `int8.…`: tensors as bitsandbytes saves them, and `….decoded`.
"""
import environment
import os

import bitsandbytes.functional as bnb
import gguf
import numpy
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from safetensors.torch import save_file

TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]
HALVES = {"Q4_1": [0, 2], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}  # where f16 scales lie; others: 0
EXTREME = [0x0000, 0x8000, 0x0001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E01, 0xFE00, 0x3C00]


def blocks_of(name, random):
    """Random bytes behind random scales, then constant ones behind extreme scales."""
    elements, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    count = max(2, 512 // elements)
    usual = random.integers(0, 256, (count, size), dtype=numpy.uint8)
    extreme = random.integers(0, 256, (len(EXTREME) if elements == 32 else len(EXTREME) // 2, size), dtype=numpy.uint8)
    extreme[0], extreme[1] = 0, 255
    for at in HALVES.get(name, [0]):
        scales = (random.standard_normal(count) * 10.0 ** random.integers(-3, 2, count)).astype(numpy.float16)
        usual[:, at : at + 2] = scales.view(numpy.uint8).reshape(count, 2)
        chosen = random.permutation(numpy.array(EXTREME, dtype=numpy.uint16))[: len(extreme)]
        extreme[:, at : at + 2] = chosen.view(numpy.uint8).reshape(len(extreme), 2)
    return numpy.concatenate([usual, extreme])


def plain(x):
    """fp32 whose NaNs are one NaN."""
    x = torch.as_tensor(x, dtype=torch.float32).contiguous()
    return torch.where(torch.isnan(x), torch.tensor(float("nan")), x).flatten()


def bitsandbytes_goldens(out):
    generator = torch.Generator().manual_seed(4)
    for kind, nested, dtype, shape in (("nf4", True, torch.bfloat16, (6, 48)), ("nf4", False, torch.float32, (5, 20)), ("fp4", True, torch.float16, (300, 64))):
        w = torch.randn(shape, generator=generator).to(dtype)
        packed, state = bnb.quantize_4bit(w, blocksize=64, compress_statistics=nested, quant_type=kind)
        name = f"{kind}.{'nested' if nested else 'flat'}"
        out[f"{name}.weight"] = packed
        for key, value in state.as_dict(packed=True).items():
            out[f"{name}.weight.{key}"] = value
        out[f"{name}.decoded"] = bnb.dequantize_4bit(packed, state).float()
    w = torch.randn(7, 24, generator=generator)
    stored, scales, _ = bnb.int8_vectorwise_quant(w.to(torch.float16))
    out["int8.weight"], out["int8.SCB"], out["int8.weight_format"] = stored, scales, torch.tensor(0, dtype=torch.uint8)
    out["int8.decoded"] = bnb.int8_vectorwise_dequant(stored, scales)


def main():
    random = numpy.random.default_rng(12)
    out = {}
    with numpy.errstate(all="ignore"):
        for name in TYPES:
            blocks = blocks_of(name, random)
            out[f"{name}.stored"] = torch.from_numpy(blocks.flatten())
            out[f"{name}.decoded"] = plain(gguf.quants.dequantize(blocks, GGMLQuantizationType[name]))
    codes = torch.arange(256, dtype=torch.uint8)
    for name, dtype in (("F8_E4M3", torch.float8_e4m3fn), ("F8_E5M2", torch.float8_e5m2)):
        out[f"{name}.stored"], out[f"{name}.decoded"] = codes, plain(codes.view(dtype).float())
    bitsandbytes_goldens(out)
    versions = {p: __import__("importlib.metadata", fromlist=["version"]).version(p) for p in ("gguf", "torch", "bitsandbytes", "numpy")}
    save_file({k: v.clone() for k, v in out.items()}, os.path.join(environment.TEST_DATA, "goldens", "types.safetensors"), versions)


if __name__ == "__main__":
    main()
