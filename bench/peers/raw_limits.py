"""GOP/s that a library's product of M x K by K x N reaches, each in its best layout for a weight that stays (packed
ahead where the library can): the yardstick for flux1's own products.

usage: raw_limits.py [--seconds 0.6] [--rounds 3] [--only NAME,...] [--shapes MxNxK,...] [--clock wall|cpu]

A line for each library and shape; round robin over libraries, so that other load hits all alike; medians.
A library that is not installed, or cannot do it here, is named with the reason. PEER_THREADS=1 with --clock cpu is for
a busy machine: GOP for each second of processor time."""
import argparse
import ctypes
import ctypes.util
import os
import statistics
import time

SHAPES = "1280x12288x3072,1280x3072x12288,512x9216x3072,4352x3072x3072"
THREADS = int(os.environ.get("PEER_THREADS", "2"))
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS"):  # before the libraries are loaded
    os.environ[name] = str(THREADS)

import numpy as np  # noqa: E402

makers = {}


def library(name, *arguments):
    """A maker of this name; make(m, n, k, *arguments) gives a function that multiplies once."""
    def add(make):
        makers[name] = lambda m, n, k: make(m, n, k, *arguments)
        return make
    return add


def normal(rows, cols):
    return np.random.standard_normal((rows, cols)).astype(np.float32)


def small(rows, cols):
    return np.random.randint(-127, 127, (rows, cols)).astype(np.int8)


def torch_here():
    import torch
    torch.set_num_threads(THREADS)
    return torch


@library("torch bf16 (oneDNN, packed)")
def torch_packed(m, n, k):
    torch = torch_here()
    a, w = torch.randn(m, k).bfloat16(), torch.randn(n, k).bfloat16()
    w = torch.ops.mkldnn._reorder_linear_weight(w, m)
    return lambda: torch.ops.mkldnn._linear_pointwise(a, w, None, "none", [], "")


@library("torch f32 linear", "float32")
@library("torch bf16 linear", "bfloat16")
def torch_linear(m, n, k, dtype):
    torch = torch_here()
    a, w = torch.randn(m, k).to(getattr(torch, dtype)), torch.randn(n, k).to(getattr(torch, dtype))
    return lambda: torch.nn.functional.linear(a, w)


@library("torch int8 u8s8 (oneDNN, packed)")
def torch_qlinear(m, n, k):
    torch = torch_here()
    a, w = torch.randint(0, 255, (m, k), dtype=torch.uint8), torch.from_numpy(small(n, k))
    w = torch.ops.onednn.qlinear_prepack(w, [m, k])
    one, zero = torch.tensor([0.01]), torch.tensor([128], dtype=torch.int32)
    scales, zeros = torch.full((n,), 0.01), torch.zeros(n, dtype=torch.int64)
    return lambda: torch.ops.onednn.qlinear_pointwise(a, one, zero, w, scales, zeros, None, 1.0, 0, torch.bfloat16,
                                                      "none", [], "")


@library("torch int8 s8s8 (_int_mm)")
def torch_int_mm(m, n, k):
    torch = torch_here()
    a, w = torch.from_numpy(small(m, k)), torch.from_numpy(small(n, k)).t()
    return lambda: torch._int_mm(a, w)


