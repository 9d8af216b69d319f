"""Times flux1 and stable-diffusion.cpp on the same request, one after the other, several times: schnell at true width with fewer blocks, so that it fits a laptop's memory.

usage: peer_stable_diffusion.py --sd PATH/sd-cli --flux1 PATH/flux1 --folder DIR [--size 512] [--steps 2] [--repeats 3] [--joint 4] [--single 8] [--types f16,bf16,q8_0]

--folder is made if absent: FLUX.1-schnell's configs and tokenizers come from --configs, a folder as Hugging Face has it; weights are holes (zeros), which take no disk.
Both programs get the same number of threads (--threads, default 2), 256 text tokens and one picture. The time that stable-diffusion.cpp takes to load (and convert: --types)
weights is taken off its stages, not off its total; flux1 maps them. Run it twice: the first reads the files. Prints a line of JSON a run, then medians and ratios.
"""
import argparse
import json
import os
import re
import shutil
import statistics
import struct
import subprocess
import time

HIDDEN, MLP, HEAD = 3072, 12288, 128


def write_holes(path, shapes, dtype="BF16", bytes_each=2):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        count = bytes_each
        for d in shape:
            count *= d
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + count]}
        offset += count
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.truncate(8 + len(text) + offset)


def linear(name, out, inputs):
    return {f"{name}.weight": (out, inputs), f"{name}.bias": (out,)}


