"""What a Wormhole computes, on the vendor's functional simulator: tensors there and back, the moves of data that the worker asks for, sums and products, and
flux1's packed weights. ttsim.sh starts it, a process for each group, since the simulator ends the process at what it cannot do.

usage: ttsim.py GROUP                     tensors, moves, add or matmul
       ttsim.py weights PIPELINE FOLDER   in place of the worker, started by `flux1 generate --device ttnn`
"""
import os
import sys
import time

sys.dont_write_bytecode = True
import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [here, os.path.join(here, "../../tools/ttnn")]
import flux1_ttnn as worker
import numpy_ttnn
import same_numbers

SUM, PRODUCT = 2e-3, 5e-3  # relative L2
RECORDING = "flux1-recording 1\npicture width=64 height=64\nmesh shape=1x1 sp=1@0 tp=1@1\nstage clip\nend\n"


def form(t, x):
    dtypes = {t.bfloat16: numpy_ttnn.bfloat16, t.float32: numpy_ttnn.float32, t.bfloat8_b: numpy_ttnn.bfloat8_b}
    layouts = {t.TILE_LAYOUT: numpy_ttnn.TILE_LAYOUT, t.ROW_MAJOR_LAYOUT: numpy_ttnn.ROW_MAJOR_LAYOUT}
    return list(x.shape), dtypes[x.dtype], layouts[x.layout]


def held(t, x):
    """The bytes of a host's or a device's tensor: they end the library's file of it."""
    t.dump_tensor("held.tensorbin", x.cpu())
    with open("held.tensorbin", "rb") as f:
        whole = f.read()
    size = numpy_ttnn.file_bytes(*form(t, x))
    assert len(whole) > size
    return whole[-size:]


def values(t, x):
    return numpy_ttnn.unpacked(held(t, x), *form(t, x))


