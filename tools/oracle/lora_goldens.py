"""Files of adapters in every family and of every kind for the pipeline `packed`, and the pictures that the oracle makes with them.

usage: lora_goldens.py [family …]

tests/data/files/lora/golden/<name>.safetensors: the file. tests/data/goldens/lora/<name>.safetensors: the picture of CASE with the file at STRENGTH.
Where diffusers maps a file right (MAPPED), it is the oracle: load_lora_weights. Elsewhere (it drops keys in silence) the weights are changed by the definition: LoHa, LoKr, DoRA, OFT, BOFT, GLoRA and (IA)^3
by LyCORIS' and PEFT's own functions at strength 1, W + STRENGTH · (W' − W); the others by the formula.
<form>_mixed: one file with all kinds over the dequantised values of file_goldens.py's forms.
"""
import environment
import json
import os
import sys
import tempfile

import file_goldens
import other_names
import record
import torch
from lycoris.functional.boft import _diff_weight as boft_difference
from lycoris.functional.diag_oft import _diff_weight as oft_difference
from lycoris.functional.general import weight_decompose
from lycoris.functional.loha import diff_weight as loha_difference
from lycoris.functional.lokr import kron_weight
from lycoris.modules.glora import _glora_weight
from lycoris.modules.ia3 import _ia3_weight
from peft.tuners.oft.layer import OFTRotationModule
from safetensors.torch import save_file

FILES, GOLDENS = (os.path.join(environment.TEST_DATA, *p) for p in (("files", "lora", "golden"), ("goldens", "lora")))
STRENGTH, RANK, ALPHA = 0.75, 3, 2.0
HIDDEN, TEXT, PIXELS = 64, 32, 64


