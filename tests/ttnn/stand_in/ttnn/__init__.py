"""tests/ttnn/numpy_ttnn.py under the vendor's name, for a worker that flux1 starts (PYTHONPATH=tests/ttnn/stand_in). FLUX1_STAND_IN=WHAT@N: at the N-th attention
the library does what libraries do: exit, kill, raise, hang, nan, or be slow from then on. FLUX1_STAND_IN_TRACES: a file for what was done with traces."""
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
sys.modules["ttnn"] = numpy_ttnn
