"""Records what Tenstorrent's own library makes of matrices: their tiles in bf16 and bfp8, and what bfp8's numbers mean.

    python3.12 -m venv V && V/bin/pip install ttnn==0.81.1 safetensors     # 3.10 or 3.12; 100 MB; no card is needed
    V/bin/python tools/oracle/tile_goldens.py                              # tests/data/goldens/tiles.safetensors
    V/bin/python tools/oracle/tile_goldens.py --against libtiles.so 300    # compare C's packing of 300 random matrices

`values` [45, 70]: weights as they usually are, values of every size, ties and what lies just beside them, subnormal values, zeros of both signs, NaN,
infinity, the largest. `bf16`, `bfp8`: its tiles; `bfp8.turned`: those of its transpose; `….values`: the values that the library reads from both.
libtiles.so: cc -O2 -ffp-contract=off -shared -fPIC -Isrc -Iinclude -o libtiles.so src/tensor/tiles.c src/tensor/encode_float.c src/base/half.c -lm
The library asks for a card before it packs: it is told of one n150 that is not there.
"""
import argparse
import ctypes
import os
import tempfile

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/data/goldens/tiles.safetensors")
STARTED_IN = os.getcwd()
CARD = """arch: {0: wormhole_b0}
chips: {0: [0, 0, 0, 0]}
ethernet_connections: []
chips_with_mmio: [0: 0]
harvesting: {0: {noc_translation: true, harvest_mask: 65}}
boards: [[{board_id: 1649267441664}, {board_type: n150}, {chips: [0]}]]
"""  # the identifier says the board too: 0x18 << 36
room = tempfile.TemporaryDirectory()
os.chdir(room.name)  # the library writes files of its own where it is run
described = tempfile.NamedTemporaryFile("w", suffix=".yaml")
described.write(CARD)
described.flush()
os.environ.update(TT_LOGGER_LEVEL="fatal", TT_METAL_SLOW_DISPATCH_MODE="1", TT_METAL_MOCK_CLUSTER_DESC_PATH=described.name)

import numpy
import ttnn
from safetensors.numpy import save_file

FORMATS = {"bf16": (0, ttnn.bfloat16, 2048), "bfp8": (1, ttnn.bfloat8_b, 1088)}  # tile_format's number, the type, bytes of a tile


def tiles_of(shape):
    return -(-shape[0] // 32) * -(-shape[1] // 32)


def packed(values, name):
    """The library's tiles: the end of the file that it writes of a tensor."""
    _, dtype, size = FORMATS[name]
    tensor = ttnn.Tensor(values, dtype, layout=ttnn.TILE_LAYOUT)
    with tempfile.NamedTemporaryFile(suffix=".tensorbin") as f:
        ttnn.dump_tensor(f.name, tensor)
        return numpy.fromfile(f.name, dtype=numpy.uint8)[-size * tiles_of(values.shape) :].copy(), tensor


def kinds(random, shape):
    """Matrices of every kind of value."""
    return [
        random.standard_normal(shape) * 0.02,
        random.integers(0, 2**32, shape, dtype=numpy.uint32).view(numpy.float32),
        random.integers(-512, 512, shape) * 0.25 + random.choice([0, 2.0**-16, -(2.0**-16)], shape),
        random.standard_normal(shape) * 2.0 ** random.integers(-20, 20, shape),
        random.standard_normal(shape) * 2.0 ** random.integers(-149, -115, shape),
    ]


def golden_values():
    random = numpy.random.default_rng(17)
    rows = [kind.astype(numpy.float32) for kind in kinds(random, (8, 70))]
    special = numpy.zeros((5, 70), numpy.float32)
    special[0, :8] = [0.0, -0.0, 1e-40, -1e-40, 1.17549435e-38, -1e-45, 0.0, 0.0]
    special[1, 3], special[1, 20], special[1, 40], special[1, 64] = numpy.nan, numpy.inf, -numpy.inf, -numpy.nan
    special[2] = numpy.finfo(numpy.float32).max
    special[3, ::3] = -1.0 - numpy.arange(24) / 128
    special[4, 5] = 3.0
    return numpy.concatenate(rows + [special])


def record():
    values = golden_values()
    turned = numpy.ascontiguousarray(values.T)
    out = {"values": values, "bf16": packed(values, "bf16")[0]}
    for name, matrix in (("bfp8", values), ("bfp8.turned", turned)):
        out[name], tensor = packed(matrix, "bfp8")
        out[name + ".values"] = numpy.asarray(tensor.to_numpy(), dtype=numpy.float32).reshape(matrix.shape)
    save_file(out, GOLDEN, {"ttnn": __import__("importlib.metadata", fromlist=["version"]).version("ttnn")})


def ours(library, values, name):
    number, _, size = FORMATS[name]
    values = numpy.ascontiguousarray(values)
    down, across = -(-values.shape[0] // 32), -(-values.shape[1] // 32)
    out = numpy.zeros(down * across * size, numpy.uint8)
    for i in range(down):
        for k in range(across):
            at = values[32 * i :, 32 * k :]
            library.tile_pack(number, at.ctypes.data, values.shape[1], 1, min(32, at.shape[0]), min(32, at.shape[1]), out.ctypes.data + (i * across + k) * size)
    return out


def compare(path, count):
    library = ctypes.CDLL(os.path.join(STARTED_IN, path))
    library.tile_pack.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
    random = numpy.random.default_rng()
    compared = different = 0
    for i in range(count):
        values = kinds(random, tuple(random.integers(1, 200, 2)))[i % 5].astype(numpy.float32)
        for name in FORMATS:
            compared += values.size
            different += not numpy.array_equal(ours(library, values, name), packed(values, name)[0])
    print(f"{compared} values, {different} matrices differ")
    return different == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", nargs=2, metavar=("LIBRARY", "MATRICES"))
    options = parser.parse_args()
    with numpy.errstate(all="ignore"):
        if not options.against:
            record()
        elif not compare(options.against[0], int(options.against[1])):
            raise SystemExit(1)


if __name__ == "__main__":
    main()
