"""What the gguf package and torch make of values that flux1 encodes, and pictures from converted parts of the pipeline `packed`.

usage: convert_goldens.py

tests/data/goldens/encode.safetensors: `values` (fp32, blocks of every size, zeros, equal values, ties) and `<type>.stored`, their bytes by the oracle's quantiser.
tests/data/goldens/files/q4_0.safetensors, fp8_scaled.safetensors: a picture from the dequantised values that `flux1 convert --type …` should give (record.py, cases).
"""
import environment
import os

import file_goldens
import gguf
import numpy
import other_names
import record
import torch
from gguf.constants import GGMLQuantizationType
from safetensors.torch import save_file

BLOCKS = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
EMBEDDERS = ("img_in.", "txt_in.", "time_in.", "vector_in.", "guidance_in.", "final_layer.")


def values():
    random = numpy.random.default_rng(11)
    x = random.standard_normal((24, 256)) * 10.0 ** random.integers(-5, 2, (24, 1))
    x[0, :32], x[0, 32:64], x[0, 64:96], x[0, 96:128] = 0.0, -0.0, 1.0, -3.0
    x[0, 128:144], x[0, 144:160] = 2.0, -2.0  # the largest magnitude with both signs
    x[0, 160:192], x[0, 192:224] = 1e-30, 3e-8
    x[1] = numpy.round(x[1] / abs(x[1]).max() * 32) / 4  # ties
    x[2] = abs(x[2])
    x[3] = -abs(x[3])
    return numpy.clip(x, -440, 440).astype(numpy.float32)


def encode_goldens():
    x = values()
    out = {"values": torch.from_numpy(x)}
    with numpy.errstate(all="ignore"):
        for name in BLOCKS:
            out[f"{name}.stored"] = torch.from_numpy(gguf.quants.quantize(x, GGMLQuantizationType[name]).copy())
    for name, dtype in FLOATS.items():
        out[f"{name}.stored"] = torch.from_numpy(x).to(dtype).view(torch.uint8)
    save_file(out, os.path.join(environment.TEST_DATA, "goldens", "encode.safetensors"))


def in_q4_0(x):
    if x.shape[1] % 32:
        return x
    packed = gguf.quants.quantize(x.numpy(), GGMLQuantizationType.Q4_0)
    return torch.from_numpy(gguf.quants.dequantize(packed, GGMLQuantizationType.Q4_0).reshape(tuple(x.shape)).copy())


def in_scaled_fp8(x):
    return file_goldens.in_fp8(x)[2]


def changed(tensors, encode, kept):
    """Matrices of more than 1024 elements, but those that are kept."""
    return {k: encode(x) if x.ndim == 2 and x.numel() > 1024 and not kept(k) else x for k, x in tensors.items()}


def convert(s, encode):
    bfl = changed(other_names.transformer_to_bfl(s["transformer"]), encode, lambda k: k.startswith(EMBEDDERS))
    s["transformer"] = file_goldens.from_bfl(bfl, s["transformer"])
    s["text_encoder_2"] = changed(s["text_encoder_2"], encode, lambda k: k.startswith("shared") or "relative_attention_bias" in k)
    s["text_encoder"] = changed(s["text_encoder"], encode, lambda k: "_embedding" in k)


def main():
    encode_goldens()
    pipe = record.load(file_goldens.PIPELINE)
    base = file_goldens.states(pipe)
    for form, encode in (("q4_0", in_q4_0), ("fp8_scaled", in_scaled_fp8)):
        s = {p: {k: v.float().clone() for k, v in base[p].items()} for p in file_goldens.PARTS}
        convert(s, encode)
        for part in file_goldens.PARTS:
            getattr(pipe, part).load_state_dict(s[part], strict=False)
        record.save(os.path.join(file_goldens.GOLDENS, form + ".safetensors"), record.run(pipe, file_goldens.CASE), file_goldens.CASE)


if __name__ == "__main__":
    main()
