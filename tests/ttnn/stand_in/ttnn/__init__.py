"""tests/ttnn/numpy_ttnn.py under the vendor's name, for a worker that flux1 starts (PYTHONPATH=tests/ttnn/stand_in). FLUX1_STAND_IN=WHAT@N: at the N-th attention
the library does what libraries do: exit, kill, raise, hang, nan, or be slow from then on. FLUX1_STAND_IN_WRONG=NAME,…: functions that compute something else.
FLUX1_STAND_IN_TRACES: a file for what was done with traces."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
import numpy_ttnn

what, _, number = os.environ.get("FLUX1_STAND_IN", "").partition("@")
left = [int(number or 0)]


def ended():
    print("the card is on fire", file=sys.stderr, flush=True)
    if what == "exit":
        os._exit(3)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang":
        time.sleep(1000)
    raise RuntimeError("TT_FATAL: a planted exception\nbacktrace: none")


def planted(attention):
    def call(q, k, v, *more, **named):
        left[0] -= 1
        if what == "slow" and left[0] <= 0:
            time.sleep(0.5)
        elif what == "nan" and left[0] == 0:
            q = numpy_ttnn.Tensor([x * float("nan") for x in q.v], q.dtype)
        elif what and left[0] == 0:
            ended()
        return attention(q, k, v, *more, **named)
    return call


for name in ("scaled_dot_product_attention", "ring_joint_scaled_dot_product_attention"):
    setattr(numpy_ttnn.transformer, name, planted(getattr(numpy_ttnn.transformer, name)))


def told(word, f):
    """Notes what is done with traces."""
    def call(*arguments, **named):
        with open(os.environ["FLUX1_STAND_IN_TRACES"], "a", encoding="utf-8") as out:
            out.write(word + "\n")
        return f(*arguments, **named)
    return call


if "FLUX1_STAND_IN_TRACES" in os.environ:
    for word, name in (("taken", "begin_trace_capture"), ("played", "execute_trace"), ("dropped", "release_trace")):
        setattr(numpy_ttnn, name, told(word, getattr(numpy_ttnn, name)))


def result(change):
    """A function whose (first) result is changed."""
    def wrong(f):
        def call(*arguments, **named):
            out = f(*arguments, **named)
            first = out[0] if isinstance(out, tuple) else out
            first.v = [change(v) for v in first.v]
            return out
        return call
    return wrong


def given(**changes):
    """One whose named arguments are changed."""
    return lambda f: lambda *a, **k: f(*a, **(k | {name: change(k[name]) for name, change in changes.items()}))


def without_the_last(f):
    """Of the devices, whose values do not arrive."""
    def call(x, **named):
        return f(numpy_ttnn.Tensor(x.v[:-1] + [0 * x.v[-1]], x.dtype, x.layout), **named)
    return call


a_little = lambda v: 1.03 * v
down_a_row = lambda v: numpy_ttnn.np.roll(v, 1, 2)
WRONG = {
    "embedding": result(down_a_row), "conv2d": given(weight_tensor=lambda w: numpy_ttnn.Tensor([v.swapaxes(2, 3) for v in w.v], w.dtype, w.layout, host=True)),
    "rms_norm": given(epsilon=lambda e: 0.1), "layer_norm": given(bias=lambda _: None), "dit_rms_norm_unary_fused": given(epsilon=lambda e: 0.1), "silu": result(a_little),
    "sigmoid": result(a_little), "gelu": result(a_little), "mean": result(a_little), "add": result(a_little), "multiply": result(a_little),
    "alt_complex_rotate90": result(lambda v: -v), "scaled_dot_product_attention": given(scale=a_little, is_causal=lambda _: False),
    "ring_joint_scaled_dot_product_attention": result(down_a_row), "minimal_matmul": given(bias_tensor=lambda _: None), "slice": result(down_a_row),
    "upsample": result(down_a_row), "copy": lambda f: lambda source, target: None, "all_gather_async": result(lambda v: numpy_ttnn.np.flip(v, -1)),
    "reduce_scatter_minimal_async": without_the_last, "mesh_partition": result(down_a_row),
}
for name in filter(None, os.environ.get("FLUX1_STAND_IN_WRONG", "").split(",")):
    place = next(p for p in (numpy_ttnn, numpy_ttnn.experimental, numpy_ttnn.transformer) if hasattr(p, name))
    setattr(place, name, WRONG[name](getattr(place, name)))
sys.modules["ttnn"] = numpy_ttnn
