"""Executes recordings of flux1 (docs/recording.md) on Tenstorrent's cards, through the vendor's library ttnn.

usage: flux1_ttnn.py check RECORDING [--links N] [--weights bfloat16|bfloat8_b] [--stage NAME]… [--plan FILE]
       flux1_ttnn.py read RECORDING             reads it and counts its calls; needs neither ttnn nor a card
       flux1_ttnn.py serve FOLDER               what `flux1 generate --device ttnn` starts: orders come from flux1
       flux1_ttnn.py search RECORDING           finds the fastest blocking of each product, for later runs
       flux1_ttnn.py kit FOLDER --device ttnn:MACHINE [--model PATH]…    operations, blocks and pictures on the cards against
                                                flux1's on the CPU, a report in FOLDER (flux1_ttnn_kit.py, beside this file)

check makes every call of the stages on the mesh that the recording was made for, with weights and inputs of the right
shapes that hold nothing, and prints what ttnn was asked for and the memory that it took. With a mock cluster
(TT_METAL_MOCK_CLUSTER_DESC_PATH) no card is needed: the library then checks each call, its L1 and its DRAM, and computes
nothing. What it does not check there, this file does: the buffers of a reduce-scatter, and the chunks of attention.

Executed are all stages, with the weights of all models on the cards. Shares of the last devices that are smaller are filled
up with zeros, but for T5's. Refused by name are lines that differ between ranks in another way.
"""
import argparse
import atexit
import collections
import fcntl
import importlib.metadata
import json
import math
import mmap
import os
import re
import select
import signal
import sys
import tempfile
import time
import types

VERSION = 1
TESTED = "0.81.1"
TILE = 32
L1_BYTES = 1_400_000  # of a core, less what the library takes itself
TURNS = 2  # sets of semaphores and buffers that exchanges use by turns
STAGES = ("clip", "t5", "dit.open", "dit.step", "dit.latent", "vae")


BROKEN = (ValueError, LookupError, AttributeError, ArithmeticError)  # what a line of another form leads to


class Refused(Exception):
    """One sentence for the user."""


# ---- the recording -----------------------------------------------------------------------------------------------------

Line = collections.namedtuple("Line", "number ranks call keys")
Mesh = collections.namedtuple("Mesh", "shape sp sp_axis tp tp_axis filled", defaults=(False,))  # filled: small shares, by zeros


class Recording:
    """Head and stages of a recording; `stages` has a list of lines for each name."""

    def __init__(self, lines):
        self.head, self.stages = {}, {}
        here = None
        for number, text in enumerate(lines, 1):
            text = text.rstrip("\n")
            if not text or text.startswith("#"):
                continue
            word, _, rest = text.partition(" ")
            if here is None and word != "stage":
                self.head[word] = rest
            elif word == "stage":
                here = self.stages.setdefault(rest, [])
            elif word == "end" and not rest:  # `end block=b1` is a call
                break
            else:
                here.append(line_of(number, text))
        else:
            raise Refused("the recording is cut: its last line should be \"end\"")
        if self.head.get("flux1-recording") != str(VERSION):
            raise Refused(f"not a recording of version {VERSION}: its first line should be \"flux1-recording {VERSION}\"")
        self.mesh = mesh_of(pairs(self.head.get("mesh", ""), 0))
        try:
            self.picture = {k: int(v) for k, v in pairs(self.head.get("picture", ""), 0).items()}
        except ValueError:
            raise Refused("the recording's picture should be KEY=NUMBER …") from None


def pairs(text, number):
    out = {}
    for item in text.split():
        key, found, value = item.partition("=")
        if not found or key in out:
            raise Refused(f"line {number}: \"{item}\" should be KEY=VALUE, each key once")
        out[key] = value
    return out


def line_of(number, text):
    ranks = None
    if text.startswith("@"):
        where, _, text = text.partition(" ")
        if not re.fullmatch("[0-9]+(,[0-9]+)*", where[1:]):
            raise Refused(f"line {number}: \"{where}\" should be @RANK,RANK…")
        ranks = tuple(int(r) for r in where[1:].split(","))
    call, _, rest = text.partition(" ")
    return Line(number, ranks, call, pairs(rest, number))


def mesh_of(keys):
    try:
        rows, cols = (int(n) for n in keys["shape"].split("x"))
        sp, sp_axis = (int(n) for n in keys["sp"].split("@"))
        tp, tp_axis = (int(n) for n in keys["tp"].split("@"))
    except (KeyError, ValueError):
        raise Refused("the recording's mesh should be shape=RxC sp=FACTOR@AXIS tp=FACTOR@AXIS") from None
    fits = min(rows, cols) > 0 and all(axis in (0, 1) and factor in (1, (rows, cols)[axis])
                                       for factor, axis in ((sp, sp_axis), (tp, tp_axis)))
    if not fits or (sp_axis == tp_axis and min(sp, tp) > 1):
        raise Refused(f"the recording's mesh of {rows}x{cols} cannot be sp {sp} on axis {sp_axis}, tp {tp} on axis {tp_axis}")
    return Mesh((rows, cols), sp, sp_axis, tp, tp_axis)