class Family:
    """Tensors of a file, and the layers they change: change(layer, f) where f gives W' of W."""

    def __init__(self, seed, prefix="", flat=False):
        self.random, self.prefix, self.flat = torch.Generator().manual_seed(seed), prefix, flat
        self.file, self.changes = {}, []

    def key(self, layer):
        return self.prefix + (layer.replace(".", "_") if self.flat else layer)

    def put(self, key, *shape, size=0.35, dtype=torch.float16):
        self.file[key] = (torch.randn(shape, generator=self.random) * size).to(dtype)
        return self.file[key].float()

    def pair(self, layer, rows, cols, names=("lora_down.weight", "lora_up.weight"), alpha=ALPHA, rank=RANK, key=None, bias=False, mid=False):
        key = key or self.key(layer)
        down, up = self.put(f"{key}.{names[0]}", rank, cols), self.put(f"{key}.{names[1]}", rows, rank)
        core = self.put(f"{key}.lora_mid.weight", rank, rank, size=1) if mid else torch.eye(rank)
        scale = 1.0
        if alpha is not None:
            self.file[f"{key}.alpha"] = torch.tensor(alpha)
            scale = alpha / rank
        delta = scale * up @ core @ down
        self.changes.append((layer + ".weight", lambda w: w + delta))
        if bias:
            b = scale * self.put(f"{key}.lora_B.bias", rows)
            self.changes.append((layer + ".bias", lambda w: w + b))
        return delta

    def dora(self, layer, rows, cols, by_column=False, **more):
        delta = self.pair(layer, rows, cols, **more)
        self.changes.pop()
        self.magnitude(layer, delta, (1, cols) if by_column else (rows, 1), by_column)

    def magnitude(self, layer, delta, shape, by_column):
        scale = (self.put(self.key(layer) + ".dora_scale", *shape, size=0.1) + 0.9).half()
        self.file[self.key(layer) + ".dora_scale"] = scale
        self.changes.append((layer + ".weight", lambda w: weight_decompose(w + delta, scale.float(), 1, not by_column)))

    def loha(self, layer, rows, cols, core=False):
        key = self.key(layer) + ".hada_"
        a = [self.put(key + n, *((RANK, rows) if core else (rows, RANK)), size=0.6) for n in ("w1_a", "w2_a")]
        b = [self.put(key + n, RANK, cols, size=0.6) for n in ("w1_b", "w2_b")]
        t = [self.put(key + n, RANK, RANK, 1, 1, size=0.7) if core else None for n in ("t1", "t2")]
        self.file[self.key(layer) + ".alpha"] = torch.tensor(ALPHA)
        delta = loha_difference(b[0], a[0], b[1], a[1], *t, gamma=torch.tensor(ALPHA / RANK)).reshape(rows, cols)
        self.changes.append((layer + ".weight", lambda w: w + delta))
        return delta

    def lokr(self, layer, first, second, low=(False, False), core=False, alpha=ALPHA):
        """first, second: shapes of the factors; low: which of them are products."""
        key, parts = self.key(layer) + ".lokr_", []
        for number, (rows, cols), product in zip("12", (first, second), low):
            if product:
                a = self.put(f"{key}w{number}_a", *((RANK, rows) if core and number == "2" else (rows, RANK)), size=0.5)
                parts += [None, a, self.put(f"{key}w{number}_b", RANK, cols, size=0.5)]
            else:
                parts += [self.put(f"{key}w{number}", rows, cols), None, None]
        t = self.put(key + "t2", RANK, RANK, 1, 1, size=0.7) if core else None
        self.file[self.key(layer) + ".alpha"] = torch.tensor(alpha)
        scale = alpha / RANK if any(low) else 1.0
        delta = kron_weight(*parts, t, scale=scale).reshape(first[0] * second[0], first[1] * second[1])
        self.changes.append((layer + ".weight", lambda w: w + delta))
        return delta

    def rotation(self, layer, rows, blocks, limit=0.0, key=None, part=None):
        """LyCORIS' OFT, with one size more its BOFT; kohya's of a part, (number, rows before it)."""
        key, before = key or self.key(layer), part[1] if part else 0
        b = self.put(f"{key}.oft_blocks" + (f".{part[0]}" if part else ""), *blocks, size=0.3)
        r = self.put(f"{key}.rescale", rows, 1, size=0.1) + 1 if not part else None
        if r is not None:
            self.file[f"{key}.rescale"] = r.half()
            r = r.half().float()
        self.file[f"{key}.alpha"] = torch.tensor(limit)

        def change(w):
            own = w[before : before + rows]
            new = own + (boft_difference(own, b, r, limit * rows, 1) if len(blocks) == 4 else oft_difference(own, b, r, limit * rows))
            return torch.cat([w[:before], new, w[before + rows :]])

        self.changes.append((layer + ".weight", change))

    def rotated_input(self, layer, cols, blocks, width):
        """PEFT's OFT, and OneTrainer's."""
        stored = self.put(self.key(layer) + ".oft_R.weight", blocks, width * (width - 1) // 2, size=0.1)
        module = OFTRotationModule(blocks, stored.shape[1], width, cols, block_share=blocks == 1)
        module.weight.copy_(stored)
        self.changes.append((layer + ".weight", lambda w: (module.get_weight() @ w.T).T))

    def glora(self, layer, rows, cols):
        shapes = {"a1": (cols, RANK), "a2": (RANK, cols), "b1": (rows, RANK), "b2": (RANK, cols)}
        a1, a2, b1, b2 = (self.put(f"{self.key(layer)}.{n}.weight", *s, size=0.2) for n, s in shapes.items())
        self.file[self.key(layer) + ".alpha"] = torch.tensor(ALPHA)
        self.changes.append((layer + ".weight", lambda w: w + _glora_weight(w, a1, a2, b1, b2, None, ALPHA / RANK)))

    def ia3(self, layer, count, on_input):
        factors = self.put(self.key(layer) + ".weight", count, size=0.4)
        self.file[self.key(layer) + ".on_input"] = torch.tensor(int(on_input))
        self.changes.append((layer + ".weight", lambda w: _ia3_weight(w, factors, on_input, 1, False)))

    def difference(self, layer, ending, *shape, target=None):
        d = self.put(f"{self.key(layer)}.{ending}", *shape, size=0.1)
        self.changes.append((target or f"{layer}.{'bias' if ending in ('diff_b', 'b_norm') else 'weight'}", lambda w: w + d))


# ---- families whose layers have BFL's names (the transformer's, without a prefix) or their own ----

def kohya():
    f = Family(1, "lora_unet_", flat=True)
    f.pair("double_blocks.0.img_attn.qkv", 3 * HIDDEN, HIDDEN)
    f.pair("double_blocks.0.txt_mlp.2", HIDDEN, 4 * HIDDEN)
    f.pair("double_blocks.0.img_mod.lin", 6 * HIDDEN, HIDDEN)
    f.pair("single_blocks.0.linear2", HIDDEN, 5 * HIDDEN)
    f.pair("text_model.encoder.layers.1.mlp.fc2", 32, 64, key="lora_te1_text_model_encoder_layers_1_mlp_fc2")
    return f


def kohya_ends():
    """What diffusers drops of kohya's: the layers outside of the blocks, CLIP's attention beside its MLP, and T5; and linear1, of which it knows the real model's size alone."""
    f = Family(2, "lora_unet_", flat=True)
    f.pair("single_blocks.0.linear1", 7 * HIDDEN, HIDDEN)
    f.pair("img_in", HIDDEN, PIXELS)
    f.pair("txt_in", HIDDEN, TEXT, alpha=0.5)
    f.pair("time_in.in_layer", HIDDEN, 256)
    f.pair("vector_in.out_layer", HIDDEN, HIDDEN, rank=5)
    f.pair("guidance_in.in_layer", HIDDEN, 256)
    f.pair("final_layer.linear", PIXELS, HIDDEN)
    f.pair("final_layer.adaLN_modulation.1", 2 * HIDDEN, HIDDEN)
    f.pair("text_model.encoder.layers.0.self_attn.q_proj", 32, 32, key="lora_te1_text_model_encoder_layers_0_self_attn_q_proj")
    f.pair("encoder.block.0.layer.0.SelfAttention.q", 32, 32, key="lora_te3_encoder_block_0_layer_0_SelfAttention_q")
    f.pair("encoder.block.1.layer.1.DenseReluDense.wo", 32, 256, key="lora_te3_encoder_block_1_layer_1_DenseReluDense_wo")
    return f


PEFT = ("lora_A.weight", "lora_B.weight")


def peft():
    """Ranks, alphas and rslora in the metadata, as save_lora_weights writes them."""
    f = Family(3, "transformer.")
    f.pair("transformer_blocks.0.attn.to_k", HIDDEN, HIDDEN, names=PEFT, alpha=None)
    f.pair("transformer_blocks.0.attn.to_add_out", HIDDEN, HIDDEN, names=PEFT, alpha=None)
    f.pair("single_transformer_blocks.0.proj_mlp", 4 * HIDDEN, HIDDEN, names=PEFT, alpha=None, rank=5)
    f.pair("single_transformer_blocks.0.proj_out", HIDDEN, 5 * HIDDEN, names=PEFT, alpha=None)
    f.pair("x_embedder", HIDDEN, PIXELS, names=PEFT, alpha=None)
    f.pair("text_model.encoder.layers.0.self_attn.v_proj", 32, 32, names=PEFT, alpha=None, key="text_encoder.text_model.encoder.layers.0.self_attn.v_proj")
    targets = ["transformer_blocks.0.attn.to_k", "attn.to_add_out", "proj_mlp", "single_transformer_blocks.0.proj_out", "x_embedder"]
    f.metadata = {"transformer.r": RANK, "transformer.lora_alpha": 6, "transformer.rank_pattern": {"proj_mlp": 5}, "transformer.alpha_pattern": {"proj_mlp": 4, "attn.to_k": 2},
                  "transformer.use_rslora": True, "transformer.target_modules": targets, "transformer.use_dora": False, "transformer.lora_bias": False,
                  "text_encoder.r": RANK, "text_encoder.lora_alpha": 2, "text_encoder.rank_pattern": {}, "text_encoder.alpha_pattern": {},
                  "text_encoder.target_modules": ["encoder.layers.0.self_attn.v_proj"], "text_encoder.use_dora": False, "text_encoder.lora_bias": False}
    return f


def peft_dora():
    f = Family(4, "transformer.")
    for layer, rows, cols in (("transformer_blocks.0.attn.to_q", HIDDEN, HIDDEN), ("single_transformer_blocks.0.proj_out", HIDDEN, 5 * HIDDEN)):
        f.pair(layer, rows, cols, names=PEFT, alpha=None)
        f.file[f.key(layer) + ".lora_magnitude_vector"] = (torch.rand(rows, generator=f.random) + 0.3).half()
    f.metadata = {"transformer.r": RANK, "transformer.lora_alpha": 2, "transformer.rank_pattern": {}, "transformer.alpha_pattern": {}, "transformer.use_dora": True,
                  "transformer.target_modules": ["transformer_blocks.0.attn.to_q", "single_transformer_blocks.0.proj_out"], "transformer.lora_bias": False}
    return f


def ai_toolkit():
    f = Family(5, "transformer.")
    for layer, rows, cols in (("transformer_blocks.0.attn.to_q", HIDDEN, HIDDEN), ("transformer_blocks.0.ff.net.0.proj", 4 * HIDDEN, HIDDEN),
                              ("transformer_blocks.0.norm1_context.linear", 6 * HIDDEN, HIDDEN), ("single_transformer_blocks.0.norm.linear", 3 * HIDDEN, HIDDEN)):
        f.pair(layer, rows, cols, names=PEFT, alpha=None)
    return f


def comfy():
    f = Family(6, "diffusion_model.")
    f.pair("double_blocks.0.txt_attn.qkv", 3 * HIDDEN, HIDDEN)
    f.pair("double_blocks.0.img_mlp.0", 4 * HIDDEN, HIDDEN)
    f.pair("single_blocks.0.modulation.lin", 3 * HIDDEN, HIDDEN)
    f.pair("single_blocks.0.linear2", HIDDEN, 5 * HIDDEN)
    return f


def comfy_text():
    """Comfy's keys of lora_A and of both text encoders, and PEFT's biases."""
    f = Family(7, "diffusion_model.")
    f.pair("double_blocks.0.img_attn.proj", HIDDEN, HIDDEN, names=PEFT, alpha=None, bias=True)
    f.pair("single_blocks.0.linear2", HIDDEN, 5 * HIDDEN, names=PEFT, bias=True)
    f.pair("double_blocks.0.txt_attn.qkv", 3 * HIDDEN, HIDDEN, names=PEFT, bias=True)
    f.pair("text_model.encoder.layers.0.mlp.fc1", 64, 32, key="text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1")
    f.pair("encoder.block.0.layer.0.SelfAttention.v", 32, 32, key="text_encoders.t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.v")
    return f


def comfy_tables():
    """What ComfyUI's extraction makes of tables, in which rows are looked up: nothing is multiplied there that a pair could run beside."""
    f = Family(17)
    for part, layer, rows, cols in (("clip_l", "text_model.embeddings.position_embedding", 77, 32), ("clip_l", "text_model.embeddings.token_embedding", 500, 32),
                                    ("t5xxl", "shared", 416, 32), ("t5xxl", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias", 32, 2)):
        f.pair(layer, rows, cols, key=f"text_encoders.{part}.transformer.{layer}")
    return f


def onetrainer():
    f = Family(8, "lora_transformer_", flat=True)
    f.pair("transformer_blocks.0.attn.to_out.0", HIDDEN, HIDDEN)
    f.pair("transformer_blocks.0.ff_context.net.2", HIDDEN, 4 * HIDDEN)
    f.pair("time_text_embed.timestep_embedder.linear_2", HIDDEN, HIDDEN)
    f.pair("proj_out", PIXELS, HIDDEN)
    f.pair("norm_out.linear", 2 * HIDDEN, HIDDEN)
    f.pair("text_model.encoder.layers.1.self_attn.out_proj", 32, 32, key="lora_te1_text_model_encoder_layers_1_self_attn_out_proj")
    f.pair("encoder.block.1.layer.0.SelfAttention.o", 32, 32, key="lora_te2_encoder_block_1_layer_0_SelfAttention_o")
    return f


def xlabs():
    f, names = Family(9), ("down.weight", "up.weight")
    for key, layer, rows in (("double_blocks.0.processor.qkv_lora1", "double_blocks.0.img_attn.qkv", 3), ("double_blocks.0.processor.qkv_lora2", "double_blocks.0.txt_attn.qkv", 3),
                             ("double_blocks.0.processor.proj_lora1", "double_blocks.0.img_attn.proj", 1), ("double_blocks.0.processor.proj_lora2", "double_blocks.0.txt_attn.proj", 1)):
        f.pair(layer, rows * HIDDEN, HIDDEN, names=names, alpha=None, key=key)
    return f


def fal():
    f = Family(10, "base_model.model.")
    f.pair("double_blocks.0.img_attn.proj", HIDDEN, HIDDEN, names=PEFT, alpha=None)
    f.pair("single_blocks.0.linear1", 7 * HIDDEN, HIDDEN, names=PEFT, alpha=None)
    f.pair("final_layer.linear", PIXELS, HIDDEN, names=PEFT, alpha=None)
    return f


def diffsynth():
    f, names = Family(11), ("lora_A.default.weight", "lora_B.default.weight")
    f.pair("transformer_blocks.0.attn.add_k_proj", HIDDEN, HIDDEN, names=names, alpha=None)
    f.pair("single_transformer_blocks.0.proj_mlp", 4 * HIDDEN, HIDDEN, names=names, alpha=None)
    f.pair("proj_out", PIXELS, HIDDEN, names=names, alpha=None)
    return f


# ---- kinds ----

def loha():
    f = Family(12, "lora_unet_", flat=True)
    f.loha("double_blocks.0.img_attn.qkv", 3 * HIDDEN, HIDDEN)
    f.loha("single_blocks.0.linear2", HIDDEN, 5 * HIDDEN, core=True)
    f.loha("final_layer.adaLN_modulation.1", 2 * HIDDEN, HIDDEN)
    f.prefix = "lora_te1_"
    f.loha("text_model.encoder.layers.0.mlp.fc2", 32, 64)
    return f


def lokr():
    """SimpleTuner's names: diffusers' behind lycoris_."""
    f = Family(13, "lycoris_", flat=True)
    f.lokr("transformer_blocks.0.attn.to_q", (8, 8), (8, 8), alpha=1e10)
    f.lokr("transformer_blocks.0.ff.net.0.proj", (16, 8), (16, 8), low=(False, True))
    f.lokr("single_transformer_blocks.0.proj_mlp", (16, 8), (16, 8), low=(True, True))
    f.lokr("single_transformer_blocks.0.proj_out", (4, 16), (16, 20), low=(False, True), core=True)
    f.lokr("norm_out.linear", (2, 4), (64, 16), low=(True, False))
    return f


def dora():
    f = Family(14, "lora_unet_", flat=True)
    f.dora("double_blocks.0.img_attn.qkv", 3 * HIDDEN, HIDDEN)
    f.dora("single_blocks.0.linear1", 7 * HIDDEN, HIDDEN, by_column=True)
    f.dora("single_blocks.0.linear2", HIDDEN, 5 * HIDDEN, mid=True)
    f.dora("double_blocks.0.txt_attn.proj", HIDDEN, HIDDEN, by_column=True)
    f.dora("final_layer.adaLN_modulation.1", 2 * HIDDEN, HIDDEN)
    delta = f.loha("double_blocks.0.img_mlp.0", 4 * HIDDEN, HIDDEN)
    f.changes.pop()
    f.magnitude("double_blocks.0.img_mlp.0", delta, (4 * HIDDEN, 1), False)
    return f


def full():
    f = Family(15, "diffusion_model.")
    f.difference("double_blocks.0.txt_attn.qkv", "diff", 3 * HIDDEN, HIDDEN)
    f.difference("double_blocks.0.txt_attn.qkv", "diff_b", 3 * HIDDEN)
    f.difference("single_blocks.0.linear1", "diff_b", 7 * HIDDEN)
    f.difference("final_layer.adaLN_modulation.1", "diff_b", 2 * HIDDEN)
    f.difference("final_layer.adaLN_modulation.1", "diff", 2 * HIDDEN, HIDDEN)
    f.difference("double_blocks.0.img_attn.norm.query_norm", "diff", 32, target="double_blocks.0.img_attn.norm.query_norm.scale")
    f.difference("double_blocks.0.txt_attn.norm.key_norm.scale", "w_norm", 32, target="double_blocks.0.txt_attn.norm.key_norm.scale")
    f.difference("single_blocks.0.norm.key_norm", "w_norm", 32, target="single_blocks.0.norm.key_norm.scale")
    f.prefix, f.flat = "lora_te1_", True
    f.difference("text_model.encoder.layers.0.layer_norm1", "w_norm", 32)
    f.difference("text_model.encoder.layers.0.layer_norm1", "b_norm", 32)
    f.difference("text_model.encoder.layers.1.mlp.fc1", "diff_b", 64)
    f.prefix = "lora_te3_"
    f.difference("encoder.block.1.layer.1.layer_norm", "w_norm", 32)
    f.difference("encoder.block.0.layer.1.DenseReluDense.wi_0", "diff", 256, 32)
    return f


def oft():
    """LyCORIS' with blocks that lie in two of q, k and v, kohya's with the parts of linear1 apart, PEFT's."""
    f = Family(18, "lora_unet_", flat=True)
    f.rotation("double_blocks.0.img_attn.qkv", 3 * HIDDEN, (8, 24, 24), limit=0.05)
    f.rotation("final_layer.adaLN_modulation.1", 2 * HIDDEN, (16, 8, 8))
    f.rotation("double_blocks.0.txt_mlp.0", 4 * HIDDEN, (64, 4, 4), limit=0.02)
    for part, rows in enumerate((HIDDEN, HIDDEN, HIDDEN, 4 * HIDDEN)):
        f.rotation("single_blocks.0.linear1", rows, (4, rows // 4, rows // 4), limit=0.2, key="oft_unet_single_blocks_0_linear1", part=(part, part * HIDDEN))
    f.rotated_input("double_blocks.0.txt_attn.qkv", HIDDEN, 4, 16)
    f.rotated_input("single_blocks.0.linear2", 5 * HIDDEN, 1, 20)
    f.rotated_input("img_in", PIXELS, 1, PIXELS)
    f.prefix = "lora_te1_"
    f.rotation("text_model.encoder.layers.0.mlp.fc1", 64, (8, 8, 8))
    f.prefix = "lora_te3_"
    f.rotated_input("encoder.block.0.layer.1.DenseReluDense.wo", 256, 32, 8)
    return f


def boft():
    """BOFT, GLoRA and (IA)^3."""
    f = Family(19, "lora_unet_", flat=True)
    f.rotation("double_blocks.0.img_attn.qkv", 3 * HIDDEN, (4, 32, 6, 6), limit=0.05)
    f.rotation("final_layer.adaLN_modulation.1", 2 * HIDDEN, (3, 16, 8, 8))
    f.rotation("single_blocks.0.linear1", 7 * HIDDEN, (2, 32, 14, 14), limit=0.1)
    f.glora("double_blocks.0.txt_attn.qkv", 3 * HIDDEN, HIDDEN)
    f.glora("single_blocks.0.linear2", HIDDEN, 5 * HIDDEN)
    f.ia3("double_blocks.0.img_mlp.0", HIDDEN, True)
    f.ia3("double_blocks.0.img_mlp.2", HIDDEN, False)
    f.ia3("double_blocks.0.txt_mlp.2", 4 * HIDDEN, True)
    f.prefix = "lora_te1_"
    f.ia3("text_model.encoder.layers.1.mlp.fc2", 32, False)
    f.prefix = "lora_te3_"
    f.glora("encoder.block.1.layer.0.SelfAttention.q", 32, 32)
    return f


def mixed():
    f = Family(16, "lora_unet_", flat=True)
    f.pair("double_blocks.0.img_attn.qkv", 3 * HIDDEN, HIDDEN)
    f.pair("final_layer.linear", PIXELS, HIDDEN)
    f.dora("double_blocks.0.img_mlp.2", HIDDEN, 4 * HIDDEN)
    f.loha("single_blocks.0.linear1", 7 * HIDDEN, HIDDEN)
    f.lokr("double_blocks.0.txt_attn.qkv", (12, 8), (16, 8), low=(False, True))
    f.difference("double_blocks.0.txt_mlp.0", "diff_b", 4 * HIDDEN)
    f.difference("single_blocks.0.linear1", "diff_b", 7 * HIDDEN)
    f.prefix = "lora_te1_"
    f.pair("text_model.encoder.layers.0.self_attn.k_proj", 32, 32)
    f.prefix = "lora_te3_"
    f.loha("encoder.block.0.layer.0.SelfAttention.k", 32, 32)
    return f


FAMILIES = (kohya, kohya_ends, peft, peft_dora, ai_toolkit, comfy, comfy_text, comfy_tables, onetrainer, xlabs, fal, diffsynth, loha, lokr, dora, oft, boft, full, mixed)
MAPPED = ("kohya", "peft", "peft_dora", "ai_toolkit", "comfy", "xlabs")
AT_ONE = ("peft_dora",)  # PEFT puts the strength inside of the norm: another definition, but for 1


# ---- pictures ----

def put_states(pipe, s):
    for part, values in s.items():
        _, unexpected = getattr(pipe, part).load_state_dict(values, strict=False)
        assert not unexpected, (part, unexpected)


def changed(f, base, strength):
    s = {part: dict(values) for part, values in base.items()}
    bfl = other_names.transformer_to_bfl(s["transformer"])
    for name, change in f.changes:
        place = next(p for p in (bfl, s["transformer"], s["text_encoder"], s["text_encoder_2"]) if name in p)
        place[name] = place[name] + strength * (change(place[name]) - place[name])
        if place is bfl:
            s["transformer"] = file_goldens.from_bfl(bfl, s["transformer"])
        else:
            bfl = other_names.transformer_to_bfl(s["transformer"])
    return s


def write(name, f):
    os.makedirs(FILES, exist_ok=True)
    path = os.path.join(FILES, name + ".safetensors")
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(f.metadata, sort_keys=True)} if hasattr(f, "metadata") else None
    save_file({k: v.contiguous() for k, v in f.file.items()}, path, metadata=metadata)
    if metadata:
        record.sort_metadata(path)
    os.chmod(path, 0o644)
    return path


def keep(name, pipe, plain, strength=STRENGTH):
    picture = record.run(pipe, file_goldens.CASE)["image"]
    seen = (picture.int() - plain.int()).abs().max().item()
    print(f"{name}: {seen} from the plain picture")
    assert seen >= 12, name
    record.save(os.path.join(GOLDENS, name + ".safetensors"), {"image": picture, "strength": torch.tensor([strength])}, file_goldens.CASE)


def by_diffusers(pipe, path, strength):
    pipe.load_lora_weights(os.path.dirname(path), weight_name=os.path.basename(path), adapter_name="it")
    pipe.set_adapters(["it"], [strength])


def forms(base):
    """The dequantised values of file_goldens.py's forms."""
    with tempfile.TemporaryDirectory() as folder:
        file_goldens.FILES = folder
        for form, make in (("comfy", file_goldens.make_comfy), ("gguf", file_goldens.make_gguf), ("bnb", file_goldens.make_bnb)):
            s = {p: {k: v.float().clone() for k, v in base[p].items()} for p in file_goldens.PARTS}
            make(s)
            yield form, s


def main(only):
    pipe = record.load(file_goldens.PIPELINE)
    base = {p: {k: v.float() for k, v in values.items()} for p, values in file_goldens.states(pipe).items()}
    plain = record.run(pipe, file_goldens.CASE)["image"]
    for family in FAMILIES:
        f, name = family(), family.__name__
        if only and name not in only:
            continue
        path, strength = write(name, f), 1.0 if name in AT_ONE else STRENGTH
        if name in MAPPED:
            by_diffusers(pipe, path, strength)
        else:
            put_states(pipe, changed(f, base, strength))
        keep(name, pipe, plain, strength)
        if name in MAPPED:
            pipe.unload_lora_weights()
        put_states(pipe, base)
    for form, s in forms(base) if "mixed" in (only or ["mixed"]) else ():
        put_states(pipe, s)
        plain = record.run(pipe, file_goldens.CASE)["image"]
        put_states(pipe, changed(mixed(), s, STRENGTH))
        keep(form + "_mixed", pipe, plain)


if __name__ == "__main__":
    main(sys.argv[1:])
