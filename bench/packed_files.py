"""The transformer and the T5 of a pipeline folder as packed files whose data are holes: for measuring memory and speed,
which do not depend on values. Matrices of whole blocks get the type, all else stays bf16.
usage: packed_files.py FOLDER OUTDIR q8_0|q4_0|q4_k|q6_k|…|f8_e4m3    (Python alone; writes OUTDIR/{transformer,t5}.…)"""
import glob
import json
import os
import struct
import sys

# name: ggml's number, elements and bytes of a block (src/tensor/tensor.h)
TYPES = {"q4_0": (2, 32, 18), "q4_1": (3, 32, 20), "q5_0": (6, 32, 22), "q5_1": (7, 32, 24), "q8_0": (8, 32, 34),
         "q2_k": (10, 256, 84), "q3_k": (11, 256, 110), "q4_k": (12, 256, 144), "q5_k": (13, 256, 176),
         "q6_k": (14, 256, 210), "iq4_nl": (20, 32, 18), "iq4_xs": (23, 256, 136), "bf16": (30, 1, 2)}


def shapes_of(folder):
    found = {}
    for path in sorted(glob.glob(folder + "/*.safetensors")):
        with open(path, "rb") as f:
            header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        found.update({k: v["shape"] for k, v in header.items() if k != "__metadata__"})
    return found


def text(s):
    return struct.pack("<Q", len(s)) + s.encode()


def write_gguf(path, shapes, name, architecture):
    infos, at = b"", 0
    for key, shape in shapes.items():
        number, block, size = TYPES[name if len(shape) == 2 and shape[-1] % 256 == 0 else "bf16"]
        infos += text(key) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
        infos += struct.pack("<IQ", number, at)
        elements = 1
        for n in shape:
            elements *= n
        at += -(-(elements // block * size) // 32) * 32
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(shapes), 1) + text("general.architecture")
    head += struct.pack("<I", 8) + text(architecture) + infos
    write(path, head + bytes(-len(head) % 32), at)


def write_fp8(path, shapes):
    header, at = {}, 0
    for key, shape in shapes.items():
        wide = len(shape) != 2
        size = 2 if wide else 1
        for n in shape:
            size *= n
        header[key] = {"dtype": "BF16" if wide else "F8_E4M3", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    write(path, struct.pack("<Q", len(head)) + head, at)


def write(path, head, size):
    with open(path, "wb") as f:
        f.write(head)
        f.truncate(len(head) + size)


source, out, kind = sys.argv[1:4]
os.makedirs(out, exist_ok=True)
for part, name, architecture in (("transformer", "transformer", "flux"), ("text_encoder_2", "t5", "t5encoder")):
    shapes = shapes_of(f"{source}/{part}")
    shapes.pop("encoder.embed_tokens.weight", None)  # the tied embedding's second name
    if kind == "f8_e4m3":
        write_fp8(f"{out}/{name}.safetensors", shapes)
    else:
        write_gguf(f"{out}/{name}.gguf", shapes, kind, architecture)
