"""FLUX.1's parts in OpenVINO, converted from diffusers' modules.

usage: openvino_peer.py --model DIR [--weights bf16|f32|int8|int4] [--precision bf16|f32] [--group -1|0|32|...]

int8, int4: nncf.compress_weights. OpenVINO's CPU plugin quantises activations of products by row as they come where
--group allows it. Converted models are kept in DIR/openvino."""
import argparse
import os

import numpy as np
import openvino as ov
import torch

import models
from serve import THREADS, serve


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--weights", default="bf16", choices=("bf16", "f32", "int8", "int4"))
    p.add_argument("--precision", default="bf16", choices=("bf16", "f32"))
    p.add_argument("--group", type=int)
    return p.parse_args()


class Call(torch.nn.Module):
    """A module whose inputs and output are tensors in a fixed order."""

    def __init__(self, stage, m):
        super().__init__()
        self.m, self.stage = m, stage

    def forward(self, *x):
        if self.stage == "dit":
            h, text, pooled, t, img_ids, txt_ids = x
            return self.m(hidden_states=h, encoder_hidden_states=text, pooled_projections=pooled, timestep=t,
                          img_ids=img_ids, txt_ids=txt_ids, return_dict=False)[0]
        if self.stage == "vae":
            return self.m.decode(x[0], return_dict=False)[0]
        return self.m(input_ids=x[0], return_dict=False)[0]


FREE = {"dit": [[1, -1, 64], [1, -1, 4096], [1, 768], [1], [-1, 3], [-1, 3]], "vae": [[1, 16, -1, -1]]}


def traced(o, stage, size, text):
    m = models.load(o.model, stage, torch.float32)
    x = tuple(models.inputs(stage, size, text, torch.float32).values())
    if stage in ("t5", "clip"):  # tracing fails on transformers' masks; torch.export does not, and fixes the length
        m.config._attn_implementation = "eager"
        return ov.convert_model(torch.export.export(Call(stage, m), x))
    return ov.convert_model(Call(stage, m), example_input=x, input=[ov.PartialShape(s) for s in FREE[stage]])


def compressed(o, stage, model):
    if o.weights not in ("int8", "int4") or stage not in ("dit", "t5"):
        return model
    import nncf
    if o.weights == "int8":
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
    return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT4_SYM, group_size=128, ratio=1.0)


def converted(o, stage, size, text):
    """The path of the stage's IR; sizes are left open, but T5's length."""
    path = f"{o.model}/openvino/{stage}.{o.weights}{text if stage == 't5' else ''}"
    if not os.path.exists(f"{path}.xml"):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        ov.save_model(compressed(o, stage, traced(o, stage, size, text)), f"{path}.part.xml",
                      compress_to_fp16=o.weights == "bf16")
        for ending in ("bin", "xml"):  # the one that is looked for last: an interrupted conversion is made again
            os.replace(f"{path}.part.{ending}", f"{path}.{ending}")
    return f"{path}.xml"


def main():
    o = arguments()
    torch.set_grad_enabled(False)
    torch.set_num_threads(THREADS)
    core = ov.Core()
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": THREADS, "NUM_STREAMS": 1,
              "INFERENCE_PRECISION_HINT": o.precision}
    if o.group is not None:
        config["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = o.group if o.group >= 0 else 2**32 - 1

    def prepare(stage, size, text):
        model = core.read_model(converted(o, stage, size, text))
        x = [np.asarray(a) for a in models.inputs(stage, size, text, torch.float32).values()]
        model.reshape({i: a.shape for i, a in enumerate(x)})
        request = core.compile_model(model, "CPU", config).create_infer_request()
        return lambda: request.infer(x)

    group = "" if o.group is None else f" g{o.group}"
    serve(prepare, peer=f"openvino {o.weights}/{o.precision}{group}", versions=f"openvino {ov.get_version()}")


main()
