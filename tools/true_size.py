"""A FLUX.1 pipeline folder of the true size and the real layout (configs, indexes, tokenizers, shard names) with synthetic bf16 weights, for timing and memory.

usage: true_size.py schnell|dev OUT --configs DIR --tokenizers DIR [--holes]

--configs     a folder with FLUX.1-schnell/ and FLUX.1-dev/ as Hugging Face lays them out, without the weights (configs, indexes, tokenizer configs)
--tokenizers  a folder with clip/{vocab.json,merges.txt} and t5/{spiece.model,tokenizer.json}
--holes       files of zeros that take no disk, in place of 34 GB of random values

Needs torch, diffusers and transformers (tools/oracle/requirements.txt), for the shapes alone."""
import argparse
import json
import os
import shutil
import struct

import numpy as np
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

BLOCK = 1 << 24  # values written at a time
TOKENIZER_FILES = (("clip/vocab.json", "tokenizer/vocab.json"), ("clip/merges.txt", "tokenizer/merges.txt"),
                   ("t5/spiece.model", "tokenizer_2/spiece.model"), ("t5/tokenizer.json", "tokenizer_2/tokenizer.json"))


def shapes_of(source):
    """{component: {tensor: shape}} from the configs, without a weight being made."""
    config = lambda part: json.load(open(f"{source}/{part}/config.json"))
    with torch.device("meta"):
        models = {
            "transformer": FluxTransformer2DModel.from_config(config("transformer")),
            "vae": AutoencoderKL.from_config(config("vae")),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**config("text_encoder"))),
            "text_encoder_2": T5EncoderModel(T5Config(**config("text_encoder_2"))),
        }
    return {part: {k: list(v.shape) for k, v in m.state_dict().items() if "position_ids" not in k} for part, m in models.items()}


def files_of(out, part, shapes):
    """{tensor: file}: the index's where there is one. An index may name the tied embedding twice, or leave a twin out."""
    index = [f for f in os.listdir(f"{out}/{part}") if f.endswith(".index.json")]
    if not index:
        return dict.fromkeys(shapes, "model.safetensors" if part == "text_encoder" else "diffusion_pytorch_model.safetensors")
    where = json.load(open(f"{out}/{part}/{index[0]}"))["weight_map"]
    for twin in set(where) - set(shapes):
        shapes[twin] = shapes["shared.weight"]
    return where


def values(name, shape, pool, start):
    """bf16 bits: norms near 1, matrices scaled so that a product keeps its input's size."""
    count = int(np.prod(shape))
    if "norm" in name and name.endswith("weight"):
        scale, offset = 0.1, 1.0
    else:
        scale, offset = (0.02 if len(shape) < 2 else (count / shape[0]) ** -0.5), 0.0
    for begin in range(0, count, BLOCK):
        n = min(BLOCK, count - begin)
        x = np.roll(pool, start + begin)[:n] * np.float32(scale) + np.float32(offset)
        yield (x.view(np.uint32) >> 16).astype(np.uint16)


def write_file(path, shapes, names, holes, pool):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name in names:
        size = 2 * int(np.prod(shapes[name]))
        header[name] = {"dtype": "BF16", "shape": shapes[name], "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        if holes:
            f.truncate(8 + len(text) + offset)
        else:
            for i, name in enumerate(names):
                for block in values(name, shapes[name], pool, 7919 * i):
                    f.write(block.tobytes())
    return offset


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=("schnell", "dev"))
    parser.add_argument("out")
    parser.add_argument("--configs", required=True)
    parser.add_argument("--tokenizers", required=True)
    parser.add_argument("--holes", action="store_true")
    a = parser.parse_args()
    source = f"{a.configs}/FLUX.1-{a.variant}"
    shutil.copytree(source, a.out, dirs_exist_ok=True)
    for src, dst in TOKENIZER_FILES:
        shutil.copy(f"{a.tokenizers}/{src}", f"{a.out}/{dst}")
    for folder, _, _ in os.walk(a.out):
        os.chmod(folder, 0o755)
    pool = np.random.default_rng(0).standard_normal(BLOCK, dtype=np.float32)
    total = 0
    for part, shapes in shapes_of(source).items():
        where = files_of(a.out, part, shapes)
        for file in sorted(set(where.values())):
            total += write_file(f"{a.out}/{part}/{file}", shapes, sorted(k for k in where if where[k] == file), a.holes, pool)
    print(f"{total / 1e9:.2f} GB of {'holes' if a.holes else 'weights'} in {a.out}")


if __name__ == "__main__":
    main()
