"""Products as ggml makes them of Q8_0 with Q8_0, by the gguf package: what ours in int8 may be off by; and rotated ones, by numpy.

usage: int8_goldens.py

tests/data/goldens/int8/products.safetensors: for each kind of input x [12, 352], w [8, 352], w as Q8_0 (bytes), and in float32 the product in float64 (exact),
ggml's (ggml: blocks of both in int8 with float16 scales, sums exact), and that of rotated groups (src/ops/int8.h: INT8_ROTATED), of x in quads or not.
"""
import environment
import os

import gguf
import numpy as np
from safetensors.numpy import save_file

ROWS, OUTPUTS, COLS = 12, 8, 352  # a long group and one of 96
Q8 = gguf.GGMLQuantizationType.Q8_0


def inputs(rng):
    normal = rng.standard_normal((ROWS, COLS))
    outliers = normal.copy()
    outliers[:, [3, 100]] *= 60
    tails = rng.standard_t(3, (ROWS, COLS)) * rng.standard_t(3, (ROWS, COLS))
    return {"normal": normal, "outliers": outliers, "tails": tails}


def hadamard(length):
    return np.ones((1, 1)) if length == 1 else np.kron([[1, 1], [1, -1]], hadamard(length // 2))


def largest_quad(turned):
    """Of each row, the largest sum that four numbers of one sign have, of 0, 1, 4, 5 or 2, 3, 6, 7 of each eight."""
    eights = turned.reshape(len(turned), -1, 8)
    sums = [np.maximum(sign * eights[:, :, quad], 0).sum(axis=2) for quad in ([0, 1, 4, 5], [2, 3, 6, 7]) for sign in (1, -1)]
    return np.max(sums, axis=(0, 2))[:, None]


def rotated(x, quads=False):
    """Whole numbers of x's groups of 256, the last one filled up to a power of two of at least 64, times their scales; turned.
    quads: none of its sums of four is larger than 128, of whatever roundings."""
    out = []
    for at in range(0, x.shape[1], 256):
        group = x[:, at:at + 256].astype(np.float32)
        length = max(64, 1 << (group.shape[1] - 1).bit_length())
        group = np.pad(group, ((0, 0), (0, length - group.shape[1])))
        signs = np.array([(-1.0) ** ((i & 15 & i >> 4).bit_count()) for i in range(length)])
        turned = (group * signs) @ hadamard(length)
        scale = np.abs(turned).max(axis=1, keepdims=True) / 127
        if quads:
            scale = np.maximum(scale, largest_quad(turned) / 126)
        numbers = np.rint(turned / scale)
        assert not quads or largest_quad(numbers).max() <= 128
        out.append(numbers * scale / np.sqrt(length))
    return np.concatenate(out, axis=1)


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
        out[f"{name}.rotated"] = (rotated(x) @ rotated(w).T).astype(np.float32)
        out[f"{name}.quads"] = (rotated(x, quads=True) @ rotated(w).T).astype(np.float32)
        out[f"{name}.ggml"] = (rounded[0] @ rounded[1].T).astype(np.float32)
    folder = os.path.join(environment.TEST_DATA, "goldens", "int8")
    os.makedirs(folder, exist_ok=True)
    save_file(out, os.path.join(folder, "products.safetensors"))


if __name__ == "__main__":
    main()
