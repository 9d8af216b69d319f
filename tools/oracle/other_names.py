"""The names that other layouts give to the tensors of a diffusers pipeline: BFL's for the transformer and the VAE, llama.cpp's for the text encoders.

Each function takes and returns {name: tensor}. check() holds the maps to diffusers' own converters and to the gguf package's names.
"""
import environment
import re

import gguf
import torch
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers, convert_ldm_vae_checkpoint

STREAMS = (("img", "norm1", ("to_q", "to_k", "to_v"), "norm_", "to_out.0", "ff"),
           ("txt", "norm1_context", ("add_q_proj", "add_k_proj", "add_v_proj"), "norm_added_", "to_add_out", "ff_context"))
EMBEDDERS = (("time_in", "timestep_embedder"), ("vector_in", "text_embedder"), ("guidance_in", "guidance_embedder"))


def count(tensors, start):
    return len({k.split(".")[1] for k in tensors if k.startswith(start + ".")})


def swap(x):
    a, b = x.chunk(2, 0)
    return torch.cat([b, a])


def transformer_to_bfl(t, norm=".scale"):
    """`norm`: how the files call the weights of q's and k's norms, ".scale" or ".weight"."""
    out = {}

    def move(theirs, *ours, change=lambda x: x):
        for end in (".weight", ".bias"):
            if ours[0] + end in t:
                parts = [t[name + end] for name in ours]
                out[theirs + end] = change(parts[0] if len(parts) == 1 else torch.cat(parts))

    move("img_in", "x_embedder")
    move("txt_in", "context_embedder")
    for theirs, ours in EMBEDDERS:
        move(f"{theirs}.in_layer", f"time_text_embed.{ours}.linear_1")
        move(f"{theirs}.out_layer", f"time_text_embed.{ours}.linear_2")
    for i in range(count(t, "transformer_blocks")):
        a, b = f"double_blocks.{i}", f"transformer_blocks.{i}"
        for stream, mod, qkv, norms, proj, mlp in STREAMS:
            move(f"{a}.{stream}_mod.lin", f"{b}.{mod}.linear")
            move(f"{a}.{stream}_attn.qkv", *(f"{b}.attn.{name}" for name in qkv))
            for theirs, ours in (("query", "q"), ("key", "k")):
                out[f"{a}.{stream}_attn.norm.{theirs}_norm{norm}"] = t[f"{b}.attn.{norms}{ours}.weight"]
            move(f"{a}.{stream}_attn.proj", f"{b}.attn.{proj}")
            move(f"{a}.{stream}_mlp.0", f"{b}.{mlp}.net.0.proj")
            move(f"{a}.{stream}_mlp.2", f"{b}.{mlp}.net.2")
    for i in range(count(t, "single_transformer_blocks")):
        a, b = f"single_blocks.{i}", f"single_transformer_blocks.{i}"
        move(f"{a}.modulation.lin", f"{b}.norm.linear")
        move(f"{a}.linear1", *(f"{b}.{name}" for name in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")))
        move(f"{a}.linear2", f"{b}.proj_out")
        for theirs, ours in (("query", "q"), ("key", "k")):
            out[f"{a}.norm.{theirs}_norm{norm}"] = t[f"{b}.attn.norm_{ours}.weight"]
    move("final_layer.linear", "proj_out")
    move("final_layer.adaLN_modulation.1", "norm_out.linear", change=swap)
    return out


def vae_to_bfl(t):
    """Names replaced piece by piece; the middle's attention becomes a convolution."""
    levels = len({k.split(".")[2] for k in t if k.startswith("decoder.up_blocks.")})
    out = {}
    for name, x in t.items():
        new = re.sub(r"up_blocks\.(\d+)\.", lambda m: f"up.{levels - 1 - int(m[1])}.", name)
        new = re.sub(r"down_blocks\.(\d+)\.", r"down.\1.", new)
        new = re.sub(r"(up|down)samplers\.0", r"\1sample", new)
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", new).replace("resnets.", "block.")
        new = new.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "mid_block.attentions.0." in new:
            new = new.replace("mid_block.attentions.0.", "mid.attn_1.").replace("group_norm", "norm").replace("to_out.0", "proj_out")
            new = re.sub(r"to_([qkv])\.", r"\1.", new)
            x = x[:, :, None, None] if x.ndim == 2 else x
        out[new] = x
    return out


def t5_to_gguf(t):
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5ENCODER, count({k[8:]: 0 for k in t}, "block"))
    out = {names.get_name(k, (".weight",)): v for k, v in t.items() if k != "encoder.embed_tokens.weight"}
    assert None not in out
    return out


def clip_to_gguf(t):
    """clip.cpp's names (its tables TN_…); fc1 is ffn_down there."""
    pairs = (("text_model.embeddings.token_embedding", "t.token_embd"), ("text_model.embeddings.position_embedding", "t.position_embd"),
             ("text_model.final_layer_norm", "t.post_ln"), ("text_model.encoder.layers", "t.blk"), ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"),
             ("self_attn.v_proj", "attn_v"), ("self_attn.out_proj", "attn_out"), ("layer_norm", "ln"), ("mlp.fc1", "ffn_down"), ("mlp.fc2", "ffn_up"))
    out = {}
    for name, x in t.items():
        for ours, theirs in pairs:
            name = name.replace(ours, theirs)
        out[name] = x
    return out


def check(transformer, vae, vae_config):
    """diffusers' converters undo the maps. The transformer's has FLUX's widths built in: rows of full height, two columns."""
    full = {}
    for i, (name, x) in enumerate(transformer.items()):
        rows = x.shape[0] * 3072 // transformer["x_embedder.weight"].shape[0]
        full[name] = (torch.arange(rows * (2 if x.ndim == 2 else 1)) * 7919 + i).float().reshape(rows, -1).squeeze(-1)
    back = convert_flux_transformer_checkpoint_to_diffusers(transformer_to_bfl(full))
    assert back.keys() == full.keys() and all(torch.equal(back[k], full[k]) for k in full)
    back = convert_ldm_vae_checkpoint(vae_to_bfl(vae), vae_config)
    assert back.keys() == vae.keys() and all(torch.equal(back[k], vae[k]) for k in vae)
