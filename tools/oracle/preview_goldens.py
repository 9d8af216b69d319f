#!/usr/bin/env python3
"""The linear estimate of a VAE's pictures, for previews: latents from torch's generator, decoded by diffusers, fitted by numpy's least squares.
usage: preview_goldens.py PIPELINE OUT.safetensors     weight [17, 3] (behind 16 channels the bias), error (rms of 255 on the latent of seed 4),
                                                       and of a packed latent of 4 x 6 cells the estimate as bytes, [32, 48, 3]
"""
import sys

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

CELLS, BLOCK, FITTED = 16, 4, 4


def pack(z):  # [channels, h, w], as FluxPipeline._pack_latents does
    c, h, w = z.shape
    return z.reshape(c, h // 2, 2, w // 2, 2).permute(1, 3, 0, 2, 4).reshape(h // 2 * (w // 2), 4 * c)


def latent(seed, channels):
    noise = torch.randn(channels, CELLS // BLOCK, CELLS // BLOCK, generator=torch.Generator().manual_seed(seed))
    return noise.repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2)


def to_bytes(x):  # VaeImageProcessor's postprocessing
    return ((x / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).float().numpy() * 255).round()


def estimate(z, weight, scale):
    c, h, w = z.shape
    colours = torch.from_numpy(np.c_[z.reshape(c, -1).T.numpy(), np.ones(h * w)] @ weight).T.reshape(1, 3, h, w)
    return torch.nn.functional.interpolate(colours, scale_factor=scale, mode="bilinear", align_corners=False)[0]


def main(pipeline, out):
    vae = AutoencoderKL.from_pretrained(pipeline, subfolder="vae", torch_dtype=torch.float32).eval()
    channels, scale = vae.config.latent_channels, 2 ** (len(vae.config.block_out_channels) - 1)
    rows, colours = [], []
    with torch.no_grad():
        for seed in range(FITTED + 1):
            z = latent(seed, channels)
            x = vae.decode(z[None] / vae.config.scaling_factor + vae.config.shift_factor).sample[0]
            if seed < FITTED:
                rows.append(np.c_[z.reshape(channels, -1).T.numpy(), np.ones(CELLS * CELLS)])
                colours.append(torch.nn.functional.avg_pool2d(x, scale).reshape(3, -1).T.double().numpy())
    weight = np.linalg.lstsq(np.concatenate(rows), np.concatenate(colours), rcond=None)[0]
    error = np.sqrt(np.mean((to_bytes(estimate(z, weight, scale)) - to_bytes(x)) ** 2))
    odd = torch.randn(channels, 4, 6, generator=torch.Generator().manual_seed(5))
    save_file({"weight": torch.from_numpy(weight).float(), "error": torch.tensor([error]).float(), "latent": pack(odd).contiguous(),
               "picture": torch.from_numpy(to_bytes(estimate(odd, weight, scale))).float().contiguous()}, out)
    print(f"error {error:.3f}")


main(*sys.argv[1:])
