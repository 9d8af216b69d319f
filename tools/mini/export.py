"""Writes models/mini-schnell and models/mini-dev as diffusers folders in bf16; dev's encoders, tokenizers and VAE are relative links into schnell's."""
import json
import shutil

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

from models import tokenizers
from words import everything

SHARED = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "vae")


def schedulers():
    """As FLUX.1's own: schnell unshifted, dev shifted by the number of image tokens."""
    return dict(schnell=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0, use_dynamic_shifting=False),
                dev=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096))


def write(ctx, models, vae, text, students):
    """models: the folder to write into; students: {"schnell": transformer, "dev": transformer}."""
    scale = json.loads(ctx.path("latents.json").read_text())
    vae.register_to_config(scaling_factor=round(1 / scale["std"], 6), shift_factor=scale["shift"])
    clip_tokenizer, t5_tokenizer = tokenizers(ctx.work)
    for kind, scheduler in schedulers().items():
        out = models / f"mini-{kind}"
        shutil.rmtree(out, ignore_errors=True)
        p = FluxPipeline(scheduler=scheduler, vae=vae, text_encoder=text["clip"], tokenizer=clip_tokenizer, text_encoder_2=text["t5"], tokenizer_2=t5_tokenizer, transformer=students[kind])
        p.to(device="cpu", dtype=torch.bfloat16).save_pretrained(out)
        (out / "flux1.json").write_text(json.dumps({"sizes": {"min": 128, "max": 128, "multiple": 16}}) + "\n")
        (out / "tokenizer_2" / "tokenizer.json").unlink(missing_ok=True)
        for f in out.rglob("*"):
            if f.is_file():
                f.chmod(0o644)   # save_pretrained makes weights private
    for part in SHARED:
        shutil.rmtree(models / "mini-dev" / part)
        (models / "mini-dev" / part).symlink_to(f"../mini-schnell/{part}")
    (models / "mini").mkdir(exist_ok=True)
    (models / "mini" / "README.md").write_text(card(ctx))


def card(ctx):
    words = everything()
    lines = [f"* **{kind}**: " + "; ".join(", ".join(forms) for forms in table.values()) for kind, table in words.items()]
    scores = ctx.path("scores.md")
    b = ctx.budget
    made = (f"Steps x batch: VAE {b['vae']['steps']} x {b['vae']['batch']}, text encoders {b['text']['steps']} x {b['text']['batch']}, flow {b['flow']['steps']} x {b['flow']['batch']}, "
            f"schnell {b['schnell']['steps']}, dev {b['dev']['steps']}. The flow continued from an earlier one of 5400 steps, and its recipe was changed on the way: tools/mini/README.md.")
    return f"""# Mini FLUX: what it is

A complete FLUX.1 pipeline (CLIP, T5, transformer, VAE) with about 7 million parameters, trained by `tools/mini` on
pictures that `tools/mini/data.py` paints. It is for demonstrations and tests, not for art.
`mini-schnell` needs 4 steps and takes no guidance; `mini-dev` needs 20 steps and follows `--guidance` from 1 to 7. Meant
for 128 x 128; training also covered sides of 96 to 192 pixels, in multiples of 16, but too little: many pictures of
those sizes lose their shapes, so `flux1.json` says 128.

## Words it knows

{chr(10).join(lines)}

One object, two objects with a relation, two to four of a kind, or one object at a place; the background is a scene or a
plain colour. Other words have arbitrary effects.

## Scores

{scores.read_text() if scores.exists() else "Not measured yet: `tools/mini/evaluate.py`."}

## How it was made

`python tools/mini/make.py --work W --budget cpu --vae-from VAE` on two CPU cores, the VAE starting from an earlier trial's. {made}

## Sources

The objects in the training pictures are Noto Emoji by Google (artwork Apache-2.0; font SIL OFL 1.1), as packaged in
Debian's `fonts-noto-color-emoji`; scenes and captions are made by this repository's own code. Neither the font nor its
pictures are shipped. The weights are under this repository's licence.
"""
