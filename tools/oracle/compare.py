"""Compares a `flux1 generate --dump` file with the oracle, tensor by tensor; for any pipeline folder.

usage: compare.py MODEL DUMP --prompt TEXT --width W --height H --steps N [--guidance G] [--seed S] [--max-sequence-length L]
       [--negative-prompt TEXT --true-cfg-scale X] [--image out.png] [--bf16]

Prints the relative L2 error of every tensor and exits with 1 if one is over its bound (fp32's, from docs/architecture.md), missing or misshapen.
With --bf16 the bound is 1.5 times the error of torch's own bf16 run from the same noise.
"""
import environment
import argparse
import sys

import numpy as np
import record
import torch
from PIL import Image
from safetensors.torch import load_file

EXACT = ("clip.input_ids", "t5.input_ids", "negative.clip.input_ids", "negative.t5.input_ids", "sigmas")
NOISE_BOUND, STAGE_BOUND, LATENTS_BOUND = 1e-7, 1e-5, 3e-5


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("dump")
    parser.add_argument("--prompt", required=True)
    for name in ("width", "height", "steps"):
        parser.add_argument("--" + name, type=int, required=True)
    parser.add_argument("--guidance", type=float, default=3.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-sequence-length", type=int, default=512)
    parser.add_argument("--negative-prompt")
    parser.add_argument("--true-cfg-scale", type=float)
    parser.add_argument("--image", help="the PNG that flux1 wrote")
    parser.add_argument("--bf16", action="store_true", help="the dump comes from a run with --dtype bf16")
    return parser.parse_args()


def bounds(truth, pipe, case, bf16):
    """{tensor: largest relative L2 error}; decoded follows from the accumulated latents."""
    limit = {name: 0.0 if name in EXACT else LATENTS_BOUND if name.startswith("latents.") or name == "decoded" else STAGE_BOUND for name in truth}
    limit["noise"] = NOISE_BOUND
    if bf16:
        errors = record.bf16_errors(record.in_bf16(pipe), case, truth)
        for name in limit:
            error = errors.get("bf16_error.end_to_end." + name, errors.get("bf16_error." + name))
            limit[name] = limit[name] if error is None else 1.5 * error.item()
        limit["noise"] = 4e-3                              # noise may be stored after rounding to bf16
    return limit


def check(name, value, truth, limit):
    """Prints one line; true when the tensor is within its bound."""
    if value is None or value.shape != truth.shape:
        print(f"{name:24} {'missing' if value is None else f'shape {list(value.shape)}, the oracle has {list(truth.shape)}'}")
        return False
    error = record.relative_l2(value, truth)
    good = error <= limit                                  # false for NaN
    print(f"{name:24} {error:.3e}  bound {limit:.1e}  {'ok' if good else 'TOO FAR'}")
    return good


def check_image(path, truth, bf16):
    picture = torch.from_numpy(np.array(Image.open(path).convert("RGB")))
    if picture.shape != truth.shape:
        print(f"image: {list(picture.shape)}, the oracle has {list(truth.shape)}")
        return False
    difference = (picture.int() - truth.int()).abs()
    print(f"image: largest difference {difference.max().item()}/255, {(difference > 0).float().mean().item():.2%} of the values differ")
    return bf16 or difference.max().item() <= 1


def main():
    o = parse()
    case = record.Case("", o.prompt, o.width, o.height, o.steps, o.seed, o.guidance, o.max_sequence_length, negative=o.negative_prompt, scale=o.true_cfg_scale)
    pipe, dump = record.load(o.model), load_file(o.dump)
    truth = record.run(pipe, case)
    image = truth.pop("image")
    limit = bounds(truth, pipe, case, o.bf16)
    good = [check(name, dump.get(name), truth[name], limit[name]) for name in sorted(truth)]
    if o.image:
        good.append(check_image(o.image, image, o.bf16))
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
