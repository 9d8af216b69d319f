"""A schnell pipeline folder at true width and reduced depth with random bf16 weights, in diffusers' layout.

usage: make_model.py OUT [--joint 2] [--single 4] [--t5-layers 4]

2 joint + 4 single blocks are 2/19 of FLUX.1's block work; sd_peer.py reads the depth from the configs."""
import argparse
import json
import os

import torch

import models


def random_module(make):
    """Norms are ones, matrices keep the size of what goes through them."""
    with torch.device("meta"):
        m = make()
    m = m.to(torch.bfloat16).to_empty(device="cpu")
    for name, p in m.named_parameters():
        if p.ndim == 1:
            p.data.fill_(1.0) if "norm" in name and name.endswith("weight") else p.data.normal_(0, 0.02)
        else:
            p.data.normal_(0, p[0].numel() ** -0.5)
    for b in m.buffers():
        b.zero_()
    return m


def makers(o):
    from diffusers import AutoencoderKL, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel
    return {"dit": lambda: FluxTransformer2DModel(num_layers=o.joint, num_single_layers=o.single,
                                                  guidance_embeds=False),
            "t5": lambda: T5EncoderModel(T5Config(num_layers=o.t5_layers, **models.T5)),
            "clip": lambda: CLIPTextModel(CLIPTextConfig(**models.CLIP)),
            "vae": lambda: AutoencoderKL(**models.VAE)}


def write_index(folder):
    """What a pipeline's folder says of itself, and the scheduler."""
    index = {"_class_name": "FluxPipeline", "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
             "text_encoder": ["transformers", "CLIPTextModel"], "text_encoder_2": ["transformers", "T5EncoderModel"],
             "transformer": ["diffusers", "FluxTransformer2DModel"], "vae": ["diffusers", "AutoencoderKL"]}
    scheduler = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 1.0,
                 "use_dynamic_shifting": False, "base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256,
                 "max_image_seq_len": 4096}
    os.makedirs(f"{folder}/scheduler", exist_ok=True)
    for path, content in (("model_index.json", index), ("scheduler/scheduler_config.json", scheduler)):
        with open(f"{folder}/{path}", "w") as f:
            json.dump(content, f, indent=2)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out")
    p.add_argument("--joint", type=int, default=2)
    p.add_argument("--single", type=int, default=4)
    p.add_argument("--t5-layers", type=int, default=4)
    o = p.parse_args()
    torch.manual_seed(1)
    for stage, make in makers(o).items():
        random_module(make).save_pretrained(f"{o.out}/{models.FOLDERS[stage]}", max_shard_size="50GB")
        print(f"{o.out}/{models.FOLDERS[stage]}", flush=True)
    write_index(o.out)


main()
