"""Small files of adapters for tests/cli: tests/data/files/lora. Usage: lora_files.py tests/data"""
import os
import sys

import numpy as np
from safetensors.numpy import save_file

HIDDEN, RANK, ALPHA = 32, 2, 4  # of the pipeline schnell


def pair(rng, key, rows, cols):
    return {
        f"{key}.lora_down.weight": (rng.standard_normal((RANK, cols)) / 4).astype(np.float16),
        f"{key}.lora_up.weight": (rng.standard_normal((rows, RANK)) / 4).astype(np.float16),
        f"{key}.alpha": np.array(ALPHA, np.float16),
    }


def main(data):
    folder = os.path.join(data, "files", "lora")
    os.makedirs(folder, exist_ok=True)
    rng = np.random.default_rng(1)
    kohya = {}
    kohya |= pair(rng, "lora_unet_double_blocks_0_img_attn_qkv", 3 * HIDDEN, HIDDEN)
    kohya |= pair(rng, "lora_unet_single_blocks_1_linear2", HIDDEN, 5 * HIDDEN)
    kohya |= pair(rng, "lora_unet_single_blocks_0_linear1", 7 * HIDDEN, HIDDEN)
    save_file(kohya, os.path.join(folder, "kohya.safetensors"))
    save_file(pair(rng, "lora_unet_down_blocks_0_attentions_0_proj_in", HIDDEN, HIDDEN),
              os.path.join(folder, "sd.safetensors"))
    vera = {"base_model.model.proj_out.vera_lambda_b": np.ones(64, np.float16)}
    save_file(vera, os.path.join(folder, "vera.safetensors"))


if __name__ == "__main__":
    main(*sys.argv[1:])
