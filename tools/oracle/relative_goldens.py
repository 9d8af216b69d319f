"""Adapters whose difference is made of the weight too (OFT, BOFT, GLoRA, (IA)^3, LoHa and LoKr with DoRA's magnitudes), over a few layers of odd sizes, and the weights that LyCORIS and PEFT make of them.

usage: relative_goldens.py

tests/data/files/lora/relative/model.safetensors: the layers, in diffusers' names; <case>.safetensors: a file of adapters.
tests/data/goldens/relative/<case>.safetensors: each weight that the case changes, at strength 1, in float32.
kohya's OFT is LyCORIS' for each part of a fused layer (sd-scripts: networks/oft_flux.py).
"""
import environment
import json
import os

import peft.tuners.boft.layer
import record
import torch
from lycoris.functional.boft import _diff_weight as boft_difference
from lycoris.functional.diag_oft import _diff_weight as oft_difference
from lycoris.functional.general import weight_decompose
from lycoris.functional.loha import diff_weight as loha_difference
from lycoris.functional.lokr import kron_weight
from lycoris.modules.diag_oft import DiagOFTModule
from lycoris.modules.glora import _glora_weight
from lycoris.modules.ia3 import _ia3_weight
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from peft import BOFTConfig, IA3Config
from peft.tuners.ia3.layer import Linear as IA3Linear
from peft.tuners.oft.layer import OFTRotationModule
from safetensors.torch import save_file

FILES, GOLDENS = (os.path.join(environment.TEST_DATA, *p) for p in (("files", "lora", "relative"), ("goldens", "relative")))
DOUBLE, SINGLE = "transformer_blocks.0.attn.", "single_transformer_blocks.0."
LAYERS = {DOUBLE + "to_q": (12, 10), DOUBLE + "to_k": (12, 10), DOUBLE + "to_v": (12, 10),
          SINGLE + "attn.to_q": (12, 10), SINGLE + "attn.to_k": (12, 10), SINGLE + "attn.to_v": (12, 10), SINGLE + "proj_mlp": (48, 10),
          "norm_out.linear": (20, 8), "proj_out": (14, 12), "x_embedder": (16, 12)}
