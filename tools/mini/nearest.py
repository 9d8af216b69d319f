"""A judge that needs no training: which render comes nearest to a picture (`nearest.py --work W`, a few minutes; numpy and Pillow).

A description fixes its render but for a scene's variants. Of a picture's asked description the nearest variant is taken, by squared distance of pixels; then one
thing at a time is replaced by each of its alternatives: an object by the other objects, its tint by the other tints and none, the background by the others.
A thing is right when what was asked for comes nearest. The pictures are flux1's, of prompts with a held-out pair, one seed each, with the options of each row."""
import argparse
import json
import random
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

import data

ROWS = ("object", "tint", "background")
SETTINGS = {
    "schnell": (4, ("", "--dtype int8", "--round-weights bfp8")),
    "dev": (20, ("", "--dtype int8", "--round-weights bfp8", "--step-cache fb:0.08", "--step-cache fb:0.12", "--step-cache fb:0.2")),
}


def pictures(flux1, model, prompts, folder, threads, options):
    """[n, h, w, 3]; one process makes all of them. Finished ones are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{i:04d}.png" for i in range(len(prompts))]
    lines = [json.dumps(dict(prompt=p[1], seed=i, output=n)) for i, (p, n) in enumerate(zip(prompts, names)) if not (folder / n).exists()]
    command = [flux1, "generate", "--model", str(model), "--jsonl", "--quiet", "--output-dir", str(folder), "--threads", str(threads), *options]
    if lines:
        subprocess.run(command, input="\n".join(lines) + "\n", text=True, stdout=subprocess.DEVNULL, check=True)
    return np.stack([np.asarray(Image.open(folder / n).convert("RGB")) for n in names])


def nearest(images, s, variants):
    """For each of `images` (of description s, by different settings) the alternative that comes nearest: [(row, asked, [found for each image])]."""
    sets = [list(range(variants))] * len(images)

    def distances(candidates):
        """[images, candidates]: each candidate in the variant of that image."""
        out = np.empty((len(images), len(candidates)))
        for j, c in enumerate(candidates):
            renders = {v: data.render(c, Variant(v)).astype(np.float32) for v in {k[0] for k in sets}}
            out[:, j] = [((im - renders[k[0]]) ** 2).mean() for im, k in zip(images, sets)]
        return out

    best = np.stack([[((im - data.render(s, Variant(v)).astype(np.float32)) ** 2).mean() for v in range(variants)] for im in images]).argmin(1)
    sets = [[int(v)] for v in best]
    found = []
    for i, (name, tint) in enumerate(s["objects"]):
        def with_object(pair, i=i):
            return dict(s, objects=[pair if k == i else o for k, o in enumerate(s["objects"])])
        found.append(("object", name, [data.NAMES[k] for k in distances([with_object((n, tint)) for n in data.NAMES]).argmin(1)]))
        if tint:
            tints = [None, *data.TINTS]
            found.append(("tint", tint, [tints[k] for k in distances([with_object((name, t)) for t in tints]).argmin(1)]))
    if s["background"] != data.PASTEL:
        found.append(("background", s["background"], [data.BACKGROUNDS[k] for k in distances([dict(s, background=b) for b in data.BACKGROUNDS]).argmin(1)]))
    return found


class Variant:
    """In place of a random.Random: the scene's variant is this one."""

    def __init__(self, variant):
        self.variant = variant

    def randrange(self, n):
        return self.variant % n


def table(names, answers):
    """answers: [(row, asked, [found for each name])]. The second figure: answers that differ from the first setting's."""
    lines = ["| | " + " | ".join(ROWS) + " |", "|---|" + "---|" * len(ROWS)]
    for i, name in enumerate(names):
        cells = []
        for row in ROWS:
            of = [a for a in answers if a[0] == row]
            cells.append(f"{100 * sum(a[1] == a[2][i] for a in of) / max(1, len(of)):.1f} ({sum(a[2][i] != a[2][0] for a in of)} of {len(of)})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    here = Path(__file__).resolve().parents[2]
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    a.add_argument("--work", type=Path, required=True, help="folder of the pictures, outside the repository")
    a.add_argument("--models", type=Path, default=here / "models")
    a.add_argument("--flux1", default=str(here / "build" / "flux1"))
    a.add_argument("--threads", type=int, default=1)
    a.add_argument("-n", type=int, default=100, help="prompts")
    a.add_argument("--kinds", default="schnell,dev", help="which of the models")
    a = a.parse_args()
    prompts = data.held_prompts(a.n)
    real = np.stack([data.render(s, random.Random(seed)) for s, _, seed in prompts])
    for kind in a.kinds.split(","):
        steps, settings = SETTINGS[kind]
        sets = [pictures(a.flux1, a.models / f"mini-{kind}", prompts, a.work / (kind + "".join(c if c.isalnum() else "-" for c in o)), a.threads,
                         ["--dtype", "f32", *f"--steps {steps} {o}".split()] if "--dtype" not in o else f"--steps {steps} {o}".split()) for o in settings]
        answers = [x for i, (s, _, _) in enumerate(prompts) for x in nearest([p[i].astype(np.float32) for p in [*sets, real]], s, data.VARIANTS)]
        print(table([f"{kind}, {steps} steps, {o or 'f32'}" for o in settings] + ["renders (ceiling)"], answers), flush=True)


if __name__ == "__main__":
    main()
