"""Products as ggml makes them of Q8_0 with Q8_0, by the gguf package: what ours in int8 may be off by.

usage: int8_goldens.py

tests/data/goldens/int8/products.safetensors: for each kind of input x [12, 192], w [8, 192], w as Q8_0 (bytes), and in float32 the product in float64 (exact)
and ggml's (ggml: blocks of both in int8 with float16 scales, sums exact).
"""
import environment
import os

import gguf
import numpy as np
from safetensors.numpy import save_file

ROWS, OUTPUTS, COLS = 12, 8, 192
Q8 = gguf.GGMLQuantizationType.Q8_0


def inputs(rng):
    normal = rng.standard_normal((ROWS, COLS))
    outliers = normal.copy()
    outliers[:, [3, 100]] *= 60
    tails = rng.standard_t(3, (ROWS, COLS)) * rng.standard_t(3, (ROWS, COLS))
    return {"normal": normal, "outliers": outliers, "tails": tails}


def main():
    rng = np.random.default_rng(8)
    out = {}
    for name, x in inputs(rng).items():
        x = x.astype(np.float32)
        w = (rng.standard_normal((OUTPUTS, COLS)) * 0.02).astype(np.float32)
        packed = gguf.quants.quantize(w, Q8)
        rounded = [gguf.quants.dequantize(gguf.quants.quantize(a, Q8), Q8).astype(np.float64) for a in (x, w)]
        out |= {f"{name}.x": x, f"{name}.w": w, f"{name}.q8_0": packed}
        out[f"{name}.exact"] = (x.astype(np.float64) @ w.astype(np.float64).T).astype(np.float32)
        out[f"{name}.ggml"] = (rounded[0] @ rounded[1].T).astype(np.float32)
    folder = os.path.join(environment.TEST_DATA, "goldens", "int8")
    os.makedirs(folder, exist_ok=True)
    save_file(out, os.path.join(folder, "products.safetensors"))


if __name__ == "__main__":
    main()
