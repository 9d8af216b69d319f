"""Builds a tiny random FLUX pipeline folder in the Hugging Face layout from a Spec: what save_pretrained writes, mode 0644.

Every tensor is random: a norm weight of 1 or a bias of 0 would hide a mistake. The tokenizers' large files are links to the shared ones.
"""
import environment
import dataclasses
import glob
import json
import os
import shutil
import zlib

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclasses.dataclass
class Spec:
    """What one pipeline is: the configs of its parts, each part's dtype, and how it lies on disk."""
    name: str
    clip: dict
    t5: dict
    dit: dict
    vae: dict
    scheduler: dict
    dtype: dict = dataclasses.field(default_factory=dict)    # part → F32, F16, BF16 or MIXED (tensor by tensor); F32 if absent
    shards: dict = dataclasses.field(default_factory=dict)   # part → max_shard_size
    clip_length: int = 77                                    # tokenizer's model_max_length
    t5_length: int = 512                                     # tokenizer_2's
    t5_tokenizer: str = "t5"                                 # folder in tests/data/tokenizers
    copy_tokenizers: bool = False                            # real files instead of links
    seed: int = 0


def clip_model(c, tokenizer):
    """eos_token_id: 2 (the legacy rule), "end" (the tokenizer's own) or any other id."""
    eos = tokenizer.eos_token_id if c["eos_token_id"] == "end" else c["eos_token_id"]
    defaults = {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id, "projection_dim": c["hidden_size"]}
    return CLIPTextModel(CLIPTextConfig(hidden_act="quick_gelu", **{**defaults, **c, "eos_token_id": eos}))


def t5_model(c, tokenizer):
    """More embedding rows than the tokenizer has entries, as the real model."""
    defaults = {"vocab_size": (len(tokenizer) + 15) // 8 * 8}
    return T5EncoderModel(T5Config(feed_forward_proj="gated-gelu", is_encoder_decoder=False, use_cache=False, tie_word_embeddings=False, **{**defaults, **c}))


def vae_model(c):
    levels = len(c["block_out_channels"])
    defaults = {"use_quant_conv": False, "use_post_quant_conv": False, "scaling_factor": 0.3611, "shift_factor": 0.1159}
    return AutoencoderKL(down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels, **{**defaults, **c})


def weight_scale(name, p):
    """Standard deviation that keeps activations near 1, attention logits small and the picture inside [-1,1]."""
    if "relative_attention_bias" in name or "embedding" in name or name.startswith("shared") or "embed_tokens" in name:
        return 0.7
    fan_in = p[0].numel() ** -0.5
    if name == "decoder.conv_out.weight":
        return 0.6 * fan_in
    return fan_in


def randomise(model, seed, t5_key_size=None):
    """Norms 1 + 0.1x, biases 0.1x, the rest x·weight_scale; x depends on the tensor's name, so no two tensors are alike."""
    for name, p in model.eval().requires_grad_(False).named_parameters():
        x = torch.randn(p.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode()) + seed))
        if p.ndim == 1:
            x = 1 + 0.1 * x if "norm" in name and name.endswith("weight") else 0.1 * x
        else:
            x *= weight_scale(name, p)
        if t5_key_size and name.endswith("SelfAttention.q.weight"):
            x *= t5_key_size ** -0.5                       # T5 does not divide its logits by sqrt(d_kv): trained weights have it inside
        p.copy_(x)
    return model


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=2)
        f.write("\n")


def place_tokenizer(source, out, max_length, copy):
    """The tokenizer's own small config with another model_max_length; its data files as links relative to `out`, or as copies."""
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    for name in sorted(os.listdir(source)):
        path, here = os.path.join(source, name), os.path.join(out, name)
        if name == "tokenizer_config.json":
            with open(path, encoding="utf-8") as f:
                write_json(here, {**json.load(f), "model_max_length": max_length})
        elif copy:
            shutil.copyfile(path, here)
        else:
            os.symlink(os.path.relpath(os.path.realpath(path), os.path.realpath(out)), here)


def mix_dtypes(folder):
    """Rewrites a part's weights so that one file holds all three dtypes, chosen by the tensor's name."""
    kinds = list(DTYPES.values())
    for path in glob.glob(folder + "/*.safetensors"):
        tensors = {k: v.to(kinds[zlib.crc32(k.encode()) % 3]).contiguous() for k, v in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})


def reshard(folder, model, size):
    for path in glob.glob(folder + "/*.safetensors"):
        os.unlink(path)
    model.save_pretrained(folder, max_shard_size=size)


def part_models(spec, clip_tokenizer, t5_tokenizer):
    return {
        "text_encoder": randomise(clip_model(spec.clip, clip_tokenizer), spec.seed),
        "text_encoder_2": randomise(t5_model(spec.t5, t5_tokenizer), spec.seed, spec.t5["d_kv"]),
        "transformer": randomise(FluxTransformer2DModel(**spec.dit), spec.seed),
        "vae": randomise(vae_model(spec.vae), spec.seed),
    }


def build(spec, out, tokenizers=os.path.join(environment.TEST_DATA, "tokenizers")):
    """Writes the pipeline folder `out`, replacing what was there."""
    shutil.rmtree(out, ignore_errors=True)
    clip_files, t5_files = os.path.join(tokenizers, "clip"), os.path.join(tokenizers, spec.t5_tokenizer)
    clip_tokenizer, t5_tokenizer = CLIPTokenizer.from_pretrained(clip_files), T5TokenizerFast.from_pretrained(t5_files)
    models = part_models(spec, clip_tokenizer, t5_tokenizer)
    for part, model in models.items():
        model.to(DTYPES.get(spec.dtype.get(part), torch.float32))
    FluxPipeline(FlowMatchEulerDiscreteScheduler(**spec.scheduler), models["vae"], models["text_encoder"], clip_tokenizer,
                 models["text_encoder_2"], t5_tokenizer, models["transformer"]).save_pretrained(out)
    for part, size in spec.shards.items():
        reshard(os.path.join(out, part), models[part], size)
    for part, kind in spec.dtype.items():
        if kind == "MIXED":
            mix_dtypes(os.path.join(out, part))
    place_tokenizer(clip_files, os.path.join(out, "tokenizer"), spec.clip_length, spec.copy_tokenizers)
    place_tokenizer(t5_files, os.path.join(out, "tokenizer_2"), spec.t5_length, spec.copy_tokenizers)
    open_to_read(out)


def open_to_read(out):
    """save_pretrained leaves weights with mode 0600."""
    for folder, _, names in os.walk(out):
        for name in names:
            if not os.path.islink(os.path.join(folder, name)):
                os.chmod(os.path.join(folder, name), 0o644)
