"""From nothing to the committed folders: `python make.py --work ~/mini --budget cpu`. Run it again after any interruption: finished stages are skipped, the one
under way goes on from its checkpoint. `--smoke` runs every stage for a few steps, to see that all of it works; its models draw nothing."""
import argparse
import sys
import time
from pathlib import Path

import torch

import classifier
import data
import distill
import evaluate
import export
import flow
import quick
import resume
import text
import vae
import vocab
from common import Context, OutOfTime, log

BUDGETS = {   # steps x batch; "pictures" of 128 x 128 are encoded once and drawn from, other sizes add 28 %
    "cpu": dict(corpus=60000, judge=dict(steps=1600, batch=48), vae=dict(steps=2800, batch=16), pictures=26000, text=dict(steps=1200, batch=128, captions=120000),
                flow=dict(steps=10350, batch=32), schnell=dict(steps=450, batch=32), dev=dict(steps=640, batch=32), prompts=340),
    "gpu": dict(corpus=60000, judge=dict(steps=3000, batch=128), vae=dict(steps=8000, batch=64), pictures=200000, text=dict(steps=3000, batch=256, captions=300000),
                flow=dict(steps=24000, batch=256), schnell=dict(steps=3000, batch=256), dev=dict(steps=3000, batch=256), prompts=340),
    "smoke": dict(corpus=4000, judge=dict(steps=4, batch=8), vae=dict(steps=4, batch=4), pictures=24, text=dict(steps=4, batch=16, captions=200),
                  flow=dict(steps=4, batch=4), schnell=dict(steps=3, batch=4), dev=dict(steps=3, batch=4), prompts=10),
}
STAGES = ("tokenizers", "judge", "vae", "latents", "text", "flow", "schnell", "dev", "export", "evaluate")


def run(ctx, a):
    def wanted(stage):
        on = STAGES.index(stage) <= STAGES.index(a.until)
        if on:
            log("==", stage)
        return on

    data.check_held_out()
    if wanted("tokenizers"):
        vocab.make(ctx)
    judge = classifier.train(ctx) if wanted("judge") else None
    autoencoder = vae.train(ctx, a.vae_from) if wanted("vae") else None
    if wanted("latents"):
        vae.latents(ctx, autoencoder)
    if wanted("text") and not ctx.path(resume.START).exists():
        text.train(ctx)
    model = flow.train(ctx) if wanted("flow") else None
    students = {kind: distill.train(ctx, kind, model) for kind in ("schnell", "dev") if wanted(kind)}
    if wanted("export"):
        export.write(ctx, a.models, autoencoder, model["text"], students)
    if wanted("evaluate"):
        evaluate.run(ctx, a.models, a.flux1, ctx.budget["prompts"], judge)
        (a.models / "mini" / "README.md").write_text(export.card(ctx))


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    evaluate.arguments(p)
    p.add_argument("--budget", choices=("cpu", "gpu"), help="default: by the device")
    p.add_argument("--smoke", action="store_true", help="a few steps of every stage; models go to the work folder")
    p.add_argument("--until", choices=STAGES, default=STAGES[-1], help="stop after this stage")
    p.add_argument("--stop-after", type=float, metavar="SECONDS", help="save and stop by then, to go on in another run (exit status 75)")
    p.add_argument("--vae-from", type=Path, metavar="DIR", help="a vae folder of the same shape to start the VAE from")
    p.add_argument("--go-on", type=Path, metavar="DIR", help="start from the finished models of DIR (the repository's models/), beginning with the flow")
    a = p.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    if a.device == "cpu":
        quick.install()
    name = "smoke" if a.smoke else a.budget or ("gpu" if a.device == "cuda" else "cpu")
    if a.smoke:
        a.models, a.workers = a.work / "models", min(a.workers, 1)
    a.work.mkdir(parents=True, exist_ok=True)
    a.models.mkdir(parents=True, exist_ok=True)
    began = time.time()
    ctx = Context(a.work, BUDGETS[name], torch.device(a.device), a.workers, began + a.stop_after if a.stop_after else float("inf"))
    used = a.work / "budget.txt"
    if used.exists() and used.read_text() != name:
        sys.exit(f"{a.work} holds a run of budget {used.read_text()}: give --budget {used.read_text()} or another --work.")
    used.write_text(name)
    if a.go_on:
        resume.prepare(ctx, a.go_on)
    try:
        run(ctx, a)
    except OutOfTime as stage:
        log(f"stopped in stage {stage} after {time.time() - began:.0f} s; the same command goes on from here")
        sys.exit(75)
    log(f"done in {time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
