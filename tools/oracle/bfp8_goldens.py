"""Records what pipelines give when the matrices of transformer and T5 have the values of Tenstorrent's bfp8 (`flux1 --round-weights bfp8`).

usage: bfp8_goldens.py [NAME …]      names of pipelines; without any: all

tests/data/goldens/bfp8/<name>.safetensors: `dit.velocity` on the inputs of the `stages` golden, `prompt_embeds` of a prompt, and for both how far they are
(relative L2) from the values without rounding. The rounding is written down again here; tile_goldens.py has the vendor's.
"""
import environment
import os
import sys

import catalog
import numpy
import record
import torch
from fp8_goldens import GOLDENS, stage_inputs

PROMPT, LENGTH = "three yellow ducks on a pond at night", 24
GROUP = 16  # outputs of one input that share an exponent


def bfp8(weight):
    """[outputs, inputs] with a sign and 7 bits at the group's largest exponent; ties to even, bits below a float's 24 behind that exponent dropped."""
    w = weight.detach().float().numpy().copy()
    for first in range(0, w.shape[0], GROUP):
        group = w[first : first + GROUP]
        _, exponent = numpy.frexp(numpy.abs(group).max(0))  # |x| < 2^exponent
        fine = numpy.trunc(numpy.ldexp(group.astype(numpy.float64), 24 - exponent))
        steps = numpy.clip(numpy.rint(fine / 2**17), -127, 127)  # rint: ties to even
        w[first : first + GROUP] = numpy.ldexp(steps, exponent - 7)
    return torch.from_numpy(w)


def rounded(model):
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.weight.data = bfp8(layer.weight).to(layer.weight.dtype)
    return model


def embeds(pipe):
    return pipe.encode_prompt(prompt=PROMPT, prompt_2=None, max_sequence_length=LENGTH)[0].float()


def with_errors(**pairs):
    out = {}
    for name, (got, truth) in pairs.items():
        name = name.replace("_velocity", ".velocity")
        out |= {name: got.contiguous(), f"error.{name}": torch.tensor([record.relative_l2(got, truth)])}
    return out


def record_pipeline(spec):
    pipe = record.load(os.path.join(environment.TEST_DATA, "pipelines", spec.name))
    for part in (pipe.text_encoder, pipe.text_encoder_2, pipe.transformer):
        part.float()
    inputs, ids, truth = stage_inputs(spec)
    plain = embeds(pipe)
    rounded(pipe.transformer)
    rounded(pipe.text_encoder_2)
    return with_errors(dit_velocity=(record.velocity(pipe.transformer, inputs, ids), truth), prompt_embeds=(embeds(pipe), plain))


def main():
    for spec in [spec for spec, _, _ in catalog.pipelines() if len(sys.argv) < 2 or spec.name in sys.argv[1:]]:
        tensors = record_pipeline(spec)
        record.save(os.path.join(GOLDENS, "bfp8", spec.name + ".safetensors"), tensors)
        print(spec.name, *(f"{k} {v.item():.3e}" for k, v in tensors.items() if v.numel() == 1))


if __name__ == "__main__":
    main()