def values_of(text, mesh):
    """A number for each rank: 7, sp(0,6), tp(…), all(…)."""
    ranks = mesh.sp * mesh.tp
    found = re.fullmatch(r"(?:(sp|tp|all)\()?(-?[0-9]+(?:,-?[0-9]+)*)(\)?)", text)
    numbers = [int(n) for n in found[2].split(",")] if found else []
    wanted = {None: 1, "sp": mesh.sp, "tp": mesh.tp, "all": ranks}[found[1]] if found else 0
    if not found or len(numbers) != wanted or bool(found[1]) != bool(found[3]):
        raise ValueError(f"\"{text}\" should be a number, or sp(…), tp(…) or all(…) with one for each of {mesh.sp}, {mesh.tp} "
                         f"or {ranks} ranks")
    index = {None: lambda r: 0, "sp": lambda r: r // mesh.tp, "tp": lambda r: r % mesh.tp, "all": lambda r: r}[found[1]]
    return [numbers[index(r)] for r in range(ranks)]


def same(text, mesh, line):
    """The number that all ranks have, or of filled shares the largest: a mesh's devices run one program."""
    numbers = values_of(text, mesh)
    if len(set(numbers)) != 1 and not (mesh.filled and fills(text, numbers, mesh)):
        heads = line.call in ("weight", "piece", "bias") or text in (line.keys.get("heads"), line.keys.get("cols"))
        raise Refused(f"line {line.number}: {line.call} differs between ranks ({text}); "
                      f"{OTHER_HEADS if heads else other_tokens(mesh)}")
    return numbers[0]


OTHER_HEADS = "choose a mesh whose devices share the heads evenly (--mesh, such as 1x1)"


def other_tokens(mesh):
    """What helps where the ranks' tokens are not alike: those of a part that is not filled up are the prompt's."""
    if mesh.filled:
        return "choose a mesh of fewer devices (--mesh, such as 1x1)"
    return f"choose a prompt length that {mesh.sp * mesh.tp} devices share evenly (--max-sequence-length)"


def shares(numbers):
    """Whether these are ceil-sized shares of their sum: the last ranks have less, or nothing."""
    return all(n == max(0, min(numbers[0], sum(numbers) - r * numbers[0])) for r, n in enumerate(numbers))


def fills(text, numbers, mesh):
    """Whether ranks can have shares as large as the first one's, of which the last are filled up: along sp or tp, or along tp of
    what each line of ranks has along sp (firsts)."""
    if not text.startswith("all"):
        return shares(numbers[::mesh.tp] if text.startswith("sp") else numbers[:mesh.tp])
    lines = [numbers[i:i + mesh.tp] for i in range(0, len(numbers), mesh.tp)]
    return all(line[0] <= numbers[0] and shares(line) for line in lines) and shares([sum(line) for line in lines])


def firsts(line, mesh, rows):
    """Where in an input each rank's rows begin, of which all have so many: a line of ranks shares its own ones in that way."""
    text = line.keys.get("first", "0")
    first = values_of(text, mesh)
    return [first[r - r % mesh.tp] + r % mesh.tp * rows for r in range(len(first))] if text.startswith("all") else first


Operand = collections.namedtuple("Operand", "act part rows cols")
OPERAND = re.compile(r"a(\d+)(?:\.(text|image))?(?:\[([^+\]]+)\+([^\]]+)\])?(?::([^+]+)\+([^?]+))?(?:\?(.+))?")


def operand(text, mesh, line):
    """None: left out on all ranks. rows, cols: (first, count), or None for all."""
    found = OPERAND.fullmatch(text)
    if not found:
        raise Refused(f"line {line.number}: \"{text}\" is no activation")
    act, part, row, rows, col, cols, there = found.groups()
    if there is not None and not same(there, mesh, line):
        return None
    window = lambda a, b: None if a is None else (same(a, mesh, line), same(b, mesh, line))
    return Operand(int(act), part, window(row, rows), window(col, cols))


# ---- what the library does not check without a card ----------------------------------------------------------------------


def scatter_shapes(shape, dim, ranks, topology):
    """Of the two buffers of a reduce-scatter: on a line the partial sums of both directions lie in the first one, which
    therefore has a batch of 2. With another shape it hangs on a card."""
    whole, share = list(shape), list(shape)
    if share[dim] % (ranks * TILE):
        raise Refused(f"a reduce-scatter over {ranks} devices of {share[dim]}: shares should be whole tiles of {TILE}")
    share[dim] //= ranks
    return ([2] + whole[1:] if topology == "Linear" else whole), share


def check_scatter(shape, dim, ranks, topology, intermediate, output):
    if shape[0] != 1:
        raise Refused(f"a reduce-scatter of a batch of {shape[0]}: it should be 1")
    wanted = scatter_shapes(shape, dim, ranks, topology)
    for name, got, want in zip(("intermediate buffer", "output"), (intermediate, output), wanted):
        if list(got) != want:
            raise Refused(f"the {name} of a reduce-scatter of {list(shape)} on a {topology} of {ranks} is {list(got)}, it "
                          f"should be {want}")


def check_gather(x, dim, ranks, buffer):
    """The buffer has the shares of all, in the form that they have."""
    wanted = list(x.shape)
    wanted[dim] *= ranks
    if list(buffer.shape) != wanted or (buffer.dtype, buffer.layout) != (x.dtype, x.layout):
        raise Refused(f"the buffer of a gather by {ranks} devices of {list(x.shape)} ({x.dtype}, {x.layout}) is {list(buffer.shape)} "
                      f"({buffer.dtype}, {buffer.layout}), it should be {wanted}")


def check_filter(shape, outputs, inputs):
    if list(shape) != [outputs, inputs, 3, 3]:
        raise Refused(f"the weights of a convolution of {inputs} channels to {outputs} are {list(shape)}, they should be "
                      f"{[outputs, inputs, 3, 3]}")


def check_chunks(q_chunk, k_chunk, head_dim):
    """Chunks are whole tiles, and what a core holds fits: a query chunk, two chunks of keys and of values, and scores."""
    if q_chunk % TILE or k_chunk % TILE or q_chunk <= 0 or k_chunk <= 0:
        raise Refused(f"attention chunks of {q_chunk} queries and {k_chunk} keys: both should be multiples of {TILE}")
    need = 2 * (q_chunk * head_dim * 2 + 2 * 2 * k_chunk * head_dim + 2 * q_chunk * k_chunk)
    if need > L1_BYTES:
        raise Refused(f"attention chunks of {q_chunk} queries and {k_chunk} keys take {need} bytes of a core, which has "
                      f"{L1_BYTES}")


def chunk_of(rows, most):
    """The largest power of two of tiles that rows fill, at most `most`."""
    size = TILE
    while size * 2 <= min(rows, most):
        size *= 2
    return size


# ---- activations -------------------------------------------------------------------------------------------------------

Piece = collections.namedtuple("Piece", "part col cols tensor")  # part None: text and image; rows are dimension 2


# ---- blockings of products ------------------------------------------------------------------------------------------------

Blocking = collections.namedtuple("Blocking", "m k n tall wide")  # tiles of a core's block along rows, inputs, outputs; of a subblock
LARGEST_BLOCK, SUBBLOCK = 16, 4  # tiles of a side; of a subblock: what a core's registers take of float32 sums
SUBBLOCKS = ((2, 2), (1, 4), (4, 1), (1, 2), (2, 1), (1, 1))


def usual_blocking(rows, outputs):
    """The library's own choice for what its tuned table lacks, which has none of FLUX.1's products, and less for small ones."""
    size = lambda n: 8 if -(-n // TILE) >= 8 else 2
    return Blocking(size(rows), 8, size(outputs), 2, 2)


def is_blocking(numbers):
    """Whether the library could take them: subblocks are whole parts of a block."""
    if len(numbers) != 5 or not all(type(n) is int and 1 <= n <= LARGEST_BLOCK for n in numbers):
        return False
    m, _, n, tall, wide = numbers
    return m % tall == 0 and n % wide == 0 and tall * wide <= SUBBLOCK


def next_to(b):
    """Blockings that differ from b in one thing: a side twice or half as long, or other subblocks."""
    sides = [b._replace(**{side: size}) for side in "mkn" for size in (getattr(b, side) * 2, getattr(b, side) // 2)]
    return [c for c in (*sides, *(b._replace(tall=t, wide=w) for t, w in SUBBLOCKS)) if c != b and is_blocking(c)]


def fastest(start, seconds):
    """From `start` to a neighbour as long as one is faster by more than 1 %. seconds(blocking): None where the library refuses.
    Returns the best and all that were tried."""
    tried = {start: seconds(start)}
    if tried[start] is None:
        return None, tried
    best, searched = start, None
    while best != searched:
        searched = best
        for b in next_to(searched):
            if b not in tried:
                tried[b] = seconds(b)
            if tried[b] is not None and tried[b] < 0.99 * tried[best]:
                best = b
    return best, tried


class Blockings:
    """What searches found, in a file: {version of the library: {which: [m, k, n, tall, wide]}}. Of another version nothing is
    taken, and nothing is lost."""

    def __init__(self, path):
        self.path, self.found = path, {}
        self.take()

    def take(self):
        """Adds what the file has of this version. Returns the whole file."""
        try:
            with open(self.path, encoding="utf-8") as f:
                whole = json.load(f)
            if not all(type(products) is dict for products in whole.values()):
                raise ValueError
            products = whole.get(version_of_library(), {})
            if not all(is_blocking(numbers) for numbers in products.values()):
                raise ValueError
        except FileNotFoundError:
            return {}
        except (OSError, TypeError, *BROKEN):
            raise Refused(f"{self.path} is no table of blockings: delete it, or name another in FLUX1_TTNN_BLOCKINGS") from None
        self.found |= {which: Blocking(*numbers) for which, numbers in products.items()}
        return whole

    @staticmethod
    def usual_path():
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        return os.path.abspath(os.environ.get("FLUX1_TTNN_BLOCKINGS") or os.path.join(cache, "flux1", "ttnn-blockings.json"))

    def keep(self, which, blocking):
        """Writes it beside what the file has now: other searches may have written since this one read it."""
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(f"{self.path}.lock", "a", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
            whole = self.take()
            self.found[which] = blocking
            part = f"{self.path}.part"
            with open(part, "w", encoding="utf-8") as f:
                json.dump(whole | {version_of_library(): self.found}, f, indent=1, sort_keys=True)
                f.write("\n")
            os.replace(part, self.path)


class Act:
    """A rank's activation [1, text + image, cols] as tensors of some of its rows and columns."""

    def __init__(self, text, image, cols, role, size=(0, 0), heights=()):
        self.rows = {"text": text, "image": image, None: text + image}
        self.size, self.heights = size, heights  # of a plane: height and width in pixels, row by row; heights that all ranks have
        self.cols, self.role, self.pieces = cols, role, []
        self.partial = {}  # of tables that are written some rows at a time

    def window(self, at):
        part = at.part or ("image" if not self.rows["text"] else "text" if not self.rows["image"] else None)
        return part, at.rows or (0, self.rows[part]), at.cols or (0, self.cols)


class Nothing:
    """Where weights and inputs come from: these have the right shapes and hold nothing."""

    def __init__(self, ttnn, device):
        self.t, self.device = ttnn, device

    def weight(self, w, bias, shape, dtype, layout):
        return self.t.empty(shape, dtype=dtype, layout=layout, device=self.device)

    def host_weight(self, w, bias, shape, dtype):
        """Row by row in the host's memory, where the library brings a convolution's weights into its own order."""
        return self.t.zeros(shape, dtype=dtype, layout=self.t.ROW_MAJOR_LAYOUT)

    def input(self, name, line, shape, dtype, layout):
        return self.t.empty(shape, dtype=dtype, layout=layout, device=self.device)


class Mapper:
    """Makes the calls of a recording with ttnn. Calls are methods of their name."""

    def __init__(self, recording, ttnn, device, links, weight_dtype, source):
        self.mesh, self.t, self.device, self.links, self.source = recording.mesh, ttnn, device, links, source
        self.weight_dtype, self.ranks = weight_dtype, recording.mesh.sp * recording.mesh.tp
        self.zeros = {}
        self.prepared = {}  # filters, by the tensors that they are made of; they stay
        self.clip_tokens = recording.picture.get("clip_tokens")
        self.buffers, self.step, self.resident, self.part = {}, 0, [], None
        self.grid, self.blockings = device.compute_with_storage_grid_size(), Blockings(Blockings.usual_path())
        config = lambda fidelity, **more: ttnn.init_device_compute_kernel_config(
            device.arch(), math_fidelity=fidelity, math_approx_mode=False, **more)
        self.products = config(ttnn.MathFidelity.HiFi2, fp32_dest_acc_en=True, packer_l1_acc=True)
        self.norms = config(ttnn.MathFidelity.HiFi4, fp32_dest_acc_en=True, packer_l1_acc=False)
        self.filters = config(ttnn.MathFidelity.HiFi4, fp32_dest_acc_en=True, packer_l1_acc=True)
        self.scores = config(ttnn.MathFidelity.HiFi2, fp32_dest_acc_en=False)
        cores = ttnn.CoreRangeSet({ttnn.CoreRange(ttnn.CoreCoord(0, 0), ttnn.CoreCoord(self.grid.x - 1, self.grid.y - 1))})
        sets = lambda n: [[ttnn.create_global_semaphore(device, cores, 0) for _ in range(n)] for _ in range(TURNS)]
        self.semaphores = {(kind, axis): sets(n) for kind, n in (("gather", 2), ("scatter", 3)) for axis in (0, 1)}
        self.exchanges = collections.Counter()  # of each kind and axis

    def enter(self, part):
        """Numbers are a part's own: clip, t5, the three stages of dit, vae. The weights of the parts before stay on the cards."""
        self.mesh = self.mesh._replace(filled=part != "t5")
        if self.part != part:
            self.halos, self.ends = {}, {}
            self.part, self.acts, self.marks, self.order, self.weights = part, {}, {}, [], {}
            self.rope, self.masks, self.rows_now = {}, {}, {}
            self.resident.append(self.weights)

    # -- tensors --

    def empty(self, shape, dtype=None):
        return self.t.empty(list(shape), dtype=dtype or self.t.bfloat16, layout=self.t.TILE_LAYOUT, device=self.device)

    def turn(self, kind, axis):
        """Of an exchange: its turn, and the semaphores. Devices do not wait for each other between two exchanges: one may
        begin the next while its neighbour is still in the last, so that has other semaphores and other buffers."""
        turn = self.exchanges[kind, axis] % TURNS
        self.exchanges[kind, axis] += 1
        return turn, self.semaphores[kind, axis][turn]

    def buffer(self, *key):
        """One that stays: exchanges write to the same places in every step. A new one may lie where a tensor was that a
        device still uses, while its neighbours write into it already: all come to an end first."""
        if key not in self.buffers:
            self.t.synchronize_device(self.device)
            dtype, layout = (next((k for k in key if isinstance(k, kind)), usual)
                             for kind, usual in ((self.t.DataType, self.t.bfloat16), (self.t.Layout, self.t.TILE_LAYOUT)))
            self.buffers[key] = self.t.empty(list(key[-1]), dtype=dtype, layout=layout, device=self.device)
        return self.buffers[key]

    def cut(self, x, dim, first, count):
        if first == 0 and count == x.shape[dim]:
            return x
        begin, end = [0] * 4, list(x.shape)
        begin[dim], end[dim] = first, first + count
        return self.t.slice(x, begin, end)

    def longer(self, x, dim, count):
        """With so many zeros behind it, which stay: a recorded step takes none from the host. x is row by row."""
        shape = list(x.shape)
        shape[dim] = count
        key = tuple(shape), x.dtype
        if key not in self.zeros:
            self.zeros[key] = self.nothing(shape, x.dtype)
        return self.t.concat([x, self.zeros[key]], dim=dim)

    def nothing(self, shape, dtype):
        return self.t.zeros(shape, dtype=dtype, layout=self.t.ROW_MAJOR_LAYOUT, device=self.device)

    def joined(self, tensors, dim):
        if len(tensors) == 1:
            return tensors[0]
        if dim == 2 and any(x.shape[2] % TILE for x in tensors[:-1]):  # the next one's begin inside of a tile
            return self.t.to_layout(self.by_rows(tensors), self.t.TILE_LAYOUT)
        return self.t.concat(tensors, dim=dim)

    def by_rows(self, tensors):
        return self.t.concat([self.t.to_layout(x, self.t.ROW_MAJOR_LAYOUT) for x in tensors], dim=2)

    def act(self, at, line):
        if at.act not in self.acts:
            raise Refused(f"line {line.number}: activation a{at.act} is not there")
        return self.acts[at.act]

    def columns(self, a, part, cols, line):
        """All rows of a part, these columns; None where it is not held like that."""
        self.complete(a, part)
        held = sorted((p for p in a.pieces if p.part == part), key=lambda p: p.col)
        for p in held:
            if p.col <= cols[0] and cols[0] + cols[1] <= p.col + p.cols:
                return p.tensor if (p.col, p.cols) == cols else self.cut(p.tensor, 3, cols[0] - p.col, cols[1])
        inside = [p for p in held if cols[0] <= p.col and p.col + p.cols <= cols[0] + cols[1]]
        if inside and sum(p.cols for p in inside) == cols[1]:
            return self.joined([self.flat(p.tensor) for p in inside], 3)
        return None

    def flat(self, x):
        """Heads side by side."""
        return x if x.shape[1] == 1 else self.t.unsqueeze(self.t.transformer.concatenate_heads(x), 0)

    def read(self, text, line):
        at = operand(text, self.mesh, line)
        if at is None:
            return None
        a = self.act(at, line)
        part, rows, cols = a.window(at)
        x = self.partial_rows(a, part, rows, cols)
        if x is not None:
            return x
        x = self.columns(a, part, cols, line)
        if x is None and part is None:
            both = [self.columns(a, p, cols, line) for p in ("text", "image")]
            x = None if any(y is None for y in both) else self.joined(both, 2)
        if x is None and part is not None:
            whole = self.columns(a, None, cols, line)
            first = a.rows["text"] if part == "image" else 0
            x = None if whole is None else self.cut(whole, 2, first, a.rows[part])
        if x is None:
            raise Refused(f"line {line.number}: {text} was not written")
        return self.cut(x, 2, *rows)

    def span(self, a, part, rows, cols):
        """Of a table that is not whole yet, which of its tensors are these rows; None if they were written in no such way."""
        first, begin = 0, None
        for i, x in enumerate(a.partial.get((part, cols), [])):
            begin = i if first == rows[0] else begin
            first += x.shape[2]
            if begin is not None and first == rows[0] + rows[1]:
                return slice(begin, i + 1)
        return None

    def partial_rows(self, a, part, rows, cols):
        if rows == (0, a.rows[part]):
            self.complete(a, part)
        at = self.span(a, part, rows, cols)
        return None if at is None else self.stacked(a.partial[(part, cols)][at])

    def stacked(self, tensors):
        """One below the other, with any number of rows."""
        return tensors[0] if len(tensors) == 1 else self.t.to_layout(self.by_rows(tensors), self.t.TILE_LAYOUT)

    def write(self, text, x, line):
        at = operand(text, self.mesh, line)
        a = self.act(at, line)
        part, rows, cols = a.window(at)
        if x.shape[2] != rows[1]:
            raise Refused(f"line {line.number}: {line.call} gives {x.shape[2]} rows, {text} has {rows[1]}")
        if rows != (0, a.rows[part]):
            return self.write_rows(a, part, rows, cols, x, line)
        kept = []
        for p in a.pieces:
            kept += self.outside(a, p, part, cols)
        a.pieces = kept + [Piece(part, *cols, x)]

    def write_rows(self, a, part, rows, cols, x, line):
        """Some rows of a table: again, or behind those that are there."""
        written = a.partial.setdefault((part, cols), [])
        before = self.span(a, part, rows, cols)
        if before is not None:
            written[before] = [x]
        elif rows[0] == sum(y.shape[2] for y in written):
            written.append(x)
        else:
            raise Refused(f"line {line.number}: rows from {rows[0]} on are written out of order")

    def complete(self, a, part):
        """Makes tables of rows whole that all have been written."""
        for (owner, cols), written in list(a.partial.items()):
            if owner == part and sum(x.shape[2] for x in written) == a.rows[part]:
                del a.partial[(owner, cols)]
                a.pieces.append(Piece(part, *cols, self.stacked(written)))

    def outside(self, a, p, part, cols):
        """What stays of a piece when these columns of a part are written."""
        first, last = max(p.col, cols[0]), min(p.col + p.cols, cols[0] + cols[1])
        if first >= last or (part and p.part and part != p.part):
            return [p]
        out = []
        if part and not p.part:
            other = "text" if part == "image" else "image"
            begin = a.rows["text"] if other == "image" else 0
            out.append(Piece(other, p.col, p.cols, self.cut(p.tensor, 2, begin, a.rows[other])))
        for begin, end in ((p.col, first), (last, p.col + p.cols)):
            if begin < end:
                out.append(Piece(p.part and part or p.part, begin, end - begin, self.cut(p.tensor, 3, begin - p.col, end - begin)))
        return out

    def none(self, line, key="out"):
        """Whether the call has no rows on any rank."""
        at = operand(line.keys[key], self.mesh, line)
        return at is None or self.act(at, line).window(at)[1][1] == 0

    # -- memory --

    def create(self, line):
        k = line.keys
        number = lambda key: same(k.get(key, "0"), self.mesh, line)
        if number("batch") != 1:
            raise Refused(f"line {line.number}: a batch of {number('batch')}: pictures are made one by one")
        name, size = int(k["act"][1:]), (number("height"), number("width"))
        self.acts[name] = Act(self.tokens(number("text")), number("image"), number("cols"), k["role"], size,
                              values_of(k.get("height", "0"), self.mesh))
        self.order.append(name)

    def tokens(self, count):
        """All of CLIP's tokens are as many as filled shares hold; its causal attention does not see those behind the last."""
        return -(-count // self.ranks) * self.ranks if self.part == "clip" and count == self.clip_tokens else count

    def at_step(self, step):
        """Tables are read at this row from here on."""
        self.step, self.rows_now = step, {}

    def mark(self, line):
        self.marks[line.keys["mark"]] = len(self.order)

    def release(self, line):
        first = self.marks[line.keys["mark"]]
        for name in self.order[first:]:
            self.acts.pop(name, None)
        del self.order[first:]

    def input(self, line):
        at = operand(line.keys["out"], self.mesh, line)
        a = self.act(at, line)
        part, rows, cols = a.window(at)
        name, shape, t = line.keys["name"], [1, 1, rows[1], cols[1]], self.t
        take = lambda what, size, dtype=t.bfloat16, layout=t.TILE_LAYOUT: self.source.input(what, line, list(size), dtype, layout)
        if name.startswith("rope."):  # cosines and sines, each twice
            self.rope[(at.act, part)] = take(name + ".cosines", shape), take(name + ".sines", shape)
        elif name == "t5.bias":  # by key − query; a score each
            tokens = (cols[1] + 1) // 2
            self.masks[at.act] = take(name, [1, rows[1], tokens, tokens])
        elif a.role == "ids":
            a.pieces = [Piece(part, *cols, take(name, [1, rows[1]], t.uint32, t.ROW_MAJOR_LAYOUT))]
        else:
            exact = name in ("noise", "dsigma", "time", "guidance")
            self.write(line.keys["out"], take(name, shape, t.float32 if exact else t.bfloat16), line)

    def output(self, line):
        self.result = self.read(line.keys["in"], line)

    # -- weights --

    def weight(self, line):
        k = line.keys
        rows, cols = same(k["rows"], self.mesh, line), same(k["cols"], self.mesh, line)
        if k["role"] == "qkv" and set(values_of(k["rows"], self.mesh)) - {rows, 0}:  # k and v would begin elsewhere
            raise Refused(f"line {line.number}: heads that are not shared evenly by {self.ranks} devices; {OTHER_HEADS}")
        kernel = same(k.get("kernel", "1"), self.mesh, line)
        self.weights[k["w"]] = {"role": k["role"], "rows": rows, "cols": cols, "kernel": kernel, "bias": False, "pieces": []}

    def bias(self, line):
        self.weights[line.keys["w"]]["bias"] = True

    def piece(self, line):
        self.weights[line.keys["w"]]["pieces"].append(line)

    def prepare(self, line):
        """Matrices are turned, [inputs, outputs]; vectors and biases are rows; tables stay as they are, row by row; those
        of 3×3 convolutions come when the size of a plane is known (filter)."""
        w, t = self.weights[line.keys["w"]], self.t
        take = lambda bias, shape, dtype=t.bfloat16, layout=t.TILE_LAYOUT: self.source.weight(w, bias, shape, dtype, layout)
        if w["role"] == "conv" and w["kernel"] == 3:
            return
        if w["role"] in ("linear", "qkv", "conv"):
            packed = self.part in ("t5", "dit")
            w["matrix"] = take(False, [w["cols"], w["rows"]], self.weight_dtype if packed else t.bfloat16)
        elif w["role"] == "vector":
            w["matrix"] = take(False, [1, w["rows"]])
        elif w["role"] == "table":
            w["matrix"] = take(False, [w["rows"], w["cols"]], layout=t.ROW_MAJOR_LAYOUT)
        else:
            raise Refused(f"line {line.number}: weights of role {w['role']} are not executed yet")
        w["row"] = take(True, [1, w["rows"]]) if w["bias"] else None

    def block(self, line):
        pass

    begin = end = finite = check = block

    # -- products --

    def product(self, x, name):
        w, t = self.weights[name], self.t
        if x.dtype != t.bfloat16:
            x = t.typecast(x, t.bfloat16)
        return self.multiplied(x, w, self.blocking(x, w))

    def which(self, x, w):
        """A product in the table: the chip, its cores, the matrix's form and the sizes on a device."""
        kind = lambda a: str(a).rpartition(".")[2].lower()
        return (f"{kind(self.device.arch())} {self.grid.x}x{self.grid.y} {kind(w['matrix'].dtype)} "
                f"{x.shape[2]}x{x.shape[3]}x{w['matrix'].shape[-1]}")

    def blocking(self, x, w):
        found = self.blockings.found.get(self.which(x, w)) if self.blockings.found else None
        return found or usual_blocking(x.shape[2], w["rows"])

    def multiplied(self, x, w, b):
        config = self.t.MinimalMatmulConfig(M_block_size=b.m, K_block_size=b.k, N_block_size=b.n, subblock_h=b.tall, subblock_w=b.wide,
                                            compute_with_storage_grid_size=self.grid)
        return self.t.experimental.minimal_matmul(input_tensor=x, weight_tensor=w["matrix"], bias_tensor=w["row"], config=config,
                                                  fused_activation=None, compute_kernel_config=self.products)

    def activated(self, x, f, line):
        if f in (None, "none"):
            return x
        if f == "silu":
            return self.t.silu(x)
        if f in ("gelu", "gelu_tanh"):
            return self.t.gelu(x, fast_and_approximate_mode=False)
        if f == "quick_gelu":
            return self.t.multiply(x, self.t.sigmoid(self.t.multiply(x, 1.702)))
        raise Refused(f"line {line.number}: {line.call}: unknown activation {f}")

    def linear(self, line):
        k = line.keys
        if self.none(line):
            return
        self.finish(self.product(self.flat(self.read(k["in"], line)), k["w"]), line)

    def finish(self, y, line):
        """What comes behind a product, in the order of the table in docs/recording.md."""
        k = line.keys
        if "addend" in k:
            y = self.t.add(y, self.read(k["addend"], line))
        y = self.activated(y, k.get("f"), line)
        for key in ("mul", "gate"):
            if key in k:
                y = self.t.multiply(y, self.now(k[key], line) if key == "gate" else self.read(k[key], line))
        if "residual" in k:
            y = self.t.add(y, self.read(k["residual"], line))
        self.write(k["out"], y, line)

    def qkv_norm_rope(self, line):
        k, t = line.keys, self.t
        heads = same(k["heads"], self.mesh, line)
        x = t.squeeze(self.product(self.read(k["in"], line), k["w"]), 0)
        q, key, v = t.transformer.split_query_key_value_and_split_heads(x, num_heads=heads, transpose_key=False,
                                                                        memory_config=x.memory_config())
        q = self.turned(self.head_norm(q, k.get("norm_q"), k), k.get("rope"), line)
        key = self.turned(self.head_norm(key, k.get("norm_k"), k), k.get("rope"), line)
        at = operand(k["out"], self.mesh, line)
        a = self.act(at, line)
        part, _, (first, cols) = a.window(at)
        width = cols // 3
        suffix = f".{part}" if part else ""
        for i, one in enumerate((q, key, v)):
            self.write(f"a{at.act}{suffix}:{first + i * width}+{width}", one, line)

    def head_norm(self, x, name, k):
        if name is None:
            return x
        return self.t.experimental.dit_rms_norm_unary_fused(x, weight=self.weights[name]["matrix"], bias=None,
                                                            epsilon=float(k["eps"]))

    def turned(self, x, text, line):
        at = operand(text, self.mesh, line) if text else None
        if at is None:
            return x
        part = self.act(at, line).window(at)[0]
        names = [part] if part else ["text", "image"]
        cosine, sine = (self.joined([self.rope[(at.act, n)][i] for n in names], 2) for i in (0, 1))
        return self.t.add(self.t.multiply(x, cosine), self.t.multiply(self.t.alt_complex_rotate90(x), sine))

    # -- calls that are several: ops.h says which --

    def linear_norm(self, line):
        k = line.keys
        self.linear(line)
        norm = {"in": k["out"], "eps": k["eps"], "out": k["normed"]}
        self.layer_norm(line._replace(keys=norm | {to: k[key] for key, to in (("norm_w", "w"), ("shift", "shift"), ("scale", "scale")) if key in k}))

    def single_products(self, line):
        k = line.keys
        self.qkv_norm_rope(line)
        self.linear(line._replace(keys={"in": k["in"], "w": k["up"], "f": "gelu_tanh", "out": k["hidden"]}))

    def mlp(self, line):
        k = line.keys
        hidden = self.activated(self.product(self.flat(self.read(k["in"], line)), k["up"]), k.get("f_up"), line)
        self.finish(self.product(hidden, k["down"]), line)

    # -- norms and the rest --

    def now(self, text, line):
        """A table's row at the step counter, [1, 1, 1, cols]."""
        at = operand(text, self.mesh, line)
        a = self.act(at, line)
        key = (at.act, at.rows, at.cols)
        if key not in self.rows_now:
            part, rows, cols = a.window(at)
            table = self.columns(a, part, cols, line)
            if table is None:
                raise Refused(f"line {line.number}: table {text} was not written")
            self.rows_now[key] = self.cut(table, 2, rows[0] + self.step, 1)
        return self.rows_now[key]

    def layer_norm(self, line):
        k, t = line.keys, self.t
        if "w" in k and ("scale" in k or "shift" in k):
            raise Refused(f"line {line.number}: a norm with weights of its own and a scale or shift is not executed yet")
        if self.none(line):
            return
        weight = t.add(self.now(k["scale"], line), 1.0) if "scale" in k else None
        bias = self.now(k["shift"], line) if "shift" in k else None
        if "w" in k:
            w = self.weights[k["w"]]
            weight, bias = w["matrix"], w["row"]
        self.write(k["out"], t.layer_norm(self.read(k["in"], line), epsilon=float(k["eps"]), weight=weight, bias=bias,
                                          compute_kernel_config=self.norms), line)

    def rms_norm(self, line):
        k = line.keys
        self.write(k["out"], self.t.rms_norm(self.read(k["in"], line), epsilon=float(k["eps"]),
                                             weight=self.weights[k["w"]]["matrix"], compute_kernel_config=self.norms), line)

    def embed(self, line):
        k = line.keys
        ids = self.act(operand(k["ids"], self.mesh, line), line).pieces[0].tensor
        y = self.looked_up(ids, self.weights[k["table"]]["matrix"])
        self.write(k["out"], self.t.add(y, self.positions(y.shape[2], line)) if "positions" in k else y, line)

    def looked_up(self, ids, table):
        return self.t.unsqueeze(self.t.embedding(ids, table, layout=self.t.TILE_LAYOUT), 0)

    def positions(self, rows, line):
        """Of the table of positions, the rows of each device's tokens; zeros behind its end."""
        w, t = self.weights[line.keys["positions"]], self.t
        whole, firsts = rows * self.ranks, values_of(line.keys.get("first", "0"), self.mesh)
        if any(first != r * rows for r, first in enumerate(firsts) if r * rows < w["rows"]):
            raise Refused(f"line {line.number}: positions from {line.keys['first']} on do not follow each other by {rows}")
        x = t.reshape(w["matrix"], [1, 1, w["rows"], w["cols"]])
        x = self.longer(x, 2, whole - w["rows"]) if whole > w["rows"] else self.cut(x, 2, 0, whole)
        return t.to_layout(self.partitioned(x), t.TILE_LAYOUT)

    def partitioned(self, x):
        """Of rows that all devices have, each one's share, row by row."""
        for axis, _ in reversed(self.axes("all")):
            x = self.t.mesh_partition(x, dim=2, cluster_axis=axis)
        return x

    def copy_rows(self, line):
        k, t = line.keys, self.t
        x, at = self.read(k["in"], line), operand(k["out"], self.mesh, line)
        if "given" in k:  # a number that the host knows: a row of a table
            table = t.reshape(t.to_layout(x, t.ROW_MAJOR_LAYOUT), [x.shape[2], x.shape[3]])
            y = self.looked_up(self.source.input(k["given"], line, [1, 1], t.uint32, t.ROW_MAJOR_LAYOUT), table)
        else:
            y = self.cut(x, 2, same(k.get("first", "0"), self.mesh, line), self.act(at, line).window(at)[1][1])
        self.write(k["out"], y, line)

    def activate(self, line):
        k = line.keys
        y = self.activated(self.read(k["in"], line), k.get("f"), line)
        self.write(k["out"], self.t.multiply(y, self.read(k["mul"], line)) if "mul" in k else y, line)

    def add(self, line):
        k = line.keys
        if self.none(line):
            return
        y = self.read(k["y"], line)
        if "gate" in k:
            y = self.t.multiply(y, self.now(k["gate"], line))
        if float(k["s"]) != 1:
            y = self.t.multiply(y, float(k["s"]))
        self.write(k["out"], self.t.add(self.read(k["x"], line), y), line)

    def euler(self, line):
        k = line.keys
        self.write(k["x"], self.t.add(self.read(k["x"], line), self.t.multiply(self.read(k["v"], line), self.now(k["dsigma"], line))), line)

    def cast(self, line):
        self.write(line.keys["out"], self.flat(self.read(line.keys["in"], line)), line)

    # -- planes: pixels row by row, of channels side by side --

    def plane(self, text, line):
        """Its values, height and width."""
        return self.read(text, line), *self.act(operand(text, self.mesh, line), line).size

    def conv(self, line):
        k = line.keys
        if k.get("stride", "1") != "1":
            raise Refused(f"line {line.number}: a convolution with a stride of {k['stride']} is not executed yet")
        x, height, width = self.plane(k["in"], line)
        if self.weights[k["w"]]["kernel"] == 3:
            x = self.bounded(x, line)
        self.finish(self.convolved(x, height, width, line), line)

    def norm_conv(self, line):
        x, height, width = self.plane(line.keys["in"], line)
        normed = lambda: self.bounded(self.group_normed(x, self.read(line.keys["stats"], line), line.keys["norm_w"], line), line)
        self.finish(self.convolved(normed(), height, width, line), line)  # which nobody else holds

    def upsample_conv(self, line):
        x, height, width = self.plane(line.keys["in"], line)
        doubled = lambda: self.doubled(self.bounded(x, line), height, width)
        self.finish(self.convolved(doubled(), 2 * height, 2 * width, line), line)  # which nobody else holds

    def doubled(self, x, height, width):
        t, cols = self.t, x.shape[3]
        x = t.upsample(t.reshape(t.to_layout(x, t.ROW_MAJOR_LAYOUT), [1, height, width, cols]), 2)
        return t.reshape(x, [1, 1, 4 * height * width, cols])

    def convolved(self, x, height, width, line):
        """1×1, or 3×3 with the neighbours' rows above and below; the library slices planes that are larger than L1."""
        k, t = line.keys, self.t
        w = self.weights[k["w"]]
        if w["kernel"] == 1:
            return self.product(x, k["w"])
        self.check_halos(line)
        x = t.to_layout(x, t.ROW_MAJOR_LAYOUT)
        if self.ranks > 1:
            x = self.with_neighbours(x, width)
        padding = (0, 1) if self.ranks > 1 else (1, 1)
        name, matrix, row = self.filter(w, height, width)
        y, prepared = t.conv2d(
            input_tensor=x, weight_tensor=matrix, bias_tensor=row, device=self.device, in_channels=w["cols"] // 9,
            out_channels=w["rows"], batch_size=1, input_height=x.shape[2] // width, input_width=width, kernel_size=(3, 3),
            stride=(1, 1), padding=padding, dtype=t.bfloat16, compute_config=self.filters, return_weights_and_bias=True)
        self.prepared[name] = (height, width), prepared
        return t.reshape(y, [1, 1, height * width, w["rows"]])

    def filter(self, w, height, width):
        """A convolution's weights and bias as the library has prepared them for planes of this size, or as the host has them."""
        name = tuple(line.keys["tensor"] for line in w["pieces"])
        size, (matrix, row) = self.prepared.pop(name, (None, (None, None)))
        if size != (height, width):
            matrix = self.source.host_weight(w, False, [w["rows"], w["cols"] // 9, 3, 3], self.t.bfloat16)
            check_filter(matrix.shape, w["rows"], w["cols"] // 9)
            row = self.source.host_weight(w, True, [1, 1, 1, w["rows"]], self.t.bfloat16) if w["bias"] else None
        return name, matrix, row

    def halo_row(self, line):
        """What its neighbours' rows are for is known when they are used; until then they are a name."""
        k = line.keys
        source, out = (operand(k[key], self.mesh, line) for key in ("in", "out"))
        distance, row = same(k["distance"], self.mesh, line), same(k.get("row", "0"), self.mesh, line)
        last = 0 if distance == 1 else self.act(source, line).size[0] - 1
        if distance not in (1, -1) or row != last or values_of(k["wanted"], self.mesh) != self.neighbours(source, distance, line):
            raise Refused(f"line {line.number}: row {row} of the device at distance {distance} is not a plane's border")
        self.halos[out.act] = (self.read(k["in"], line), distance)

    def neighbours(self, plane, distance, line):
        """Of each device 1 if it has rows of the plane, and so has the one at this distance."""
        rows = {r: n for r, n in enumerate(self.act(plane, line).heights) if n}
        return [int(r in rows and r + distance in rows) for r in range(self.ranks)]

    def check_halos(self, line):
        """top and bottom are those of `in` as it is, and missing at the picture's border alone."""
        x, plane = self.read(line.keys["in"], line), operand(line.keys["in"], self.mesh, line)
        for key, distance in (("top", -1), ("bottom", 1)):
            text, _, there = line.keys.get(key, "a-1?0").partition("?")
            source, told = self.halos.pop(int(text[1:]), (None, None))
            known = self.ranks == 1 or (source is x and told == distance)
            if not known or values_of(there or "1", self.mesh) != self.neighbours(plane, distance, line):
                raise Refused(f"line {line.number}: {key} is not the neighbours' row of {line.keys['in']}")

    def with_neighbours(self, x, width):
        """A plane with a row above and one below, of the devices before and behind; zeros at the picture's border. Of all first
        and last rows along an axis a device takes two. Those that lie at the axis's ends come from another line of devices:
        along the next axis each line gives the first row of its first device and the last one of its last."""
        t, cols, row, lines = self.t, x.shape[3], lambda y, first: self.cut(y, 2, first, width), []
        first, last = row(x, 0), row(x, x.shape[2] - width)
        for axis, ranks in self.axes("all"):
            edges = self.gathered(t.concat([first, last], dim=3), 2, axis, ranks, plain=True)
            firsts, lasts = (self.cut(edges, 3, at, cols) for at in (0, cols))
            first, last = row(firsts, 0), row(lasts, (ranks - 1) * width)
            lines.append((axis, (ranks - 1) * width, firsts, lasts))
        above = below = self.nothing([1, 1, width, cols], x.dtype)
        for axis, rest, firsts, lasts in reversed(lines):
            below = t.mesh_partition(t.concat([self.cut(firsts, 2, width, rest), below], dim=2), dim=2, cluster_axis=axis)
            above = t.mesh_partition(t.concat([above, self.cut(lasts, 2, 0, rest)], dim=2), dim=2, cluster_axis=axis)
        return t.concat([above, x, below], dim=2)

    def inside_of(self, line):
        """Of a plane whose rows the devices do not share evenly: [1, 1, rows, 1], 1 where a row is the picture's and 0 behind its
        end; None where all are."""
        a, t = self.act(operand(line.keys["in"], self.mesh, line), line), self.t
        (height, width), real = a.size, sum(a.heights)
        if real == self.ranks * height:
            return None
        if a.size not in self.ends:
            ones = t.ones([1, 1, real, width], dtype=t.bfloat16, layout=t.ROW_MAJOR_LAYOUT, device=self.device)
            mine = self.partitioned(t.concat([ones, self.nothing([1, 1, self.ranks * height - real, width], t.bfloat16)], dim=2))
            self.ends[a.size] = t.reshape(t.to_layout(mine, t.TILE_LAYOUT), [1, 1, height * width, 1])
        return self.ends[a.size]

    def bounded(self, x, line):
        """With zeros behind the picture's end: what a convolution sees there."""
        inside = self.inside_of(line)
        return x if inside is None else self.t.multiply(x, inside)

    def group_means(self, x, groups):
        """Over rows and the columns of each group, [1, 1, groups, 1]. Rows first in parts that many cores share."""
        t, rows, cols = self.t, x.shape[2], x.shape[3]
        parts = next(n for n in (64, 32, 16, 8, 4, 2, 1) if n == 1 or rows % (n * TILE) == 0)
        y = t.mean(t.reshape(x, [1, parts, rows // parts, cols]), dim=2, keepdim=True)
        y = t.mean(t.typecast(y, t.float32), dim=1, keepdim=True)
        return t.mean(t.reshape(y, [1, 1, groups, cols // groups]), dim=3, keepdim=True)

    def group_stats(self, line):
        self.write(line.keys["out"], self.moments(line), line)

    def moments(self, line):
        """Mean and variance of each group, [1, 1, groups, 2]; all devices have equally many values. Where they have not, there is
        a third column: how many, as a share of those that fit."""
        t, groups, inside = self.t, same(line.keys["groups"], self.mesh, line), self.inside_of(line)
        x = self.bounded(self.read(line.keys["in"], line), line)
        mean, width = self.group_means(x, groups), x.shape[3] // groups
        if inside is not None:
            share = self.group_means(inside, 1)
            whole = t.reciprocal(t.add(share, 1e-20))  # a device without values has sums of 0
            mean = t.multiply(mean, whole)
        x = t.subtract(x, t.reshape(t.repeat(mean, [1, 1, 1, width]), [1, 1, 1, x.shape[3]]))
        if inside is None:
            return t.concat([mean, self.group_means(t.multiply(x, x), groups)], dim=3)
        x = self.bounded(x, line)
        spread = t.multiply(self.group_means(t.multiply(x, x), groups), whole)
        return t.concat([mean, spread, t.repeat(share, [1, 1, groups, 1])], dim=3)

    def group_norm(self, line):
        k = line.keys
        self.write(k["out"], self.group_normed(self.read(k["in"], line), self.moments(line), k["w"], line), line)

    def group_apply(self, line):
        k = line.keys
        self.write(k["out"], self.group_normed(self.read(k["in"], line), self.read(k["stats"], line), k["w"], line), line)

    def group_normed(self, x, stats, name, line):
        """By the statistics of all devices together: a factor and a sum of each column."""
        t, k, w, cols = self.t, line.keys, self.weights[name], x.shape[3]
        groups = same(k["groups"], self.mesh, line)
        column = lambda i: t.reshape(self.cut(stats, 3, i, 1), [1, stats.shape[2] // groups, groups, 1])
        means, spreads, together = column(0), column(1), lambda v: t.mean(v, dim=1, keepdim=True)
        if stats.shape[3] == 3:
            share = column(2)
            all_of_them = together(share)
            together = lambda v: t.multiply(t.mean(t.multiply(v, share), dim=1, keepdim=True), t.reciprocal(all_of_them))
        mean = together(means)
        off = t.subtract(means, mean)
        spread = together(t.add(spreads, t.multiply(off, off)))
        of_group = lambda v: t.typecast(t.reshape(v, [1, 1, groups, cols // groups]), t.float32)
        factor = t.multiply(of_group(w["matrix"]), t.rsqrt(t.add(spread, float(k["eps"]))))
        more = t.subtract(of_group(w["row"]), t.multiply(factor, mean))
        factor, more = (t.reshape(v, [1, 1, 1, cols]) for v in (factor, more))
        y = t.add(t.multiply(x, factor), more)
        return t.silu(y) if k.get("silu", "0") != "0" else y

    # -- exchanges --

    def axes(self, axis):
        """[(device axis, ranks)], innermost first: ranks are numbered along tp first."""
        m = self.mesh
        both = [(m.tp_axis, m.tp), (m.sp_axis, m.sp)]
        return [a for a in {"tp": both[:1], "sp": both[1:], "all": both}[axis] if a[1] > 1]

    def gathered(self, x, dim, axis, ranks, plain=False):
        """The shares of all ranks of an axis. Those that are no whole tiles travel row by row; plain: as x is already."""
        shape, whole = list(x.shape), x.shape[dim] % TILE == 0 and not plain
        shape[dim] *= ranks
        layout = self.t.TILE_LAYOUT if whole else self.t.ROW_MAJOR_LAYOUT
        large = whole and x.shape[2] > 512
        turn, semaphores = self.turn("gather", axis)
        x = x if whole or plain else self.t.to_layout(x, layout)
        buffer = self.buffer("gather", turn, dim, axis, x.dtype, layout, tuple(shape))
        check_gather(x, dim, ranks, buffer)
        y = self.t.experimental.all_gather_async(
            x, persistent_output_buffer=buffer, dim=dim,
            multi_device_global_semaphore=semaphores, num_links=self.links, topology=self.t.Topology.Linear,
            cluster_axis=axis, chunks_per_sync=16 if large else 10, num_workers_per_link=3 if large else 2, num_buffers_per_channel=2)
        return self.t.clone(y) if whole or plain else self.t.to_layout(y, self.t.TILE_LAYOUT)

    def gather(self, line, dim):
        for source, target in self.parts(line):
            x = self.read(source, line)
            for axis, ranks in self.axes(line.keys["axis"]):
                x = self.gathered(x, dim, axis, ranks)
            rows = self.rows_of(target, line)
            self.write(target, self.cut(x, 2, 0, rows) if x.shape[2] > rows else x, line)  # filled shares are so at the end

    def rows_of(self, text, line):
        at = operand(text, self.mesh, line)
        return self.act(at, line).window(at)[1][1]

    def gather_rows(self, line):
        self.gather(line, 2)

    def gather_columns(self, line):
        self.gather(line, 3)

    def parts(self, line):
        """(in, out) of each part: prompt and image are cut each by itself."""
        k = line.keys
        ends = [operand(k[key], self.mesh, line) for key in ("in", "out")]
        if ends[1].part or not all(self.act(ends[1], line).rows[p] for p in ("text", "image")):
            return [(k["in"], k["out"])]
        if any(end.rows or end.cols for end in ends):
            raise Refused(f"line {line.number}: an exchange of windows of both parts")
        return [(f"a{ends[0].act}.{p}", f"a{ends[1].act}.{p}") for p in ("text", "image")]

    def reduce_rows(self, line):
        for source, target in self.parts(line):
            x, axes, t = self.read(source, line), self.axes(line.keys["axis"]), self.t
            filled = math.prod(ranks for _, ranks in axes) * self.rows_of(target, line)
            if x.shape[2] < filled:
                x = t.to_layout(self.longer(t.to_layout(x, t.ROW_MAJOR_LAYOUT), 2, filled - x.shape[2]), t.TILE_LAYOUT)
            for axis, ranks in reversed(axes):
                x = self.scattered(x, 2, axis, ranks) if x.shape[2] % (TILE * ranks) == 0 else self.summed(x, axis, ranks, line)
            self.write(target, x, line)

    def summed(self, x, axis, ranks, line):
        """A share of rows that is no whole tiles: sums of columns, all of them, and then each device its own rows."""
        if x.shape[2] % ranks:
            raise Refused(f"line {line.number}: {x.shape[2]} rows are not shared evenly by {ranks} devices")
        cols, t = x.shape[3], self.t
        if cols % (TILE * ranks):
            x = t.to_layout(self.longer(t.to_layout(x, t.ROW_MAJOR_LAYOUT), 3, -cols % (TILE * ranks)), t.TILE_LAYOUT)
        y = self.gathered(self.scattered(x, 3, axis, ranks), 3, axis, ranks)
        y = t.mesh_partition(t.to_layout(self.cut(y, 3, 0, cols), t.ROW_MAJOR_LAYOUT), dim=2, cluster_axis=axis)
        return t.to_layout(y, t.TILE_LAYOUT)

    def scattered(self, x, dim, axis, ranks):
        shape, t = list(x.shape), self.t
        sizes = scatter_shapes(shape, dim, ranks, "Linear")
        turn, semaphores = self.turn("scatter", axis)
        names = ("sums", "share")
        buffers = [self.buffer(name, turn, axis, dim, tuple(shape), tuple(size)) for name, size in zip(names, sizes)]
        check_scatter(shape, dim, ranks, "Linear", *(list(b.shape) for b in buffers))
        y = t.experimental.reduce_scatter_minimal_async(
            x, persistent_output_buffers=buffers, dim=dim, multi_device_global_semaphore=semaphores,
            num_links=self.links, memory_config=t.DRAM_MEMORY_CONFIG, topology=t.Topology.Linear, cluster_axis=axis,
            chunks_per_sync=2, num_workers_per_link=2, num_buffers_per_channel=2)
        return t.clone(y)

    # -- attention --

    def program(self, grid, rows, keys, head_dim):
        q_chunk, k_chunk = chunk_of(rows, 128), chunk_of(keys, 512 if head_dim <= 128 else 128)
        check_chunks(q_chunk, k_chunk, head_dim)
        return self.t.SDPAProgramConfig(compute_with_storage_grid_size=grid, q_chunk_size=q_chunk, k_chunk_size=k_chunk,
                                        exp_approx_mode=False)

    def attention(self, line):
        k = line.keys
        mask = self.masks[operand(k["bias"], self.mesh, line).act] if "bias" in k else None
        causal = k.get("causal", "0") != "0"
        if causal and mask is not None:
            raise Refused(f"line {line.number}: causal attention with a bias is not executed yet")
        self.write(k["out"], self.attended((self.read(k[name], line) for name in "qkv"), line, mask, causal), line)

    def attended(self, tensors, line, mask=None, causal=False):
        heads = same(line.keys["heads"], self.mesh, line)
        q, key, v = (self.in_heads(x, heads) for x in tensors)
        program = self.program(self.grid, q.shape[2], key.shape[2], q.shape[3])
        return self.t.transformer.scaled_dot_product_attention(
            q, key, v, attn_mask=mask, is_causal=causal, scale=float(line.keys["scale"]), program_config=program,
            compute_kernel_config=self.scores)

    def in_heads(self, x, heads):
        if x.shape[1] == heads:
            return x
        return self.t.permute(self.t.reshape(x, [1, x.shape[2], heads, x.shape[3] // heads]), [0, 2, 1, 3])

    def ring(self, lines, at):
        """From `ring_begin` to the `cast` behind it: attention over all ranks' keys. Returns how many lines that were."""
        begin, first, length = lines[at], None, 1
        if all(line.call != "cast" for line in lines[at:]):
            raise Refused(f"line {begin.number}: a ring without the cast that ends it")
        here = lines[at:next(i for i, line in enumerate(lines) if i > at and line.call == "cast")]
        received = {line.keys[key] for line in here if line.call == "ring_receive" for key in "kv"}
        while lines[at + length].call != "cast":
            line = lines[at + length]
            self.made_by_all(line)
            if line.call == "linear":
                self.linear(line)
            elif line.call == "attention_part" and not first:
                first = line
            elif line.call not in ("create", "mark", "release", "ring_receive", "attention_part", "attention_merge"):
                raise Refused(f"line {line.number}: {line.call} inside a ring")
            if line.call in ("create", "mark", "release") and line.keys.get("act") not in received:
                getattr(self, line.call)(line)
            length += 1
        if not first:
            raise Refused(f"line {begin.number}: a ring without attention")
        text, image, unit = (same(begin.keys.get(key, "0"), self.mesh, begin) for key in ("text", "image", "unit"))
        mine, ranks = self.act(operand(first.keys["k"], self.mesh, first), first).rows, math.prod(n for _, n in self.axes(begin.keys["axis"]))
        tokens = (text + image) * unit
        if text and (text != ranks * mine["text"] or image <= (ranks - 1) * mine["image"]):
            raise Refused(f"line {begin.number}: {text} tokens of the prompt and {image} of the picture for {ranks} devices: the prompt's "
                          f"should be shared evenly, and each device should have some of the picture's")
        turns = self.part != "vae" and mine[None] % TILE == 0 and mine[None] * ranks == tokens
        (self.ring_attention if turns else self.whole_attention)(begin, first, lines[at + length], tokens)
        return length + 1

    def whole_attention(self, begin, part, cast, tokens):
        """All devices have all keys and values: of the VAE's one head, along both axes of the mesh, and of tokens that are no
        whole tiles on each device, where those behind the last would lie among the keys of a ring; here they are cut off."""
        q, key, v = (self.read(part.keys[name], part) for name in "qkv")
        for axis, ranks in self.axes(begin.keys["axis"]):
            key, v = (self.gathered(x, 2, axis, ranks) for x in (key, v))
        key, v = (self.cut(x, 2, 0, tokens) for x in (key, v))
        self.write(cast.keys["out"], self.flat(self.attended((q, key, v), part)), cast)

    def ring_attention(self, begin, part, cast, tokens):
        t, k = self.t, part.keys
        q, key, v = (self.in_heads(self.read(k[name], part), same(k["heads"], self.mesh, part)) for name in "qkv")
        head_dim = q.shape[3]
        if abs(float(k["scale"]) * head_dim**0.5 - 1) > 1e-5:
            raise Refused(f"line {part.number}: scores are scaled by {k['scale']}, a ring by 1/√{head_dim}")
        rows = q.shape[2]
        if rows < key.shape[2]:  # the last block asks for the image alone; a ring has a query for each key
            q = self.joined([self.cut(key, 2, 0, key.shape[2] - rows), q], 2)
        grid = t.CoreCoord(self.grid.x, self.grid.y - 1)  # the last row of cores exchanges
        shape = [1, key.shape[1], tokens, head_dim]
        turn, semaphores = self.turn("gather", self.mesh.sp_axis)
        nobody = [self.buffer("nobody", i, (1, q.shape[1], 0, head_dim)) for i in range(3)]
        y, _, _ = t.transformer.ring_joint_scaled_dot_product_attention(
            q, key, v, *nobody, persistent_output_buffer_k=self.buffer("keys", turn, 0, tuple(shape)),
            persistent_output_buffer_v=self.buffer("keys", turn, 1, tuple(shape)), joint_strategy="rear", logical_n=tokens,
            program_config=self.program(grid, q.shape[2], tokens, head_dim), compute_kernel_config=self.scores, dim=2,
            multi_device_global_semaphore=semaphores, num_links=self.links,
            cluster_axis=self.mesh.sp_axis, mesh_device=self.device, topology=t.Topology.Linear,
            subdevice_id=t.SubDeviceId(0), ccl_core_grid_offset=(0, grid.y))
        self.write(cast.keys["out"], self.flat(self.cut(y, 2, y.shape[2] - rows, rows)), cast)

    # -- stages --

    def run(self, name, lines):
        self.enter(name.partition(".")[0])
        at = 0
        while at < len(lines):
            line = lines[at]
            try:
                at += self.make(name, lines, at)
            except KeyError as e:
                raise Refused(f"line {line.number}: {line.call}: {e} is missing") from e
            except BROKEN as e:
                raise Refused(f"line {line.number}: {line.call}: {e}") from e

    def make(self, name, lines, at):
        """The call of a line, or of all lines of a ring. Returns how many lines that were."""
        line = lines[at]
        self.made_by_all(line)
        if line.call == "ring_begin":
            return self.ring(lines, at)
        if line.call not in CALLS:
            raise Refused(f"line {line.number}: {line.call} ({name}) is not executed on cards yet")
        getattr(self, line.call)(line)
        return 1

    def made_by_all(self, line):
        first = line.ranks is not None and self.part == "clip" and line.ranks == tuple(range(len(line.ranks)))
        if line.ranks is not None and line.call not in CALLS_OF_SOME and not first:  # others' shares are nothing but zeros
            raise Refused(f"line {line.number}: {line.call} is made by some ranks only; "
                          f"{OTHER_HEADS if line.call == 'weight' else other_tokens(self.mesh)}")


CALLS = set("""create mark release input output block weight piece bias prepare begin end finite check
               linear linear_norm mlp single_products qkv_norm_rope layer_norm rms_norm activate add euler cast embed attention
               copy_rows conv norm_conv upsample_conv group_norm group_stats group_apply
               gather_rows gather_columns reduce_rows halo_row""".split())
UNTIMED = set("create mark release block weight piece bias begin end finite check".split())  # they compute nothing
CALLS_OF_SOME = {"bias", "piece", "output"}  # may be made by some ranks only: where weights come from, and what all have

# ---- commands ----------------------------------------------------------------------------------------------------------


def library(folder=None):
    """ttnn, which writes a folder `generated` where the program is when it is imported: a folder of its own, then."""
    if folder is None:
        room = tempfile.TemporaryDirectory(prefix="flux1-ttnn-")
        atexit.register(room.cleanup)
        folder = room.name
    for name in ("TT_METAL_MOCK_CLUSTER_DESC_PATH", "TT_METAL_CACHE", "FLUX1_TTNN_BLOCKINGS", "FLUX1_TTNN_PROFILE", "XDG_CACHE_HOME"):
        if os.environ.get(name):
            os.environ[name] = os.path.abspath(os.environ[name])
    os.chdir(folder)
    try:
        import ttnn
    except ImportError as e:
        raise Refused(f"this Python ({sys.executable}) cannot import ttnn: {e}; {sys.executable} -m pip install ttnn=={TESTED} "
                      f"(Python 3.10 or 3.12)") from None
    if version_of_library() != TESTED:
        print(f"warning: ttnn {version_of_library()}; this file was tested with {TESTED}", file=sys.stderr)
    return ttnn


def version_of_library():
    """A source tree in PYTHONPATH has none."""
    try:
        return importlib.metadata.version("ttnn")
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def open_mesh(ttnn, mesh, whole=None):
    """The recording's mesh, or `whole`, a shape that it is a part of: links work where all devices are open."""
    if mesh.sp * mesh.tp > 1:
        ttnn.set_fabric_config(ttnn.FabricConfig.FABRIC_1D)
    return ttnn.open_mesh_device(ttnn.MeshShape(*(whole or mesh.shape)), l1_small_size=32768, trace_region_size=50_000_000,
                                 dispatch_core_config=ttnn.DispatchCoreConfig(ttnn.DispatchCoreType.WORKER))


def memory(ttnn, device):
    view = ttnn.get_memory_view(device, ttnn.BufferType.DRAM)
    return view.total_bytes_allocated_per_bank, view.total_bytes_per_bank, view.num_banks


def on_mesh(recording, options, work):
    """work(ttnn, device) on the recording's mesh, which is opened and closed."""
    ttnn = library()
    began = time.monotonic()
    device = open_mesh(ttnn, recording.mesh, options.part_of)
    try:
        part = device.create_submesh(ttnn.MeshShape(*recording.mesh.shape)) if options.part_of else device
        print(f"mesh {recording.mesh.shape[0]}x{recording.mesh.shape[1]} opened in {time.monotonic() - began:.1f} s, "
              f"{device.arch()}")
        work(ttnn, part)
    finally:
        ttnn.close_mesh_device(device)


def wanted_stages(recording, options):
    for name in options.stage or STAGES:
        if name not in recording.stages:
            raise Refused(f"the recording has no stage {name}")
        yield name, recording.stages[name]


def check(recording, options):
    plan = planned(options.plan, recording) if options.plan else {}  # before the mesh: the calls take minutes
    on_mesh(recording, options, lambda ttnn, device: check_on(device, ttnn, recording, options, plan))


class Searching(Mapper):
    """Looks for a blocking whenever a product comes for which there is none yet."""

    ROUNDS, CALLS = 5, 8  # the median of so many rounds of so many calls

    def product(self, x, name):
        w = self.weights[name]
        x = self.t.typecast(x, self.t.bfloat16) if x.dtype != self.t.bfloat16 else x
        if self.which(x, w) not in self.blockings.found:
            self.look_for(x, w)
        return super().product(x, name)

    def look_for(self, x, w):
        which = self.which(x, w)
        start = usual_blocking(x.shape[2], w["rows"])
        best, tried = fastest(start, lambda b: self.seconds(x, w, b))
        taken = [b for b, s in tried.items() if s is not None]
        if best is None:
            raise Refused(f"{which}: the library refuses the usual blocking {tuple(start)}")
        if mocked():
            self.blockings.found[which] = start  # this run's: its times mean nothing, so nothing is written
            print(f"{which}: {len(taken)} of {len(tried)} blockings next to {tuple(start)} are accepted", flush=True)
            return
        self.blockings.keep(which, best)
        print(f"{which}: {tuple(best)} {1e6 * tried[best]:.0f} us, the usual {tuple(start)} {1e6 * tried[start]:.0f} us; "
              f"{len(taken)} of {len(tried)} accepted", flush=True)

    def seconds(self, x, w, b):
        """Of a call; None if the library refuses."""
        def calls(count):
            begin = time.perf_counter()
            for _ in range(count):
                self.t.deallocate(self.multiplied(x, w, b))
            self.t.synchronize_device(self.device)
            return (time.perf_counter() - begin) / count
        try:
            calls(1)  # compiles it
            if mocked():
                return 1.0
            return sorted(calls(self.CALLS) for _ in range(self.ROUNDS))[self.ROUNDS // 2]
        except RuntimeError:
            return None


def search(recording, options):
    """Every product of the recording, with weights and inputs that hold nothing."""
    def work(ttnn, device):
        mapper = Searching(recording, ttnn, device, options.links, getattr(ttnn, options.weights), Nothing(ttnn, device))
        before = len(mapper.blockings.found)
        for name, lines in wanted_stages(recording, options):
            mapper.enter(name.partition(".")[0])
            mapper.run(name, lines)
        print(f"{mapper.blockings.path}: {before} products were in it, {len(mapper.blockings.found)} are" if not mocked() else
              "mock mode: what the library accepts, and no times, so no table is written")
    on_mesh(recording, options, work)


class Watched:
    """A library, a part of one, or a function, whose calls are followed by another."""

    def __init__(self, whole, then):
        self.whole, self.then = whole, then

    def __getattr__(self, name):
        one = getattr(self.whole, name)
        calls = isinstance(one, types.ModuleType) or (callable(one) and not isinstance(one, type))
        return Watched(one, self.then) if calls else one

    def __call__(self, *arguments, **named):
        result = self.whole(*arguments, **named)
        self.then()
        return result


class Heights:
    """Memory in use of a bank: of each part the most behind any call, above what was there before."""

    def __init__(self, ttnn, device):
        self.now, self.part, self.begin, self.most = lambda: memory(ttnn, device)[0], None, 0, {None: 0}

    def enter(self, part):
        if part != self.part:
            self.part, self.begin, self.most[part] = part, self.now(), 0

    def watch(self):
        self.most[self.part] = max(self.most[self.part], self.now() - self.begin)


def planned_way(path, recording):
    """What flux1 plan --json says of this recording's mesh and picture."""
    m = recording.mesh
    wanted = {"mesh": "%dx%d" % m.shape, "sp": f"{m.sp}@{m.sp_axis}", "tp": f"{m.tp}@{m.tp_axis}"} | {
        key: recording.picture[key] for key in ("width", "height")}
    try:
        with open(path, encoding="utf-8") as f:
            rows = [row for row in json.load(f) if all(row[key] == value for key, value in wanted.items())]
    except (TypeError, *BROKEN):
        raise Refused(f"{path} is no output of flux1 plan --json") from None
    if not rows:
        raise Refused(f"{path} has no plan of {wanted}")
    return rows[0]


def planned(path, recording):
    """Of the same, bytes of a device at the peak of each part."""
    out = {}
    try:
        for stage in planned_way(path, recording)["stages"]:
            part = stage["stage"].split()[0]
            out[part] = max(out.get(part, 0), stage["memory_bytes"])
    except (TypeError, *BROKEN):
        raise Refused(f"{path} is no output of flux1 plan --json") from None
    return out


def compare(heights, plans, banks):
    for part, plan in plans.items():
        if part in heights.most:
            got, plan = heights.most[part] / 1e6, plan / banks / 1e6
            print(f"{part}: at most {got:.1f} MB of a bank, flux1 plan says {plan:.1f} ({100 * (plan / got - 1):+.1f} %)")


def check_on(device, ttnn, recording, options, plan):
    heights = Heights(ttnn, device)
    watched = Watched(ttnn, heights.watch)
    mapper = Mapper(recording, watched, device, options.links, getattr(ttnn, options.weights), Nothing(watched, device))
    print(f"{mapper.grid.x}x{mapper.grid.y} cores a device")
    for name, lines in wanted_stages(recording, options):
        began = time.monotonic()
        part = name.partition(".")[0]
        mapper.enter(part)  # which drops what the part before has left
        heights.enter(part)
        mapper.run(name, lines)
        used, room, banks = memory(ttnn, device)
        print(f"{name}: {len(lines)} lines in {time.monotonic() - began:.1f} s, "
              f"{used / 1e6:.0f} of {room / 1e6:.0f} MB in each of {banks} banks")
    compare(heights, plan, banks)


def read(recording, options):
    for name, lines in recording.stages.items():
        counts = collections.Counter(line.call for line in lines)
        print(f"{name}: {len(lines)} lines; " + ", ".join(f"{call} {n}" for call, n in counts.most_common()))


# ---- orders of flux1 -----------------------------------------------------------------------------------------------------

PROTOCOL = 1
LINES, MEMORY, ALIVE = 3, 4, 5  # descriptors: lines both ways, memory that both see, a pipe that ends with flux1
BEAT = 1.0  # seconds: how often flux1 hears that a stage goes on


class Cancelled(Exception):
    """flux1 gives nothing more for this order."""


class Talk:
    """Lines to and from flux1 (docs/recording.md, "The worker's lines"), and the memory."""

    def __init__(self):
        self.into, self.out = os.fdopen(os.dup(LINES), "r", encoding="utf-8"), os.fdopen(LINES, "w", encoding="utf-8")
        self.beat = 0

    def say(self, *words):
        text = " ".join(str(w) for w in words)
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        while len(line.encode()) > 2000:
            line = line[:len(line) // 2]
        self.out.write(line + "\n")
        self.out.flush()

    def hear(self):
        line = self.into.readline()
        if not line.endswith("\n"):
            raise SystemExit(0)  # flux1 is gone, or needs no worker any more
        word, _, rest = line.rstrip("\n").partition(" ")
        return word, rest

    def ask(self, word, **keys):
        """What flux1 answers, as keys and numbers or words."""
        self.say(word, *(f"{k}={v}" for k, v in keys.items()))
        answer, rest = self.hear()
        if answer == "cancel":
            raise Cancelled
        if answer != "given":
            raise Refused(f"flux1 answered \"{answer}\" where something should be given")
        return {k: int(v) if v.isdigit() else v for k, v in pairs(rest, 0).items()}

    def alive(self, line):
        if time.monotonic() - self.beat > BEAT:
            self.beat = time.monotonic()
            self.say("at", line.number)

    def memory(self, count):
        if os.fstat(MEMORY).st_size < count or count <= 0:
            raise Refused(f"the shared memory has {os.fstat(MEMORY).st_size} bytes where {count} were announced")
        return mmap.mmap(MEMORY, count)


class Notes:
    """For a file that FLUX1_TTNN_PROFILE names: of each stage the seconds of each time that it was made, and of the second
    step those of its calls by name, each until all devices have come to an end; where steps are recorded there are none."""

    def __init__(self, talk):
        self.talk, self.path, self.stages, self.calls = talk, os.environ.get("FLUX1_TTNN_PROFILE"), {}, None

    def begin(self, stage, step, records):
        self.calls = {} if self.path and stage == "dit.step" and step == 1 and not records else None
        self.began = time.monotonic()

    def call(self, name, began):
        count, seconds = self.calls.get(name, (0, 0))
        self.calls[name] = count + 1, seconds + time.monotonic() - began

    def end(self, stage):
        if not self.path:
            return
        took = {"seconds": time.monotonic() - self.began}
        self.stages.setdefault(stage, []).append(took | {"calls": self.calls} if self.calls else took)
        self.calls = None  # of this step alone
        try:
            with open(self.path + ".part", "w", encoding="utf-8") as f:
                json.dump({"ttnn": version_of_library(), "stages": self.stages}, f)
            os.replace(self.path + ".part", self.path)
        except OSError as e:
            self.talk.say("warning", f"FLUX1_TTNN_PROFILE: {self.path} cannot be written: {e.strerror}; no seconds are noted")
            self.path = None


class Served(Nothing):
    """Weights and inputs that flux1 gives. Weights stay on the cards, by what they are: another recording of the same
    model finds them."""

    def __init__(self, talk, ttnn, device, mesh):
        super().__init__(ttnn, device)
        self.talk, self.mesh, self.kept, self.heads, self.stage, self.before_weights = talk, mesh, {}, {}, None, lambda: None
        import numpy
        self.numpy = numpy

    def weight(self, w, bias, shape, dtype, layout):
        number = w["pieces"][0].keys["w"]
        pieces = [line for line in w["pieces"] if (line.keys.get("of_bias", "0") == "1") == bias]
        key = (self.stage.partition(".")[0], tuple(shape), str(dtype), str(layout), tuple(
            (line.ranks, tuple(sorted((k, v) for k, v in line.keys.items() if k != "w"))) for line in pieces))
        if key not in self.kept:
            self.before_weights()
            self.kept[key] = self.packed(number, bias, list(shape), dtype, layout)
        return self.kept[key]

    def packed(self, number, bias, shape, dtype, layout):
        given, arrays = self.given(number, bias, shape[-2:], dtype, layout)
        return self.placed([self.of_bytes(data, shape, dtype, layout) for data in arrays], given["vary"])

    def given(self, number, bias, size, dtype, layout):
        """The bytes of the matrix [rows, columns] for each array that differs."""
        t = self.t
        form = {t.bfloat16: "bfloat16", t.bfloat8_b: "bfloat8_b", t.float32: "float32"}[dtype]
        form += ".tile" if layout == t.TILE_LAYOUT else ".row"
        given = self.talk.ask("weight", w=number[1:], bias=int(bias), form=form, rows=size[0], cols=size[1])
        count, each = given["arrays"], given["bytes"]
        with self.talk.memory(count * each) as memory:
            return given, [memory[i * each:(i + 1) * each] for i in range(count)]

    def host_weight(self, w, bias, shape, dtype):
        self.before_weights()  # what the library makes of it stays on the cards
        size = [shape[-1], 1] if bias else [shape[0], shape[1] * shape[2] * shape[3]]
        given, arrays = self.given(w["pieces"][0].keys["w"], bias, size, dtype, self.t.ROW_MAJOR_LAYOUT)
        if given["vary"] != "not":
            raise Refused(f"a convolution's weights vary by {given['vary']}")
        return self.of_bytes(arrays[0], shape, dtype, self.t.ROW_MAJOR_LAYOUT)

    def of_bytes(self, data, shape, dtype, layout):
        """A tensor of bytes in the library's own form: its file of such a tensor (dump_tensor), with these bytes at its end."""
        key = tuple(shape), str(dtype), str(layout)
        if key not in self.heads:
            path = os.path.join(os.getcwd(), "head.tensorbin")
            self.t.dump_tensor(path, self.t.Tensor(self.numpy.zeros(shape, self.numpy.float32), dtype, layout=layout))
            with open(path, "rb") as f:
                whole = f.read()
            os.unlink(path)
            if len(whole) <= len(data):
                raise Refused(f"flux1 gives {len(data)} bytes of {shape}, ttnn's file of such a tensor has {len(whole)}")
            self.heads[key] = whole[:-len(data)], len(whole)
        head, size = self.heads[key]
        if len(head) + len(data) != size:
            raise Refused(f"flux1 gives {len(data)} bytes of {shape}, ttnn takes {size - len(head)}")
        file, path = os.memfd_create("weight"), os.path.join(os.getcwd(), "weight.tensorbin")  # ttnn asks for this ending
        os.symlink(f"/proc/self/fd/{file}", path)
        try:
            with os.fdopen(os.dup(file), "wb") as f:
                f.write(head)
                f.write(data)
            return self.t.load_tensor(path)
        finally:
            os.unlink(path)
            os.close(file)

    def placed(self, hosts, vary):
        """One of these for each rank, in the order of devices, which is along the mesh's rows."""
        m = self.mesh
        wanted = {"not": 1, "sp": m.sp, "tp": m.tp, "all": m.sp * m.tp}.get(vary)
        if wanted != len(hosts):
            raise Refused(f"flux1 gives {len(hosts)} arrays that vary by {vary}, {wanted} are wanted")
        order = []
        for place in self.numpy.ndindex(*m.shape):
            sp = place[m.sp_axis] if m.sp > 1 else 0
            tp = place[m.tp_axis] if m.tp > 1 else 0
            order.append(hosts[{"not": 0, "sp": sp, "tp": tp, "all": sp * m.tp + tp}[vary]])
        x = self.t.from_host_shards(order, self.t.MeshShape(*m.shape))
        return self.t.to_device(x, self.device)

    def whole(self, name):
        """An input, [rows, columns], as flux1 has it."""
        given = self.talk.ask("input", name=name)
        kind = {"float32": self.numpy.float32, "int32": self.numpy.int32}[given["type"]]
        with self.talk.memory(given["rows"] * given["cols"] * 4) as memory:
            return self.numpy.frombuffer(memory[:], kind).reshape(given["rows"], given["cols"])

    def input(self, name, line, shape, dtype, layout):
        np = self.numpy
        base, _, which = name.partition(".cosines") if name.endswith(".cosines") else name.partition(".sines")
        whole = self.whole(base)
        rows = shape[1] if name == "t5.bias" or shape[-2] == 1 and len(shape) == 2 else shape[2]
        if name.endswith((".cosines", ".sines")):  # (cos, sin) pairs: each twice
            whole = np.repeat(whole[:, name.endswith(".sines")::2], 2, axis=1)
        if name in ("clip.ids", "t5.ids"):
            rows = shape[-1]
        first, tensors = firsts(line, self.mesh, rows), {}
        for f in sorted(set(first)):
            part = whole[f:f + rows]
            if not name.startswith("t5.") and len(part) < rows:  # the last ranks' shares are filled up with zeros
                part = np.pad(part, ((0, rows - len(part)), (0, 0)))
            if name == "t5.bias":  # by key − query
                tokens = shape[2]
                part = part[:, np.arange(tokens)[None, :] - np.arange(tokens)[:, None] + tokens - 1]
            if part.size != np.prod(shape):
                raise Refused(f"line {line.number}: input {name} is [{whole.shape[0]}, {whole.shape[1]}], which does not fill {shape}")
            values = np.array(part.reshape(shape), np.uint32 if dtype == self.t.uint32 else np.float32)  # ttnn takes no read-only ones
            tensors[f] = self.t.Tensor(values, dtype, layout=layout)
        return self.placed([tensors[f] for f in first], "all")


class Worker(Mapper):
    """A mapper that tells flux1 that it goes on, and records a denoising step: the first one is made call by call, which
    compiles all programs and makes all buffers; the second is recorded (a trace) and played, as are those behind it.

    What a recorded step reads stays in place: the latent is written where it was, a step's rows of tables are copied to
    buffers, and what `dit.open` makes of another picture is copied over what it made of the one that was recorded. New
    tensors that stay may lie where a trace has its own, so a trace is dropped before weights come."""

    def __init__(self, recording, ttnn, device, links, weight_dtype, source, records, notes):
        super().__init__(recording, ttnn, device, links, weight_dtype, source)
        self.notes = notes
        self.records, self.trace, self.inside, self.opened = records, None, False, None
        self.rows, self.row_lines = None, {}  # rows None: no step was made yet

    def make(self, name, lines, at):
        self.source.talk.alive(lines[at])
        began = time.monotonic()
        count = super().make(name, lines, at)
        if self.notes.calls is not None and lines[at].call not in UNTIMED:
            self.t.synchronize_device(self.device)
            self.notes.call("ring attention" if lines[at].call == "ring_begin" else lines[at].call, began)
        return count

    def from_nothing(self, stage, lines):
        """A stage that begins with nothing: what a picture before this one has left goes, but for weights."""
        self.part = None
        self.resident.clear()
        self.exchanges.clear()
        self.at_step(0)
        self.run(stage, lines)
        if self.records and stage == "dit.open":
            self.keep_opened()

    def made(self):
        """All tensors of activations, by what they are: tables are whole."""
        out = {}
        for name, a in self.acts.items():
            for part in (None, "text", "image"):
                self.complete(a, part)
            for i, p in enumerate(a.pieces):
                out[name, i, p.part, p.col, p.cols] = p.tensor
        return out

    def keep_opened(self):
        new, rope = self.made(), self.rope
        if self.opened is not None and self.trace is not None and self.opened[0].keys() == new.keys() and self.opened[1].keys() == rope.keys():
            for key, tensor in self.opened[0].items():
                self.t.copy(new[key], tensor)
                a = self.acts[key[0]]
                a.pieces[key[1]] = a.pieces[key[1]]._replace(tensor=tensor)
            for key, pair in self.opened[1].items():
                for tensor, fresh in zip(pair, rope[key]):
                    self.t.copy(fresh, tensor)
            self.rope = dict(self.opened[1])
        else:
            self.forget_trace()
            self.opened = new, dict(rope)

    def forget_trace(self):
        if self.trace is not None:
            self.t.release_trace(self.device, self.trace)
        self.trace, self.opened, self.rows, self.row_lines = None, None, None, {}

    def denoise(self, step, lines):
        self.exchanges.clear()  # devices have come to an end behind the step before, and a trace has turns of its own
        self.at_step(step)
        if not self.records:
            self.run("dit.step", lines)
        elif self.rows is None:
            self.run("dit.step", lines)
            self.rows = {key: self.t.clone(row) for key, row in self.rows_now.items()}
        else:
            for key, buffer in self.rows.items():
                self.t.copy(super().now(*self.row_lines[key]), buffer)
            if self.trace is None:
                self.take_trace(lines)
            self.t.execute_trace(self.device, self.trace, blocking=False)

    def take_trace(self, lines):
        trace, self.inside = self.t.begin_trace_capture(self.device), True
        try:
            self.run("dit.step", lines)
        finally:
            self.inside = False
            self.t.end_trace_capture(self.device, trace)
        self.trace = trace

    def now(self, text, line):
        at = operand(text, self.mesh, line)
        key = (at.act, at.rows, at.cols)
        if self.inside:
            return self.rows[key]
        self.row_lines[key] = text, line
        return super().now(text, line)

    def euler(self, line):
        latent = line.keys["x"]
        before = self.read(latent, line)
        super().euler(line)
        if self.records:  # where it was
            self.t.copy(self.read(latent, line), before)
            self.write(latent, before, line)


class Server:
    """Carries out orders; methods are named like them."""

    def __init__(self, talk, ttnn):
        self.talk, self.t, self.whole, self.device, self.model = talk, ttnn, None, None, None
        self.stages, self.mappers, self.editions, self.notes = {}, {}, {}, Notes(talk)

    def order(self, word, keys):
        if word not in ("open", "recording", "run"):
            raise Refused(f"unknown order \"{word}\"")
        return getattr(self, word)(**keys) or ()

    def open(self, shape, system, links, weights, trace):
        self.shape, self.links = tuple(int(n) for n in shape.split("x")), int(links)
        rows, cols = (int(n) for n in system.split("x"))
        self.weights = getattr(self.t, weights)
        self.records = trace == "1" and not mocked()  # in mock mode a call inside of a trace is a crash
        alone = self.shape == (1, 1)  # without links; with them the library opens the whole machine, and a part of it then
        self.whole = open_mesh(self.t, Mesh(self.shape, 1, 0, 1, 1) if alone else Mesh((rows, cols), rows, 0, cols, 1))
        part = not alone and self.shape != (rows, cols)
        self.device = self.whole.create_submesh(self.t.MeshShape(*self.shape)) if part else self.whole

    def recording(self, bytes, model, edition):
        with self.talk.memory(int(bytes)) as memory:
            recording = Recording(memory[:].decode("utf-8").splitlines())
        if recording.mesh.shape != self.shape:
            raise Refused(f"the recording is of a mesh of {recording.mesh.shape}, the cards are open as {self.shape}")
        if model != self.model:
            self.forget_traces()
            self.model, self.mappers, self.stages, self.editions = model, {}, {}, {}
        for name, lines in recording.stages.items():
            if lines:
                self.forget_traces()
                self.stages[name] = recording, lines
                self.change(name.partition(".")[0], edition)

    def change(self, part, edition):
        """The same tensors have other values in another edition of a part's weights (adapters are in them)."""
        if self.editions.get(part, edition) != edition:
            self.mappers.pop(part, None)
        self.editions[part] = edition

    def mapper(self, stage, recording):
        part = stage.partition(".")[0]
        if part not in self.mappers:
            source = Served(self.talk, self.t, self.device, recording.mesh)
            source.before_weights = self.forget_traces
            self.mappers[part] = Worker(recording, self.t, self.device, self.links, self.weights, source, self.records, self.notes)
        return self.mappers[part]

    def forget_traces(self):
        for mapper in self.mappers.values():
            mapper.forget_trace()

    def run(self, stage, step, rows, cols, times="0"):
        if stage not in self.stages:
            raise Refused(f"there is no recording of stage {stage}")
        recording, lines = self.stages[stage]
        mapper = self.mapper(stage, recording)
        mapper.source.stage, mapper.source.mesh, mapper.mesh = stage, recording.mesh, recording.mesh
        mapper.result = None
        if int(times):
            return (f"ns={self.median(lambda: self.finished(mapper, stage, int(step), lines), int(times))}",)
        self.notes.begin(stage, int(step), self.records)
        self.finished(mapper, stage, int(step), lines)
        self.notes.end(stage)
        return self.result(mapper, int(rows), int(cols)) if int(rows) else ()

    def finished(self, mapper, stage, step, lines):
        """The calls of a stage, made by all devices."""
        if stage == "dit.step":
            mapper.denoise(step, lines)
        elif stage == "dit.latent":
            mapper.run(stage, lines)
        else:
            mapper.from_nothing(stage, lines)
        self.t.synchronize_device(self.device)

    def median(self, make, times):
        """Of the times that it takes, each until all devices have come to an end, in ns."""
        took = []
        for _ in range(times):
            began = time.monotonic_ns()
            make()
            took.append(time.monotonic_ns() - began)
        return sorted(took)[times // 2]

    def result(self, mapper, rows, cols):
        """A result as float32 in the memory, rank 0's."""
        t = self.t
        if mapper.result is None:
            raise Refused("the stage has no output")
        x = t.get_device_tensors(mapper.result)[0]
        x = t.to_layout(x if x.dtype == t.float32 else t.typecast(x, t.float32), t.ROW_MAJOR_LAYOUT)
        values = x.cpu().to_numpy()
        if values.size != rows * cols:
            raise Refused(f"the stage gives {list(values.shape)}, flux1 wants [{rows}, {cols}]")
        with self.talk.memory(rows * cols * 4) as memory:
            memory[:] = values.astype("float32", copy=False).reshape(rows, cols).tobytes()
        return f"rows={rows}", f"cols={cols}"


def mocked():
    return "TT_METAL_MOCK_CLUSTER_DESC_PATH" in os.environ


def end_with_flux1():
    """The kernel ends this process and what it has started when flux1 has ended, also in the midst of a call that hangs."""
    fcntl.fcntl(ALIVE, fcntl.F_SETOWN, -os.getpgid(0))
    fcntl.fcntl(ALIVE, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(ALIVE, fcntl.F_SETFL, fcntl.fcntl(ALIVE, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([ALIVE], [], [], 0)[0]:  # it had ended before
        raise SystemExit(0)


def serve(folder):
    end_with_flux1()
    os.environ.setdefault("TT_LOGGER_LEVEL", "fatal")
    talk = Talk()
    try:
        server = Server(talk, library(folder))
        talk.say("flux1-ttnn", PROTOCOL, f"library={version_of_library().replace(' ', '-')}",
                 f"mock={int(mocked())}", "stages=" + ",".join(STAGES))
    except Refused as e:
        talk.say("refused", e)
        return 1
    try:
        while True:
            word, rest = talk.hear()
            try:
                talk.say("done", *server.order(word, pairs(rest, 0)))
            except Cancelled:
                talk.say("cancelled")
            except Refused as e:
                if server.device is not None:
                    server.t.synchronize_device(server.device)
                talk.say("refused", e)
            except (OSError, RuntimeError, TypeError, *BROKEN) as e:
                talk.say("failed", sentence(e, "the recording"))
    finally:
        if server.whole is not None:
            server.forget_traces()
            server.mappers.clear()
            server.device = None
            server.t.close_mesh_device(server.whole)


def sentence(e, path):
    if isinstance(e, (Refused, OSError)):
        return str(e)
    if isinstance(e, BROKEN):
        return f"{path} is no recording that this program can read ({e})"
    return "ttnn refused: " + " ".join(str(e).split("backtrace:")[0].split())  # its first lines name the check that failed


def shape_of(text):
    if not re.fullmatch("[1-9][0-9]*x[1-9][0-9]*", text):
        raise argparse.ArgumentTypeError(f"{text} should be ROWSxCOLUMNS")
    return tuple(int(n) for n in text.split("x"))


def pattern(text):
    try:
        re.compile(text)
    except re.error as e:
        raise argparse.ArgumentTypeError(f"{text} is no regular expression: {e}") from None
    return text


def kit(options):
    """For people with a card: files that stand beside this one."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    sys.dont_write_bytecode = True  # where they are installed
    try:
        import flux1_ttnn_kit
    except ImportError as e:
        print(f"flux1_ttnn: the kit's files should be beside this one: {e}", file=sys.stderr)
        return 1
    return flux1_ttnn_kit.run(options, mocked())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("check", "read", "search", "serve", "kit"))
    parser.add_argument("recording", nargs="?", help="a file of flux1 plan --record; -: standard input. Of serve, kit: a folder")
    parser.add_argument("--links", type=int, default=1, help="Ethernet links between neighbours (Galaxy: 4, Blackhole: 2)")
    parser.add_argument("--weights", choices=("bfloat16", "bfloat8_b"), default="bfloat16", help="form of the matrices")
    parser.add_argument("--stage", action="append", choices=STAGES, help="only this stage and those named beside it")
    parser.add_argument("--part-of", type=shape_of, metavar="RxC", help="the machine's whole mesh, if the recording's is a part of it")
    parser.add_argument("--plan", metavar="FILE", help="of flux1 plan --json: its memory beside the library's")
    parser.add_argument("--traceback", action="store_true", help="show where the library refused")
    parser.add_argument("--device", default="ttnn", help="of kit: as flux1 names it, such as ttnn:wh-n300")
    parser.add_argument("--model", action="append", default=[], help="of kit: a model as flux1 names it, beside its own; may be given several times")
    parser.add_argument("--flux1", default="flux1", help="of kit: the program")
    parser.add_argument("--only", metavar="PATTERN", type=pattern, help="of kit: only what matches, such as '^operations linear', '^exchanges', '^blocks' or '^picture'")
    parser.add_argument("--limit", type=int, default=3600, metavar="SECONDS", help="of kit: for each operation and each picture (default: 3600)")
    parser.add_argument("--with-option", action="append", default=[], help="of kit: another option of flux1 generate for pictures of --model, such as --with-option=--steps=4")
    options = parser.parse_args()
    if options.recording is None:
        parser.error(f"{options.command} needs another argument")
    if options.command == "serve":
        return serve(options.recording)
    if options.command == "kit":
        return kit(options)
    try:
        with open(options.recording, encoding="utf-8") if options.recording != "-" else sys.stdin as lines:
            recording = Recording(lines)
        {"check": check, "read": read, "search": search}[options.command](recording, options)
    except (Refused, OSError, RuntimeError, TypeError, *BROKEN) as e:
        if options.traceback:
            raise
        print("flux1_ttnn: " + sentence(e, options.recording), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
