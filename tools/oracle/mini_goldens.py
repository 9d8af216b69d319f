"""Records the goldens of the mini models, and checks that diffusers opens their folders as they are.

usage: mini_goldens.py [--models DIR] [--out DIR] [--check]      --check: open the folders, write nothing

<out>/<model>/<case>.safetensors for the cases of catalog.MINI, all in less than LIMIT bytes. Files of cases that are no more go away.
"""
import environment
import argparse
import glob
import os
import sys

import catalog
import record
from diffusers import FluxPipeline
from safetensors.torch import load_file

LIMIT = 1_500_000
REPOSITORY = os.path.normpath(os.path.join(environment.TEST_DATA, "../.."))
PARTS = ("text_encoder", "text_encoder_2", "transformer", "vae")


def stored(folder, part):
    """All tensors of a part's files."""
    files = sorted(glob.glob(os.path.join(folder, part, "*.safetensors")))
    return {name: t for f in files for name, t in load_file(f).items()}


def differences(model, tensors):
    """What a from_pretrained without complaint may hide: weights of the file that the model lacks or changed, and weights of the model that no file gave."""
    state = model.state_dict()
    wrong = [name for name, t in tensors.items() if name not in state or not state[name].eq(t.to(state[name].dtype)).all()]
    given = {state[name].data_ptr() for name in tensors if name in state}
    return wrong + [name for name, t in state.items() if name not in tensors and t.data_ptr() not in given and not name.endswith("position_ids")]


def open_as_it_is(folder):
    """FluxPipeline.from_pretrained(folder) with nothing else said has all parts, and in them exactly the files' weights."""
    pipe = FluxPipeline.from_pretrained(folder)
    missing = [name for name in (*PARTS, "tokenizer", "tokenizer_2", "scheduler") if getattr(pipe, name) is None]
    if missing:
        sys.exit(f"{folder}: FluxPipeline.from_pretrained leaves out {', '.join(missing)}; model_index.json must name them")
    for part in PARTS:
        wrong = differences(getattr(pipe, part), stored(folder, part))
        if wrong:
            sys.exit(f"{folder}/{part}: {len(wrong)} weights differ between file and opened model, {wrong[0]} first; export it again")
    print(f"{folder}: FluxPipeline opens it, {sum(p.numel() for part in PARTS for p in getattr(pipe, part).parameters()):,} weights")


def chosen(case, out, errors):
    """Ids, the pooled vector, the last latents, the picture and the errors of torch's bf16; with `bf16` the noise that a bf16 run of the steps begins from."""
    last = f"latents.{case.steps}"
    names = ["clip.input_ids", "t5.input_ids", "pooled_prompt_embeds", "sigmas", last, "image"]
    names += ["noise"] * case.bf16 + ["prompt_embeds"] * case.embeds + ["decoded"] * case.decoded
    held = ("pooled_prompt_embeds", "prompt_embeds", last, "decoded", f"end_to_end.{last}", "end_to_end.decoded")
    return {**{n: out[n] for n in names}, **{f"bf16_error.{n}": errors[f"bf16_error.{n}"] for n in held}}


def make(folder, cases, out_folder):
    """Writes one model's files; returns their bytes."""
    pipe = record.load(folder)
    half = record.in_bf16(pipe)
    for old in glob.glob(os.path.join(out_folder, "*.safetensors")):
        os.remove(old)
    total = 0
    for case in cases:
        out = record.run(pipe, case)
        errors = record.bf16_errors(half, case, out)
        path = os.path.join(out_folder, case.name + ".safetensors")
        record.save(path, chosen(case, out, errors), case)
        total += os.path.getsize(path)
        print(f"{path}: {os.path.getsize(path):,} bytes; torch's bf16 latents off by {errors[f'bf16_error.latents.{case.steps}'].item():.1e}")
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=os.path.join(REPOSITORY, "models"))
    parser.add_argument("--out", default=os.path.join(environment.TEST_DATA, "goldens", "mini"))
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    folders = {name: os.path.join(options.models, name) for name in catalog.MINI}
    for folder in folders.values():
        if not os.path.isfile(os.path.join(folder, "model_index.json")):
            sys.exit(f"{folder}: no pipeline folder; --models names the folder that holds {' and '.join(folders)}")
        open_as_it_is(folder)
    if options.check:
        return
    total = sum(make(folder, catalog.MINI[name], os.path.join(options.out, name)) for name, folder in folders.items())
    print(f"{total:,} bytes in all")
    if total > LIMIT:
        sys.exit(f"{options.out}: {total:,} bytes are more than {LIMIT:,}; drop a case from catalog.MINI")


if __name__ == "__main__":
    main()