@library("openvino f32", False, "f32", None)
@library("openvino bf16 (f32 in and out)", False, "bf16", None)
@library("openvino int8 weights, bf16", True, "bf16", 0)
@library("openvino int8 weights, dynamic int8 g=32", True, "f32", 32)
@library("openvino int8 weights, dynamic int8 by row", True, "f32", 2**32 - 1)
def openvino_matmul(m, n, k, int8, precision, group):
    import openvino as ov
    from openvino import opset13 as op
    x = op.parameter([m, k], np.float32)
    w = op.constant(normal(n, k))
    if int8:
        w = op.multiply(op.convert(op.constant(small(n, k)), "f32"), op.constant(np.full((n, 1), 0.01, np.float32)))
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": THREADS, "NUM_STREAMS": 1,
              "INFERENCE_PRECISION_HINT": precision}
    if group is not None:
        config["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = group
    model = ov.Core().compile_model(ov.Model([op.matmul(x, w, False, True)], [x]), "CPU", config)
    request = model.create_infer_request()
    request.set_input_tensor(ov.Tensor(normal(m, k)))
    return request.infer


def onnx_nodes(kind, n, k):
    """One node and its weights; kind: f32, dynamic, or the bits of weights in groups of 128, activations in int8."""
    from onnx import helper as h, numpy_helper as nh
    if kind == "f32":
        return h.make_node("MatMul", ["x", "w"], ["y"]), [nh.from_array(normal(k, n), "w")]
    if kind == "dynamic":
        node = h.make_node("DynamicQuantizeMatMul", ["x", "w", "s"], ["y"], domain="com.microsoft")
        return node, [nh.from_array(small(k, n), "w"), nh.from_array(np.full((n,), 0.01, np.float32), "s")]
    node = h.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", K=k, N=n, bits=kind,
                       block_size=128, accuracy_level=4)
    packed = np.random.randint(0, 255, (n, k // 128, 128 * kind // 8)).astype(np.uint8)
    return node, [nh.from_array(packed, "w"), nh.from_array(np.full((n * (k // 128),), 0.01, np.float32), "s")]


@library("onnxruntime f32", "f32")
@library("onnxruntime dynamic int8 (u8s8)", "dynamic")
@library("onnxruntime MatMulNBits 8", 8)
@library("onnxruntime MatMulNBits 4", 4)
def onnx_matmul(m, n, k, kind):
    import onnxruntime as rt
    from onnx import TensorProto, helper as h
    x, y = (h.make_tensor_value_info(a, TensorProto.FLOAT, [m, b]) for a, b in (("x", k), ("y", n)))
    node, weights = onnx_nodes(kind, n, k)
    model = h.make_model(h.make_graph([node], "g", [x], [y], weights), ir_version=9,
                         opset_imports=[h.make_opsetid("", 17), h.make_opsetid("com.microsoft", 1)])
    options = rt.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = rt.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {"x": normal(m, k)}
    return lambda: session.run(None, feed)


@library("OpenBLAS sgemm", "openblas")
@library("BLIS sgemm", "blis")
def blas(m, n, k, name):
    path = ctypes.util.find_library(name)
    if not path:
        raise RuntimeError(f"no lib{name}")
    f = ctypes.CDLL(path).cblas_sgemm
    a, w, c = normal(m, k), normal(n, k), np.zeros((m, n), np.float32)
    pointer = lambda x: x.ctypes.data_as(ctypes.c_void_p)
    one, none = ctypes.c_float(1), ctypes.c_float(0)
    return lambda: f(101, 111, 112, m, n, k, one, pointer(a), k, pointer(w), k, none, pointer(c), n)


def measured(work, clock, flops, rounds, seconds):
    """GOP/s of each, in every round."""
    got = {name: [] for name in work}
    for _ in range(rounds):
        for name, f in work.items():
            count, begin = 0, clock()
            while count == 0 or clock() - begin < seconds / rounds:
                f()
                count += 1
            got[name].append(flops * count / (clock() - begin) / 1e9)
    return got


def shapes_of(text):
    shapes = [x.split("x") for x in text.split(",")]
    if not all(len(s) == 3 and all(n.isdecimal() and int(n) for n in s) for s in shapes):
        raise SystemExit(f'--shapes "{text}": should be MxNxK,...')
    return [tuple(map(int, s)) for s in shapes]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seconds", type=float, default=0.6)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--only", default="")
    p.add_argument("--shapes", default=SHAPES)
    p.add_argument("--clock", default="wall", choices=("wall", "cpu"))
    o = p.parse_args()
    clock = time.perf_counter if o.clock == "wall" else time.process_time
    names = [n for n in makers if any(x in n for x in o.only.split(","))]
    if not names:
        raise SystemExit(f'--only "{o.only}": part of none of these names: {", ".join(makers)}')
    for m, n, k in shapes_of(o.shapes):
        shape, work = f"{m}x{n}x{k}", {}
        for name in names:
            try:
                f = makers[name](m, n, k)
                f()
                work[name] = f
            except Exception as e:
                print(f"{shape:18s} {name:44s} not here: {type(e).__name__}: {str(e)[:110]}", flush=True)
        for name, g in measured(work, clock, 2.0 * m * n * k, o.rounds, o.seconds).items():
            print(f"{shape:18s} {name:44s} {statistics.median(g):8.0f} GOP/s  ({min(g):.0f}..{max(g):.0f})", flush=True)


main()
