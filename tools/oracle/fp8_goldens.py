"""Records what the transformers give when their blocks' products are torch's float8_e4m3fn.

usage: fp8_goldens.py [NAME …]      names of pipelines or mini models; without any: all

tests/data/goldens/fp8/<name>.safetensors. Inputs are the `stages` golden's; of the mini models the noise and text of one case, over all its steps.
"""
import environment
import copy
import os
import sys

import catalog
import record
import torch
from safetensors.torch import load_file

GOLDENS = os.path.join(environment.TEST_DATA, "goldens")
MODELS = os.path.normpath(os.path.join(environment.TEST_DATA, "../../models"))


def e4m3(x):
    """Rows divided by largest magnitude / 448 and rounded by torch; the scales."""
    scale = x.float().abs().amax(-1, keepdim=True).clamp_min(1e-12) / 448
    return (x.float() * (1 / scale)).to(torch.float8_e4m3fn).float(), scale


class Fp8Linear(torch.nn.Module):
    """A linear layer as torch._scaled_mm makes it with a scale a row of both operands: sums in fp32, then scales and bias, then the input's dtype."""

    def __init__(self, linear):
        super().__init__()
        self.weight, self.scale = e4m3(linear.weight.detach())
        self.bias = linear.bias.detach()

    def forward(self, x):
        q, scale = e4m3(x)
        return (q @ self.weight.T * scale * self.scale.T + self.bias.float()).to(x.dtype)


def in_fp8(dit):
    """A copy whose blocks' linear layers are Fp8Linear, all but the modulations."""
    dit = copy.deepcopy(dit)
    for block in (*dit.transformer_blocks, *dit.single_transformer_blocks):
        for name, layer in list(block.named_modules()):
            if isinstance(layer, torch.nn.Linear) and not name.startswith("norm"):
                owner, _, last = name.rpartition(".")
                setattr(block.get_submodule(owner), last, Fp8Linear(layer))
    return dit


def errors_of(name, plain, half, truth):
    return {name: plain, f"fp8_error.{name}": torch.tensor([record.relative_l2(plain, truth)]), f"fp8_bf16_error.{name}": torch.tensor([record.relative_l2(half, truth)])}


def stage_inputs(spec):
    """Of a pipeline's `stages`: what its transformer is given, the picture's ids, and the velocity that it gives."""
    golden = load_file(os.path.join(GOLDENS, spec.name, "stages.safetensors"))
    inputs = {k.removeprefix("dit.input."): v for k, v in golden.items() if k.startswith("dit.input.")}
    scale = 2 * 2 ** (len(spec.vae["block_out_channels"]) - 1)
    height, width = int(golden["height"]) // scale, int(golden["width"]) // scale
    ids = torch.zeros(height, width, 3)
    ids[..., 1] += torch.arange(height)[:, None]
    ids[..., 2] += torch.arange(width)[None, :]
    return inputs, ids.reshape(-1, 3), golden["dit.velocity"]


def velocities(spec):
    """fp8 in fp32 and in bf16 against fp32, on the inputs of a pipeline's `stages`."""
    dit = record.load(os.path.join(environment.TEST_DATA, "pipelines", spec.name)).transformer
    inputs, ids, truth = stage_inputs(spec)
    runs = [record.velocity(in_fp8(dit.to(dtype)), inputs, ids, dtype) for dtype in (torch.float32, torch.bfloat16)]
    return errors_of("dit.velocity", *runs, truth)


def steps(name):
    """The last latents of a mini model's first case that has noise."""
    case = next(c for c in catalog.MINI[name] if c.bf16)
    pipe = record.load(os.path.join(MODELS, name))
    out, last = record.run(pipe, case), f"latents.{case.steps}"
    runs = []
    for p in (pipe, record.in_bf16(pipe)):
        dtype = p.transformer.dtype
        p.transformer = in_fp8(p.transformer)
        runs.append(record.generate(p, prompt_embeds=out["prompt_embeds"].to(dtype), pooled_prompt_embeds=out["pooled_prompt_embeds"].to(dtype),
                                    latents=out["noise"].to(dtype), **record.call_arguments(case))[last])
    return errors_of(last, *runs, out[last]), case


def main():
    wanted = lambda name: len(sys.argv) < 2 or name in sys.argv[1:]
    for spec in [spec for spec, _, _ in catalog.pipelines() if wanted(spec.name)]:
        write(spec.name, velocities(spec), None)
    for name in filter(wanted, catalog.MINI):
        write(name, *steps(name))


def write(name, tensors, case):
    record.save(os.path.join(GOLDENS, "fp8", name + ".safetensors"), tensors, case)
    print(name, *(f"{k} {v.item():.3e}" for k, v in tensors.items() if v.numel() == 1))


if __name__ == "__main__":
    main()