def diffusers_dit(joint, single):
    s = {**linear("x_embedder", HIDDEN, 64), **linear("context_embedder", HIDDEN, 4096), **linear("proj_out", 64, HIDDEN), **linear("norm_out.linear", 2 * HIDDEN, HIDDEN)}
    for part, width in (("timestep", 256), ("text", 768)):
        s |= {**linear(f"time_text_embed.{part}_embedder.linear_1", HIDDEN, width), **linear(f"time_text_embed.{part}_embedder.linear_2", HIDDEN, HIDDEN)}
    for i in range(joint):
        b = f"transformer_blocks.{i}."
        s |= {**linear(b + "norm1.linear", 6 * HIDDEN, HIDDEN), **linear(b + "norm1_context.linear", 6 * HIDDEN, HIDDEN)}
        for name in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"):
            s |= linear(f"{b}attn.{name}", HIDDEN, HIDDEN)
        s |= {f"{b}attn.{name}.weight": (HEAD,) for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k")}
        for name in ("ff", "ff_context"):
            s |= {**linear(f"{b}{name}.net.0.proj", MLP, HIDDEN), **linear(f"{b}{name}.net.2", HIDDEN, MLP)}
    for i in range(single):
        b = f"single_transformer_blocks.{i}."
        s |= {**linear(b + "norm.linear", 3 * HIDDEN, HIDDEN), **linear(b + "proj_mlp", MLP, HIDDEN), **linear(b + "proj_out", HIDDEN, HIDDEN + MLP)}
        for name in ("to_q", "to_k", "to_v"):
            s |= linear(f"{b}attn.{name}", HIDDEN, HIDDEN)
        s |= {f"{b}attn.{name}.weight": (HEAD,) for name in ("norm_q", "norm_k")}
    return s


def original_dit(joint, single):
    s = {**linear("img_in", HIDDEN, 64), **linear("txt_in", HIDDEN, 4096), **linear("final_layer.linear", 64, HIDDEN), **linear("final_layer.adaLN_modulation.1", 2 * HIDDEN, HIDDEN)}
    for part, width in (("time", 256), ("vector", 768)):
        s |= {**linear(f"{part}_in.in_layer", HIDDEN, width), **linear(f"{part}_in.out_layer", HIDDEN, HIDDEN)}
    for i in range(joint):
        for part in ("img", "txt"):
            b = f"double_blocks.{i}.{part}_"
            s |= {**linear(b + "mod.lin", 6 * HIDDEN, HIDDEN), **linear(b + "attn.qkv", 3 * HIDDEN, HIDDEN), **linear(b + "attn.proj", HIDDEN, HIDDEN),
                  **linear(b + "mlp.0", MLP, HIDDEN), **linear(b + "mlp.2", HIDDEN, MLP)}
            s |= {f"{b}attn.norm.{name}.scale": (HEAD,) for name in ("query_norm", "key_norm")}
    for i in range(single):
        b = f"single_blocks.{i}."
        s |= {**linear(b + "linear1", 3 * HIDDEN + MLP, HIDDEN), **linear(b + "linear2", HIDDEN, HIDDEN + MLP), **linear(b + "modulation.lin", 3 * HIDDEN, HIDDEN)}
        s |= {f"{b}norm.{name}.scale": (HEAD,) for name in ("query_norm", "key_norm")}
    return s


def encoders():
    clip = {"text_model.embeddings.token_embedding.weight": (49408, 768), "text_model.embeddings.position_embedding.weight": (77, 768),
            "text_model.final_layer_norm.weight": (768,), "text_model.final_layer_norm.bias": (768,)}
    for i in range(12):
        b = f"text_model.encoder.layers.{i}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            clip |= linear(f"{b}self_attn.{name}", 768, 768)
        clip |= {**linear(b + "mlp.fc1", 3072, 768), **linear(b + "mlp.fc2", 768, 3072)}
        clip |= {f"{b}layer_norm{n}.{part}": (768,) for n in (1, 2) for part in ("weight", "bias")}
    t5 = {"shared.weight": (32128, 4096), "encoder.final_layer_norm.weight": (4096,), "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (32, 64)}
    for i in range(24):
        b = f"encoder.block.{i}.layer."
        t5 |= {f"{b}0.SelfAttention.{n}.weight": (4096, 4096) for n in "qkvo"}
        t5 |= {f"{b}0.layer_norm.weight": (4096,), f"{b}1.layer_norm.weight": (4096,), f"{b}1.DenseReluDense.wi_0.weight": (10240, 4096),
               f"{b}1.DenseReluDense.wi_1.weight": (10240, 4096), f"{b}1.DenseReluDense.wo.weight": (4096, 10240)}
    return clip, t5


def vae_shapes(configs):
    import torch
    from diffusers import AutoencoderKL
    with torch.device("meta"):
        return {k: tuple(v.shape) for k, v in AutoencoderKL.from_config(json.load(open(f"{configs}/vae/config.json"))).state_dict().items()}


def make(folder, configs, tokenizers, joint, single):
    shutil.copytree(configs, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.index.json"))
    for a, b in (("clip/vocab.json", "tokenizer/vocab.json"), ("clip/merges.txt", "tokenizer/merges.txt"), ("t5/spiece.model", "tokenizer_2/spiece.model")):
        shutil.copy(f"{tokenizers}/{a}", f"{folder}/{b}")
    path = f"{folder}/transformer/config.json"
    config = json.load(open(path)) | {"num_layers": joint, "num_single_layers": single}
    json.dump(config, open(path, "w"), indent=2)
    clip, t5 = encoders()
    write_holes(f"{folder}/transformer/diffusion_pytorch_model.safetensors", diffusers_dit(joint, single))
    write_holes(f"{folder}/original.safetensors", original_dit(joint, single))
    write_holes(f"{folder}/text_encoder/model.safetensors", clip)
    write_holes(f"{folder}/text_encoder_2/model.safetensors", t5)
    write_holes(f"{folder}/vae/diffusion_pytorch_model.safetensors", vae_shapes(configs), "F32", 4)


PROMPT = "a red fox in the snow, early morning, long shadows"


def run_flux1(o):
    command = [o.flux1, "generate", "-m", o.folder, "-p", PROMPT, "-W", str(o.size), "-H", str(o.size), "-s", str(o.steps), "-S", "1", "--threads", str(o.threads),
               "--max-sequence-length", "256", "-o", f"{o.folder}/flux1.png", *o.flux1_options.split()]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    stage = lambda name: float(re.search(rf"{name}:.* ([0-9.]+) s\n", log).group(1))
    return {"program": "flux1", "text": stage("text encoders"), "denoise": stage("denoise"), "decode": stage("decode"), "total": float(re.search(r"done in ([0-9.]+) s", log).group(1))}


def run_sd(o, kind):
    command = [o.sd, "--diffusion-model", f"{o.folder}/original.safetensors", "--clip_l", f"{o.folder}/text_encoder/model.safetensors",
               "--t5xxl", f"{o.folder}/text_encoder_2/model.safetensors", "--vae", f"{o.folder}/vae/diffusion_pytorch_model.safetensors", "-p", PROMPT, "-W", str(o.size),
               "-H", str(o.size), "--steps", str(o.steps), "--cfg-scale", "1", "--sampling-method", "euler", "-s", "1", "-t", str(o.threads), "-o", f"{o.folder}/sd.png", "-v",
               *(["--type", kind] if kind != "file" else []), *o.sd_options.split()]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    total = round(time.monotonic() - began, 1)
    log = done.stdout + done.stderr
    open(f"{o.folder}/sd.{kind}.log", "w").write(log)
    if done.returncode:
        raise SystemExit(log[-3000:])
    row, before = {"program": f"stable-diffusion.cpp {kind}"}, 0
    for stage, end in (("text", "get_learned_condition completed"), ("denoise", "sampling completed"), ("decode", "decode_first_stage completed")):
        at = re.search(rf"{end}, taking ([0-9.]+)s", log)
        loads = re.findall(r"loading tensors completed, taking ([0-9.]+)s", log[before:at.start()])
        row[stage], before = round(float(at.group(1)) - sum(map(float, loads)), 3), at.end()
    return row | {"total": total}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = os.path.dirname(os.path.abspath(__file__))
    for name, default in (("sd", None), ("flux1", None), ("folder", None), ("size", 512), ("steps", 2), ("repeats", 3), ("joint", 4), ("single", 8), ("threads", 2),
                          ("types", "file"), ("sd-options", "--fa"), ("flux1-options", ""), ("configs", f"{here}/../../shared/data/hf/FLUX.1-schnell"),
                          ("tokenizers", f"{here}/../../shared/data/tokenizers")):
        parser.add_argument(f"--{name}", default=default, required=default is None, type=int if isinstance(default, int) else str)
    o = parser.parse_args()
    if not os.path.exists(f"{o.folder}/original.safetensors"):
        make(o.folder, o.configs, o.tokenizers, o.joint, o.single)
    runs = [(lambda: run_flux1(o))] + [(lambda kind=kind: run_sd(o, kind)) for kind in o.types.split(",")]
    rows = {}
    for _ in range(o.repeats):
        for run in runs:
            row = run()
            print(json.dumps(row), flush=True)
            rows.setdefault(row["program"], []).append(row)
    median = {name: {k: statistics.median(r[k] for r in list_) for k in ("text", "denoise", "decode", "total")} for name, list_ in rows.items()}
    for name, m in median.items():
        print(f"{name:32s}" + "".join(f"  {k} {v:7.2f} s ({v / median['flux1'][k]:4.1f} x)" for k, v in m.items()))


if __name__ == "__main__":
    main()
