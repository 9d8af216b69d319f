"""diffusers on torch's CPU backend (oneDNN).

usage: torch_peer.py --model DIR [--mode eager|compile|autotune|zentorch] [--quant none|int8dyn|int8wo]
                     [--dtype bf16|f32]

compile: inductor with frozen weights (laid out for oneDNN ahead of time). autotune: max-autotune, which tries
inductor's own C++ GEMM too. zentorch: AMD's backend (ZenDNN), in a virtual environment with the torch that it was built
for. --quant (torchao, the transformer and T5 only): int8dyn quantises activations by row as they come and multiplies in
int8; int8wo keeps int8 weights and multiplies in bf16."""
import argparse

import torch

import models
from serve import THREADS, serve


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--mode", default="eager", choices=("eager", "compile", "autotune", "zentorch"))
    p.add_argument("--quant", default="none", choices=("none", "int8dyn", "int8wo"))
    p.add_argument("--dtype", default="bf16", choices=("bf16", "f32"))
    return p.parse_args()


def use_zentorch():
    import zentorch  # noqa: F401  registers the backend
    import torch._inductor.pattern_matcher as matcher
    strict = matcher.guard_or_false

    def lenient(a):  # a check in zentorch 2.14.0.1 answers with a set, which torch 2.14 refuses
        return strict(bool(a) if isinstance(a, (set, list, tuple)) else a)
    matcher.guard_or_false = lenient


def is_big(m, name):
    return isinstance(m, torch.nn.Linear) and "norm" not in name and "embed" not in name and name != "proj_out"


def quantise(m, kind):
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_
    quantize_(m, Int8DynamicActivationInt8WeightConfig() if kind == "int8dyn" else Int8WeightOnlyConfig(),
              filter_fn=is_big)


def module(o, stage, dtype):
    m = models.load(o.model, stage, dtype)
    if stage == "vae":
        m = m.to(memory_format=torch.channels_last)
    if o.quant != "none" and stage in ("dit", "t5"):
        quantise(m, o.quant)
    f = m.decode if stage == "vae" else m
    how = {"compile": {}, "autotune": {"mode": "max-autotune"}, "zentorch": {"backend": "zentorch"}}
    return f if o.mode == "eager" else torch.compile(f, dynamic=False, **how[o.mode])


def main():
    o = arguments()
    dtype = torch.bfloat16 if o.dtype == "bf16" else torch.float32
    if o.mode == "zentorch":
        use_zentorch()
    if o.mode in ("compile", "autotune"):
        import torch._inductor.config as inductor
        inductor.freezing = True
    import diffusers
    import transformers
    torch.set_num_threads(THREADS)
    torch.set_grad_enabled(False)

    def prepare(stage, size, text):
        f, x = module(o, stage, dtype), models.inputs(stage, size, text, dtype)
        if stage == "vae":
            x["z"] = x["z"].to(memory_format=torch.channels_last)

        def work():
            with torch.no_grad():
                f(**x, return_dict=False)
        return work

    quant = "" if o.quant == "none" else f" {o.quant}"
    serve(prepare, peer=f"torch {o.mode} {o.dtype}{quant}",
          versions=f"torch {torch.__version__}, diffusers {diffusers.__version__}, "
                   f"transformers {transformers.__version__}")


main()
