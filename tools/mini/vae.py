"""The autoencoder (f8, 16 channels), then the latents of the training pictures.

Loss: L1, L1 of neighbour differences (edges), L1 of 4 x 4 means (flat areas), a little KL. Eager mode on purpose: compiled on a CPU (torch 2.13, autocast,
channels_last) the encoder's gradients came out as zeros."""
import json
import random

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch.utils.data import Dataset

import data
from common import Pictures, batches, fit, generator, load, load_average, log, normal, save, steps_done, to_float
from models import autoencoder, pack, tokenize, tokenizers

VALIDATION_SEED, TRAIN_SEED, LATENT_SEED = 10**8, 2 * 10**8, 4 * 10**8
KL, LATENT_NOISE = 2e-4, 0.03   # noise in units of the latents' spread: the decoder learns to forgive the flow's small errors
CROP = 64
PHRASINGS = 4                   # captions kept for each picture


def differences(e):
    return (e[..., 1:] - e[..., :-1]).abs().mean() + (e[..., 1:, :] - e[..., :-1, :]).abs().mean()


@torch.no_grad()
def psnr(ctx, vae, n=64):
    """Mean over whole pictures with held-out pairs, decoded from the posterior's mean, 8-bit range; dB."""
    values = []
    for part in range(0, n, 16):
        x = to_float(ctx, torch.stack([Pictures(VALIDATION_SEED, n, allow_held=True)[i][0] for i in range(part, min(n, part + 16))]))
        y = vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1)
        values.append(10 * torch.log10(4 / ((y - x) ** 2).mean((1, 2, 3))))
    return torch.cat(values).mean().item()


def train(ctx, warm=None):
    """`warm`: a VAE folder of the same shape to start from."""
    b = ctx.budget["vae"]
    vae = autoencoder(1)
    if warm and not ctx.path("vae.pt").exists():
        vae.load_state_dict(AutoencoderKL.from_pretrained(warm).float().state_dict())
    vae = vae.to(ctx.device, memory_format=torch.channels_last)
    if ctx.path("vae.pt").exists():
        return load_average(vae, load(ctx.path("vae.pt"))).eval()
    done = steps_done(ctx, "vae")
    source = batches(ctx, Pictures(TRAIN_SEED + done * b["batch"], (b["steps"] - done) * b["batch"]), b["batch"])

    def loss_at(step):
        g = generator(1, step)
        y, x = (8 * torch.randint(0, (128 - CROP) // 8 + 1, (2,), generator=g)).tolist()
        image = to_float(ctx, next(source)[0][:, :, y:y + CROP, x:x + CROP])
        with ctx.autocast():
            posterior = vae.encode(image).latent_dist
            mean, logvar = posterior.mean.float(), posterior.logvar.float()
            spread = ((0.5 * logvar).exp() ** 2 + (LATENT_NOISE * mean.detach().std()) ** 2).sqrt()
            e = vae.decode(mean + spread * normal(mean, g)).sample.float() - image
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        return e.abs().mean() + differences(e) + 0.5 * F.avg_pool2d(e, 4).abs().mean() + KL * min(1, step / 400) * kl

    return load_average(vae, fit(ctx, "vae", vae, loss_at, b["steps"], 0.02, 1.5e-3, lambda k, p: "conv_in" not in k and k != "decoder.conv_out.weight", ema=0.995,
                                 report=lambda: f"PSNR {psnr(ctx, vae):.2f} dB")).eval()


class Captions(Dataset):
    """The token ids of PHRASINGS captions of each seed's picture: CLIP's and T5's [PHRASINGS, TEXT_LENGTH] int16."""

    def __init__(self, first, count, toks):
        self.first, self.count, self.toks = first, count, toks

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        seed = self.first + i
        return tuple(t.to(torch.int16) for t in tokenize(self.toks, data.captions(data.spec(random.Random(seed)), seed, PHRASINGS)))


def regions(ctx, k, size, n):
    """What each token shows in the pictures of latents-WxH.pt: data.regions, [n, tokens, 5] uint8; kept in regions-WxH.pt."""
    path = ctx.path("regions-%dx%d.pt" % size)
    if not path.exists():
        first = LATENT_SEED + k * 10**7
        save(torch.stack([torch.from_numpy(data.regions(data.spec(random.Random(first + i)), size)) for i in range(n)]), path)
    return load(path)


def objects(k, n):
    """What the captions of latents-WxH.pt name: object, tint, object, tint in picture order, [n, 4] uint8, 0 being none."""
    first = LATENT_SEED + k * 10**7
    labels = torch.tensor([data.labels(data.spec(random.Random(first + i))) for i in range(n)])[:, :4]
    labels[:, 0] += 1   # there always is a first object; data.HEADS counts it from 0
    return labels.to(torch.uint8)


def sizes(ctx):
    """[(width, height), pictures]: 128 x 128 mostly, the others for the rest."""
    n = ctx.budget["pictures"]
    rest = max(ctx.budget["flow"]["batch"] * 2, round(0.28 * n / len(data.OTHER_SIZES)))
    return [(data.SIZE, n)] + [(size, rest) for size in data.OTHER_SIZES]


@torch.no_grad()
def latents(ctx, vae):
    """latents-WxH.pt: normalised packed latents z [n, tokens, 64] half, clip and t5 ids [n, PHRASINGS, length] int16; latents.json: shift and scale."""
    toks, scale = tokenizers(ctx.work), None
    if ctx.path("latents.json").exists():
        scale = json.loads(ctx.path("latents.json").read_text())
    for k, (size, n) in enumerate(sizes(ctx)):
        path = ctx.path("latents-%dx%d.pt" % size)
        if path.exists():
            continue
        first = LATENT_SEED + k * 10**7
        z = []
        for x, _ in batches(ctx, Pictures(first, n, size), min(64, n)):
            with ctx.autocast():
                z.append(vae.encode(to_float(ctx, x)).latent_dist.mean.float().cpu())
        z = torch.cat(z)
        if scale is None:
            scale = dict(shift=round(z.mean().item(), 4), std=round(z.std().item(), 4))
            ctx.path("latents.json").write_text(json.dumps(scale))
        clip, t5 = (torch.cat(ids) for ids in zip(*batches(ctx, Captions(first, len(z), toks), min(64, n))))
        save(dict(z=pack((z - scale["shift"]) / scale["std"]).half(), clip=clip, t5=t5), path)
        log("latents", size, tuple(z.shape), scale)
    return scale
