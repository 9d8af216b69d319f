"""Starts a new training from finished models: their tokenizers, VAE and latent scale as they are, text encoders and transformer as the flow's beginning."""
import json
import shutil

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from transformers import CLIPTextModel, T5EncoderModel

from common import log, save

START = "flow.start.pt"


def flow_of(dev):
    """The transformer of mini-dev at guidance 1, which is the flow as its student has learnt it: what the guidance embedder adds to every conditioning goes into a bias."""
    dit = FluxTransformer2DModel.from_pretrained(dev).float()
    embed = dit.time_text_embed
    with torch.no_grad():
        added = embed.guidance_embedder(embed.time_proj(torch.tensor([1000.0])))[0]
        embed.text_embedder.linear_2.bias += added
    return {k: p.detach() for k, p in dit.named_parameters() if "guidance_embedder" not in k}


def prepare(ctx, models):
    """Lays out the work folder as the stages before the flow would have left it; a folder that has begun stays as it is."""
    base = models / "mini-schnell"
    if ctx.path(START).exists() or ctx.path("flow.pt").exists():
        return
    for part in ("tokenizer", "tokenizer_2"):
        shutil.copytree(base / part, ctx.path(part), dirs_exist_ok=True)
    ctx.path("tokenizers.done").touch()
    vae = AutoencoderKL.from_pretrained(base / "vae").float()
    save({k: p.detach() for k, p in vae.named_parameters()}, ctx.path("vae.pt"))
    ctx.path("latents.json").write_text(json.dumps(dict(shift=vae.config.shift_factor, std=1 / vae.config.scaling_factor)))
    start = {"dit." + k: p for k, p in flow_of(models / "mini-dev" / "transformer").items()}
    for name, kind, folder in (("clip", CLIPTextModel, "text_encoder"), ("t5", T5EncoderModel, "text_encoder_2")):
        start.update({f"text.{name}.{k}": p.detach() for k, p in kind.from_pretrained(base / folder).float().named_parameters()})
    save(start, ctx.path(START))
    log("goes on from", models)