WIDE = {"context_embedder": (72, 9), "time_text_embed.text_embedder.linear_1": (9, 40)}
QKV = [DOUBLE + n for n in ("to_q", "to_k", "to_v")]
LINEAR1 = [SINGLE + n for n in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")]


class Case:
    def __init__(self, seed, model):
        self.random = torch.Generator().manual_seed(seed)
        self.model, self.file, self.golden, self.metadata = model, {}, {}, None

    def put(self, key, *shape, size=0.4, plus=0.0, dtype=torch.float16):
        self.file[key] = (torch.randn(shape, generator=self.random) * size + plus).to(dtype)
        return self.file[key].float()

    def number(self, key, value):
        self.file[key] = torch.tensor(value)
        return value

    def weight(self, layers):
        return torch.cat([self.model[layer + ".weight"] for layer in layers])

    def change(self, layers, new, swapped=False):
        """new: of the layers' weights below each other; swapped: BFL has their halves the other way round."""
        w = self.weight(layers)
        w = new(w.roll(w.shape[0] // 2, 0)).roll(w.shape[0] // 2, 0) if swapped else new(w)
        for layer, part in zip(layers, w.split([(LAYERS | WIDE)[layer][0] for layer in layers])):
            self.golden[layer + ".weight"] = part.contiguous()


# ---- LyCORIS and kohya ----

def lycoris_oft(case, key, layers, blocks, limit, rescale=False, swapped=False):
    """limit: times the rows it is LyCORIS' constraint (DiagOFTModule.__init__)."""
    b = case.put(key + ".oft_blocks", *blocks)
    rows = blocks[0] * blocks[1]
    r = case.put(key + ".rescale", rows, 1, size=0.2, plus=1) if rescale else None
    case.number(key + ".alpha", limit)
    case.change(layers, lambda w: w + oft_difference(w, b, r, limit * rows), swapped)


def oft(model):
    case = Case(1, model)
    lycoris_oft(case, "lora_unet_double_blocks_0_img_attn_qkv", QKV, (4, 9, 9), 0.05, rescale=True)
    lycoris_oft(case, "lora_unet_final_layer_adaLN_modulation_1", ["norm_out.linear"], (5, 4, 4), 0.0, swapped=True)
    lycoris_oft(case, "lora_unet_final_layer_linear", ["proj_out"], (2, 7, 7), 100.0)
    lycoris_oft(case, "lora_unet_img_in", ["x_embedder"], (4, 4, 4), 0.02, rescale=True)
    layer = torch.nn.Linear(12, 16)
    layer.weight.copy_(model["x_embedder.weight"])
    names = ("oft_blocks", "rescale", "alpha")
    module = DiagOFTModule.make_module_from_state_dict("x", layer, *(case.file["lora_unet_img_in." + n].float() for n in names))
    assert torch.equal(module.get_merged_weight()[0], case.golden["x_embedder.weight"])
    return case


def oft_wide(model):
    """Blocks wider than what is eliminated, or multiplied, at once."""
    case = Case(20, model)
    lycoris_oft(case, "lora_unet_txt_in", ["context_embedder"], (1, 72, 72), 0.0)
    peft_rotation(case, "time_text_embed.text_embedder.linear_1", "transformer.time_text_embed.text_embedder.linear_1", 1, 40, size=0.04)
    return case


def oft_kohya(model):
    case = Case(2, model)
    for key, layers, blocks, limit in (("double_blocks_0_img_attn_qkv", QKV, 2, 0.05), ("single_blocks_0_linear1", LINEAR1, 4, 10.0), ("final_layer_linear", ["proj_out"], 7, 0.1)):
        case.number(f"oft_unet_{key}.alpha", limit)
        for i, layer in enumerate(layers):
            rows = LAYERS[layer][0]
            b = case.put(f"oft_unet_{key}.oft_blocks.{i}", blocks, rows // blocks, rows // blocks)
            case.change([layer], lambda w: w + oft_difference(w, b, None, limit * rows))
    return case


def lycoris_boft(case, key, layers, blocks, limit, rescale=False, swapped=False):
    b = case.put(key + ".oft_blocks", *blocks)
    rows = blocks[1] * blocks[2]
    r = case.put(key + ".rescale", rows, 1, size=0.2, plus=1) if rescale else None
    case.number(key + ".alpha", limit)
    case.change(layers, lambda w: w + boft_difference(w, b, r, limit * rows, 1), swapped)


def boft(model):
    case = Case(3, model)
    lycoris_boft(case, "lora_unet_double_blocks_0_img_attn_qkv", QKV, (2, 6, 6, 6), 0.04, rescale=True)
    lycoris_boft(case, "lora_unet_final_layer_adaLN_modulation_1", ["norm_out.linear"], (2, 2, 10, 10), 0.0, swapped=True)
    lycoris_boft(case, "lora_unet_final_layer_linear", ["proj_out"], (1, 7, 2, 2), 0.0, rescale=True)
    lycoris_boft(case, "lora_unet_img_in", ["x_embedder"], (4, 8, 2, 2), 0.0)
    lycoris_boft(case, "lora_unet_single_blocks_0_linear1", LINEAR1, (2, 42, 2, 2), 100.0)
    lycoris_boft(case, "lora_unet_txt_in", ["context_embedder"], (1, 12, 6, 6), 0.0)
    return case


def glora(model):
    case = Case(4, model)
    for key, layers, rank, old in (("double_blocks_0_img_attn_qkv", QKV, 3, False), ("final_layer_linear", ["proj_out"], 2, True), ("final_layer_adaLN_modulation_1", ["norm_out.linear"], 4, False)):
        key, (rows, cols) = "lora_unet_" + key, case.weight(layers).shape
        shapes = {"a1": (cols, rank), "a2": (rank, cols), "b1": (rows, rank), "b2": (rank, cols)}
        a1, a2, b1, b2 = (case.put(f"{key}.{n}.weight", *s) for n, s in shapes.items())
        if old:  # the factors have each other's names
            for one, other in (("a1", "a2"), ("b1", "b2")):
                one, other = f"{key}.{one}.weight", f"{key}.{other}.weight"
                case.file[one], case.file[other] = case.file[other], case.file[one]
        alpha = case.number(key + ".alpha", 1.5)
        case.change(layers, lambda w: w + _glora_weight(w, a1, a2, b1, b2, None, alpha / rank), swapped="adaLN" in key)
    return case


def ia3(model):
    case = Case(5, model)
    for key, layers, on_input in (("double_blocks_0_img_attn_qkv", QKV, 1), ("final_layer_linear", ["proj_out"], 0), ("final_layer_adaLN_modulation_1", ["norm_out.linear"], 0)):
        key, (rows, cols) = "lora_unet_" + key, case.weight(layers).shape
        factors = case.put(key + ".weight", cols if on_input else rows)
        case.number(key + ".on_input", on_input)
        case.change(layers, lambda w: _ia3_weight(w, factors, bool(on_input), 1, False), swapped="adaLN" in key)
    return case


# ---- LyCORIS' magnitudes, by row and, with wd_on_output false, by column ----

def decomposed(case, key, layers, difference, on_output, swapped=False):
    rows, cols = case.weight(layers).shape
    scale = case.put(key + ".dora_scale", *((rows, 1) if on_output else (1, cols)), size=0.3, plus=1.5)
    case.change(layers, lambda w: weight_decompose(w + difference, scale, 1, on_output), swapped)


def as_module(case, kind, key, layer, names):
    """The module that LyCORIS makes of the file has the same weight."""
    base = torch.nn.Linear(*reversed(LAYERS[layer]))
    base.weight.copy_(case.model[layer + ".weight"])
    tensors = [case.file[f"{key}.{n}"].float() if f"{key}.{n}" in case.file else None for n in names]
    merged = kind.make_module_from_state_dict("x", base, *tensors).get_merged_weight()[0]
    assert torch.allclose(merged, case.golden[layer + ".weight"], rtol=1e-6, atol=1e-6)


def doha(model):
    case, rank = Case(21, model), 3
    for key, layers, on_output in (("double_blocks_0_img_attn_qkv", QKV, False), ("single_blocks_0_linear1", LINEAR1, True), ("final_layer_adaLN_modulation_1", ["norm_out.linear"], True),
                                   ("final_layer_linear", ["proj_out"], True), ("img_in", ["x_embedder"], False)):
        key, (rows, cols) = "lora_unet_" + key, case.weight(layers).shape
        a1, b1, a2, b2 = (case.put(f"{key}.hada_{n}", *s, size=0.6) for n, s in (("w1_a", (rows, rank)), ("w1_b", (rank, cols)), ("w2_a", (rows, rank)), ("w2_b", (rank, cols))))
        # LyCORIS' module multiplies by the scale twice, so only a scale of 1 can be compared with it
        alpha = case.number(key + ".alpha", float(rank) if layers == ["proj_out"] else 2.0)
        decomposed(case, key, layers, loha_difference(b1, a1, b2, a2, None, None, gamma=torch.tensor(alpha / rank)), on_output, swapped="adaLN" in key)
    as_module(case, LohaModule, "lora_unet_final_layer_linear", "proj_out", ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2", "alpha", "dora_scale"))
    return case


def dokr(model):
    """The second factor whole, or of two."""
    case, rank = Case(22, model), 2
    for key, layers, first, low, on_output in (("double_blocks_0_img_attn_qkv", QKV, (6, 5), True, True), ("final_layer_adaLN_modulation_1", ["norm_out.linear"], (4, 2), True, False),
                                               ("final_layer_linear", ["proj_out"], (2, 3), False, True), ("img_in", ["x_embedder"], (4, 3), True, False)):
        key, (rows, cols) = "lora_unet_" + key, case.weight(layers).shape
        high, wide = rows // first[0], cols // first[1]
        one = case.put(key + ".lokr_w1", *first)
        two = None if low else case.put(key + ".lokr_w2", high, wide)
        a, b = (case.put(key + ".lokr_w2_a", high, rank), case.put(key + ".lokr_w2_b", rank, wide)) if low else (None, None)
        alpha = case.number(key + ".alpha", 1.0)
        difference = kron_weight(one, None, None, two, a, b, None, scale=alpha / rank if low else 1.0).reshape(rows, cols)
        decomposed(case, key, layers, difference, on_output, swapped="adaLN" in key)
    as_module(case, LokrModule, "lora_unet_final_layer_linear", "proj_out", ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t1", "lokr_t2", "alpha", "dora_scale"))
    return case


# ---- PEFT ----

def peft_rotation(case, layer, key, blocks, width, size=0.2, **config):
    cols = (LAYERS | WIDE)[layer][1]
    stored = case.put(key + ".oft_R.weight", blocks, width * (width - 1) // 2, size=size)
    module = OFTRotationModule(blocks, stored.shape[1], width, cols, block_share=blocks == 1, **config)
    module.weight.copy_(stored)
    case.change([layer], lambda w: (module.get_weight() @ w.T).T)


def oft_peft(model):
    """As OneTrainer's, without a configuration."""
    case = Case(6, model)
    peft_rotation(case, DOUBLE + "to_q", f"transformer.{DOUBLE}to_q", 2, 5)
    peft_rotation(case, "proj_out", "lora_transformer_proj_out", 1, 4)
    peft_rotation(case, "x_embedder", "transformer.x_embedder", 1, 12)
    peft_rotation(case, "norm_out.linear", "transformer.norm_out.linear", 4, 2)
    return case


def oft_exact(model):
    case = Case(7, model)
    config = {"use_cayley_neumann": False, "coft": True, "eps": 0.3}
    case.metadata = {"transformer." + k: v for k, v in config.items()} | {"transformer.peft_type": "OFT"}
    peft_rotation(case, DOUBLE + "to_q", f"transformer.{DOUBLE}to_q", 2, 5, **config)
    peft_rotation(case, "proj_out", "transformer.proj_out", 1, 4, **config)
    peft_rotation(case, "x_embedder", "transformer.x_embedder", 3, 4, **config)
    return case


def oft_terms(terms):
    def make(model):
        case = Case(10 + terms, model)
        case.metadata = {"transformer.num_cayley_neumann_terms": terms, "transformer.peft_type": "OFT"}
        peft_rotation(case, "proj_out", "transformer.proj_out", 3, 4, num_cayley_neumann_terms=terms)
        return case
    make.__name__ = f"oft_terms_{terms}"
    return make


class Blocks:
    """In place of PEFT's extension for GPUs, without which it has one stage only."""

    def forward(self, r):
        return [torch.stack([torch.block_diag(*stage.unbind()) for stage in r])]


def boft_peft(model):
    case = Case(8, model)
    peft.tuners.boft.layer.get_fbd_cuda = lambda: Blocks()
    for layer, stages, blocks, width in (("x_embedder", 2, 2, 6), ("norm_out.linear", 3, 4, 2), ("proj_out", 1, 4, 3), (DOUBLE + "to_k", 1, 1, 10)):
        rows, cols = LAYERS[layer]
        base = torch.nn.Linear(cols, rows)
        base.weight.copy_(model[layer + ".weight"])
        config = BOFTConfig(boft_block_size=width, boft_block_num=0, boft_n_butterfly_factor=stages)
        tuned = peft.tuners.boft.layer.Linear(base, "default", config)
        tuned.boft_R["default"].copy_(case.put(f"base_model.model.{layer}.boft_R", stages, blocks, width, width))
        tuned.boft_s["default"].copy_(case.put(f"base_model.model.{layer}.boft_s", rows, 1, size=0.2, plus=1))
        tuned.merge()
        case.golden[layer + ".weight"] = base.weight.detach().clone()
    return case


def ia3_peft(model):
    case = Case(9, model)
    for layer, on_input in (("proj_out", False), ("x_embedder", True)):
        rows, cols = LAYERS[layer]
        base = torch.nn.Linear(cols, rows)
        base.weight.copy_(model[layer + ".weight"])
        base.bias.copy_(model.get(layer + ".bias", torch.zeros(rows)))
        tuned = IA3Linear(base, "default", IA3Config(), is_feedforward=on_input)
        shape = (1, cols) if on_input else (rows, 1)
        tuned.ia3_l["default"].copy_(case.put(f"base_model.model.{layer}.ia3_l", *shape, size=0.3, plus=1))
        tuned.merge()
        case.golden[layer + ".weight"] = base.weight.detach().clone()
        if layer + ".bias" in model and not on_input:
            case.golden[layer + ".bias"] = base.bias.detach().clone()
    return case


class Trained(torch.nn.Module):
    """A model of some layers, by their names; Black Forest Labs' too."""

    def __init__(self, case, layers):
        super().__init__()
        for name, parts in layers.items():
            rows, cols = case.weight(parts).shape
            bias = case.model.get(parts[0] + ".bias")
            layer, (*above, last) = torch.nn.Linear(cols, rows, bias=bias is not None), name.split(".")
            layer.weight.copy_(case.weight(parts))
            if bias is not None:
                layer.bias.copy_(bias)
            at = self
            for step in above:
                if not hasattr(at, step):
                    at.add_module(step, torch.nn.Module())
                at = getattr(at, step)
            at.add_module(last, layer)


def trained_peft(case, layers, **config):
    """The file that PEFT makes of other values, without its pairs, which change nothing."""
    model = peft.get_peft_model(Trained(case, layers), peft.LoraConfig(r=1, **config))
    for name, p in model.named_parameters():
        if p.requires_grad and "lora_" not in name:
            p.add_(torch.randn(p.shape, generator=case.random) * 0.4)
    saved = peft.get_peft_model_state_dict(model)
    case.file = {k: v.detach().clone() for k, v in saved.items() if "lora_" not in k}
    merged = model.merge_and_unload().state_dict()
    for name, parts in layers.items():
        w = merged[name + ".weight"]
        w = w.roll(w.shape[0] // 2, 0) if "adaLN" in name else w
        for part, rows in zip(parts, w.split([LAYERS[part][0] for part in parts])):
            case.golden[part + ".weight"] = rows.contiguous()
        if name + ".bias" in merged:
            case.golden[name + ".bias"] = merged[name + ".bias"]
    return case


def whole_peft(model):
    """Modules that were trained whole."""
    layers = {"double_blocks.0.img_attn.qkv": QKV, "final_layer.adaLN_modulation.1": ["norm_out.linear"], "proj_out": ["proj_out"], "x_embedder": ["x_embedder"]}
    case = trained_peft(Case(23, model), layers, target_modules=["x_embedder"], modules_to_save=["qkv", "adaLN_modulation.1", "proj_out"])
    del case.golden["x_embedder.weight"]
    return case


def bias_peft(model):
    """The bias of a layer that has a pair."""
    case = trained_peft(Case(24, model), {"proj_out": ["proj_out"]}, target_modules=["proj_out"], bias="lora_only")
    del case.golden["proj_out.weight"]
    return case


CASES = (oft, oft_wide, oft_kohya, boft, glora, ia3, doha, dokr, oft_peft, oft_exact, oft_terms(1), oft_terms(2), oft_terms(3), oft_terms(6), boft_peft, ia3_peft, whole_peft, bias_peft)


def write(path, tensors, metadata=None):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, path, metadata=metadata)
    if metadata:
        record.sort_metadata(path)
    os.chmod(path, 0o644)


def main():
    random = torch.Generator().manual_seed(0)
    model = {layer + ".weight": torch.randn(shape, generator=random) for layer, shape in LAYERS.items()}
    model["proj_out.bias"] = torch.randn(14, generator=random)
    model |= {layer + ".weight": torch.randn(shape, generator=random) for layer, shape in WIDE.items()}
    write(os.path.join(FILES, "model.safetensors"), model)
    for make in CASES:
        case = make(model)
        metadata = {"lora_adapter_metadata": json.dumps(case.metadata, sort_keys=True)} if case.metadata else None
        write(os.path.join(FILES, make.__name__ + ".safetensors"), case.file, metadata)
        write(os.path.join(GOLDENS, make.__name__ + ".safetensors"), case.golden)
        print(make.__name__, {k: round((v - model[k]).abs().max().item(), 3) for k, v in case.golden.items()})


if __name__ == "__main__":
    main()