def rounded(x):
    """To bf16."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)


class Chip:
    def __init__(self):
        self.t = worker.library()
        recording = worker.Recording(RECORDING.splitlines())
        self.device = worker.open_mesh(self.t, recording.mesh)
        self.mapper = worker.Mapper(recording, self.t, self.device, 1, self.t.bfloat16, worker.Nothing(self.t, self.device))
        self.random, self.began = np.random.default_rng(5), time.monotonic()

    def some(self, *shape):
        return rounded(self.random.standard_normal(shape))

    def put(self, x, dtype=None, layout=None):
        t = self.t
        return t.to_device(t.Tensor(np.array(x, np.float32), dtype or t.bfloat16, layout=layout or t.TILE_LAYOUT), self.device)

    def says(self, what, right, text=""):
        print(f"{what}: {text or ('exact' if right else 'other values')}, {time.monotonic() - self.began:.1f} s", flush=True)
        self.began = time.monotonic()
        if not right:
            sys.exit(f"FAILED: {what}")

    def exact(self, what, got, want):
        got = values(self.t, got)
        self.says(what, got.shape == want.shape and np.array_equal(got, want))

    def near(self, what, got, want, most):
        error = same_numbers.relative(values(self.t, got), want)
        self.says(what, error < most, f"relative L2 {error:.1e} (at most {most:.0e})")


def tensors(c):
    t = c.t
    for shape in ((1, 1, 70, 100), (1, 2, 33, 65), (1, 1, 1, 1)):
        x = c.some(*shape)
        for layout in (t.TILE_LAYOUT, t.ROW_MAJOR_LAYOUT):
            c.exact(f"bfloat16 {shape} {layout}", c.put(x, layout=layout), x)
        c.exact(f"float32 {shape}", c.put(x * np.float32(1.001), t.float32), x * np.float32(1.001))
        host = t.Tensor(x.copy(), t.bfloat8_b, layout=t.TILE_LAYOUT)
        c.says(f"bfloat8_b {shape}", held(t, t.to_device(host, c.device)) == held(t, host))


def moves(c):
    t, m, line = c.t, c.mapper, worker.Line(1, None, "moves", {})
    a, b = c.some(1, 1, 64, 96), c.some(1, 1, 33, 96)
    x = c.put(a)
    c.exact("rows behind rows", m.joined([x, c.put(b)], 2, line), np.concatenate([a, b], 2))
    c.exact("columns beside columns", m.joined([x, c.put(a[..., :32])], 3, line), np.concatenate([a, a[..., :32]], 3))
    c.exact("rows of a tensor", m.cut(x, 2, 32, 32), a[:, :, 32:])
    c.exact("columns of a tensor", m.cut(x, 3, 32, 64), a[..., 32:])
    rows, ids = c.put(a, layout=t.ROW_MAJOR_LAYOUT), np.array([[5, 0, 63, 5] * 8], np.uint32)
    c.exact("zeros behind rows", m.longer(rows, 2, 6), np.concatenate([a, np.zeros((1, 1, 6, 96), np.float32)], 2))
    c.exact("rows into tiles", t.to_layout(rows, t.TILE_LAYOUT), a)
    c.exact("tiles into rows", t.to_layout(x, t.ROW_MAJOR_LAYOUT), a)
    numbers = t.to_device(t.Tensor(ids.copy(), t.uint32, layout=t.ROW_MAJOR_LAYOUT), c.device)
    c.exact("rows of a table, by number", m.looked_up(numbers, c.put(a[0, 0], layout=t.ROW_MAJOR_LAYOUT)), a[:, :, ids[0]])
    whole = c.some(1, 64, 3 * 128)
    q, k, v = t.transformer.split_query_key_value_and_split_heads(c.put(whole), num_heads=2, transpose_key=False, memory_config=x.memory_config())
    for name, got, want in zip("qkv", (q, k, v), np.split(whole, 3, 2)):
        c.exact(f"heads of {name}", got, want.reshape(1, 64, 2, 64).transpose(0, 2, 1, 3))
    c.exact("heads side by side", m.flat(q), whole[None, :, :, :128])


def add(c):
    a, b = c.some(1, 1, 64, 256), c.some(1, 1, 64, 256)
    c.near("add", c.t.add(c.put(a), c.put(b)), a + b, SUM)


def multiplied(c, what, x, weight, want):
    c.near(f"matmul {what}", c.t.matmul(c.put(x), weight, compute_kernel_config=c.mapper.products), want, PRODUCT)


def matmul(c):
    for rows, inner, cols in ((32, 32, 32), (32, 64, 32), (64, 32, 64)):
        x, w = c.some(1, 1, rows, inner), c.some(inner, cols)
        for dtype in (c.t.bfloat16, c.t.bfloat8_b):
            weight = c.put(w, dtype)
            multiplied(c, f"{rows}x{inner}x{cols} {dtype}", x, weight, x.astype(np.float64) @ values(c.t, weight))


class Weights(worker.Server):
    """Instead of making a stage's calls it takes the stage's weights, puts them onto the chip, and compares them with the library's own packing of the file's
    values. Behind the transformer's it refuses to go on."""

    pipeline, counts = None, {}

    def run(self, stage, step, rows, cols):
        recording, lines = self.stages[stage]
        mapper = self.mapper(stage, recording)
        mapper.source.stage, mapper.source.mesh = stage, recording.mesh
        part = stage.partition(".")[0]
        mapper.enter(part)
        files = same_numbers.Values(recording, self.pipeline, None)
        files.part = part
        for line in lines:
            if line.call in ("weight", "bias", "piece", "prepare"):
                mapper.make(stage, [line], 0)
            if line.call == "prepare":
                self.compared(mapper.weights[line.keys["w"]], files, f"{stage} line {line.number}")
        if stage == "dit.open":
            raise worker.Refused("flux1's weights: " + ", ".join(f"{n} {name}" for name, n in self.counts.items()) + ": exact; the picture is not made")
        with self.talk.memory(int(rows) * int(cols) * 4) as memory:
            memory[:] = bytes(len(memory))
        return f"rows={rows}", f"cols={cols}"

    def compared(self, w, files, what):
        for key, bias in (("matrix", False), ("row", True)):
            x = w.get(key)
            if x is None:
                continue
            want = files.by_rank(w, bias)[0]
            want = want if w["role"] == "table" and not bias else want.T
            host = self.t.Tensor(np.array(want.reshape(list(x.shape)), np.float32), x.dtype, layout=x.layout)
            if held(self.t, x) != held(self.t, host):
                raise worker.Refused(f"FAILED: {what}: {key} {list(x.shape)} {x.dtype} has other bytes than the library's packing")
            name = f"{str(x.dtype).rpartition('.')[2]} {str(x.layout).rpartition('.')[2]}".lower()
            self.counts[name] = self.counts.get(name, 0) + 1


def main():
    if sys.argv[1] == "weights":
        Weights.pipeline, worker.Server = sys.argv[2], Weights
        return worker.serve(sys.argv[3])
    chip = Chip()
    try:
        {"tensors": tensors, "moves": moves, "add": add, "matmul": matmul}[sys.argv[1]](chip)
    finally:
        chip.t.close_mesh_device(chip.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
