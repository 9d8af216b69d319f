"""What the kit (flux1_ttnn_kit.py) compares: small recordings (docs/recording.md) of single operations and of blocks, with
the values that they are made on. Standard library only.

Values are drawn by Python's random for a seed that follows from the names of the case and of the value, so that everybody
has the same. They are numbers of bf16, weights also of bfp8, which cards take as they are: what differs is what an
operation itself rounds.
"""
import array
import json
import random
import zlib

STEPS = 3  # cards make the first call by call; recorded, they record the second and play it and the third

# What an operation may be off by, relative L2, and why.
BOUNDS = {
    "exact": (0, "values are moved, nothing is rounded"),
    "rounded": (4e-3, "results are rounded to bf16, 2^-9 of a value each, up to three times"),
    "products": (1e-2, "bf16 factors, of which HiFi2 leaves out low bits, up to 2^-7 of a product; float32 sums; rounded to bf16"),
    "bent": (1e-2, "a product as above, and GELU by erf where tanh is asked for, 3e-4 apart"),
    "norms": (8e-3, "statistics in float32, one to three roundings to bf16"),
    "attention": (2e-2, "scores and weights of attention in bf16, HiFi2, sums in bf16"),
    "filters": (1e-2, "bf16 factors in HiFi4, float32 sums; rounded to bf16 before and behind"),
    "block": (3e-2, "several of these, one behind the other"),
}


def bf16(seed, count, octaves_down=0, short=False):
    """Words: signs at random, of four octaves each the same share, the highest 1 to 2, and all that many octaves lower.
    short: of three bits behind the first, which bfp8 takes as they are, too, beside whatever others of these."""
    repeated = lambda word: int.from_bytes(word.to_bytes(2, "little") * count, "little")
    words = int.from_bytes(random.Random(seed).randbytes(2 * count), "little")
    return ((words & repeated(0x81F0 if short else 0x81FF)) + repeated(124 - octaves_down << 7)).to_bytes(2 * count, "little")


def float32(words):
    out = bytearray(2 * len(words))
    out[2::4], out[3::4] = words[0::2], words[1::2]
    return bytes(out)


def whole_numbers(numbers):
    """As float32."""
    return array.array("f", numbers).tobytes()


def safetensors(values):
    """{name: (dtype, shape, bytes)} as a file, those of four bytes first: each lies at a multiple of its size."""
    about, at = {}, 0
    values = dict(sorted(values.items(), key=lambda item: item[1][0] != "F32"))
    for name, (kind, shape, data) in values.items():
        about[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    head = json.dumps(about).encode()
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head + b"".join(data for _, _, data in values.values())


class Case:
    """A recording in the making. Methods that return a name make the thing of that name; `do` adds calls of a step."""

    def __init__(self, name, bound, mesh="1x1sp0tp1", part="dit"):
        self.name, self.bound, self.mesh, self.part = name, bound, mesh, part
        self.opening, self.calls, self.values, self.acts, self.weights = [], [], {}, 0, 0
        self.shape = tuple(int(n) for n in mesh[:3].split("x"))
        self.axes = int(mesh[5]), int(mesh[8])
        self.sp, self.tp = (self.shape[a] for a in self.axes)

    def seed(self, what):
        return zlib.crc32(f"{self.name} {what}".encode())

    def act(self, role, cols, text=0, image=0, size=None, inside=False):
        """inside: made in the step."""
        name = f"a{self.acts}"
        self.acts += 1
        counts = "".join(f" {key}={n}" for key, n in (("text", text), ("image", image)) if n)
        plane = f" height={size[0]} width={size[1]}" if size else ""
        (self.calls if inside else self.opening).append(f"create act={name} role={role} batch=1{counts} cols={cols}{plane}")
        return name

    def fill(self, to, rows, cols, name=None, first="0", quiet=0):
        """An input of random values, `quiet` octaves lower, into an activation or a part of it."""
        name = name or f"x{len(self.values)}"
        if name not in self.values:
            self.values[name] = "F32", (rows, cols), float32(bf16(self.seed(name), rows * cols, quiet))
        self.opening.append(f"input name={name}" + (f" first={first}" if first != "0" else "") + f" out={to}")

    def given(self, role, cols, text=0, image=0, quiet=0, size=None, name=None):
        """An activation of random values."""
        to = self.act(role, cols, text, image, size)
        for part, rows in (("text", text), ("image", image)):
            if rows:
                self.fill(f"{to}.{part}" if text and image else to, rows, cols, name, quiet=quiet)
        return to

    def shares(self, role, cols, rows, size=None, quiet=0, name=None):
        """The same, where each rank has its own rows of the input: so many each."""
        to, ranks = self.act(role, cols, image=rows, size=size), self.sp * self.tp
        self.fill(to, rows * ranks, cols, name, "all(" + ",".join(str(r * rows) for r in range(ranks)) + ")" if ranks > 1 else "0", quiet)
        return to

    def table(self, cols, rows=STEPS, quiet=0):
        return self.given("table", cols, image=rows, quiet=quiet)

    def ids(self, numbers, name="clip.ids", first="0", rows=None):
        """Those of rows are this rank's."""
        to = self.act("ids", 1, text=rows or len(numbers))
        self.values[name] = "F32", (len(numbers), 1), whole_numbers(numbers)
        self.opening.append(f"input name={name}" + (f" first={first}" if first != "0" else "") + f" out={to}")
        return to

    def weight(self, rows, cols, role="linear", kernel=0, heads=0, bias=True, cut=None):
        """A matrix whose products of ordinary values are about 1. cut: "rows" or "cols" that are shared by tp; a bias that
        counts once in a sum is rank 0's."""
        number, inputs = self.weights, cols * (self.tp if cut == "cols" else 1)
        name, whole_rows = f"w{number}", rows * (self.tp if cut == "rows" else 1)
        self.weights += 1
        if number == 0:
            self.opening.append("block block=b0 name=block")
        quiet = 0 if role in ("vector", "table") else (inputs.bit_length()) // 2
        more = "".join(f" {key}={n}" for key, n in (("kernel", kernel), ("heads", heads)) if n)
        taps = kernel * kernel or 1
        shape = (whole_rows,) if role == "vector" else (whole_rows, inputs // taps, kernel, kernel) if kernel else (whole_rows, inputs)
        self.values[f"{name}.weight"] = "BF16", shape, bf16(self.seed(name), whole_rows * inputs, quiet, short=True)
        share = lambda n: "tp(" + ",".join(str(r * n) for r in range(self.tp)) + ")"
        origin = f" from_row={share(rows)}" if cut == "rows" else f" from_col={share(cols)}" if cut == "cols" else ""
        self.opening += [f"weight w={name} block=b0 role={role} rows={rows} cols={cols}{more}",
                         f"piece w={name} tensor={name}.weight tensor_rows={whole_rows} tensor_cols={inputs}{origin} rows={rows} cols={cols}"]
        if bias:
            here = "@" + ",".join(str(s * self.tp) for s in range(self.sp)) + " " if cut == "cols" and self.tp > 1 else ""
            self.values[f"{name}.bias"] = "BF16", (whole_rows,), bf16(self.seed(name + " bias"), whole_rows, 1)
            origin = f" from_row={share(rows)}" if cut == "rows" else ""
            self.opening += [f"{here}bias w={name} rows={rows}",
                             f"{here}piece w={name} of_bias=1 tensor={name}.bias tensor_rows={whole_rows} tensor_cols=1{origin} rows={rows} cols=1"]
        self.opening.append(f"prepare w={name}")
        return name

    def norm(self, cols, bias=False):
        return self.weight(cols, 1, "vector", bias=bias)

    def rope(self, to, text, image, head):
        for part, rows in (("text", text), ("image", image)):
            self.fill(f"{to}.{part}", rows, head, f"rope.{part}")

    def do(self, *lines):
        self.calls += lines

    def result(self, act, rows, cols):
        self.output = act, rows, cols
        return self

    def recording(self):
        lines = ["flux1-recording 1", "model variant=schnell", f"picture width=64 height=64 steps={STEPS} clip_tokens=77 t5_tokens=64",
                 f"mesh shape={self.shape[0]}x{self.shape[1]} sp={self.sp}@{self.axes[0]} tp={self.tp}@{self.axes[1]}",
                 "guidance 3.5", "sigmas" + " 1" * STEPS + " 0"]
        step = ["begin block=b0", *self.calls, "end block=b0"] if self.weights else self.calls
        end = ("@0 " if self.sp * self.tp > 1 else "") + f"output in={self.output[0]}"
        stages = {"dit.open": self.opening, "dit.step": step, "dit.latent": [end]} if self.part == "dit" else {self.part: self.opening + step + [end]}
        for stage in ("clip", "t5", "dit.open", "dit.step", "dit.latent", "vae"):
            lines += [f"stage {stage}", *stages.get(stage, [])]
        return "\n".join(lines + ["end", ""])

    def file(self):
        _, rows, cols = self.output
        return safetensors(self.values | {"output": ("F32", (rows, cols), bytes(4 * rows * cols))})


# ---- operations ----------------------------------------------------------------------------------------------------------


def linear(name, rows, cols, outputs, options="", more=(), bound="products", bias=True, role="linear"):
    """more: (key, kind): other operands, of the result's shape or a row a step."""
    case = Case(name, bound)
    x = case.given(role, cols, image=rows, name="noise" if role == "residual" else None)
    w = case.weight(outputs, cols, bias=bias)
    keys = "".join(f" {key}={case.table(outputs) + f':0+{outputs}' if kind == 'table' else case.given(kind, outputs, image=rows)}" for key, kind in more)
    out = case.act("linear", outputs, image=rows)
    case.do(f"linear in={x} w={w}{keys}{options} out={out}")
    return case.result(out, rows, outputs)


def linears():
    yield linear("linear 96x320 to 192", 96, 320, 192)
    yield linear("linear 32x3072 to 768", 32, 3072, 768)
    yield linear("linear 77x72 to 40, no bias", 77, 72, 40, bias=False)
    yield linear("linear of float32 64x64 to 256", 64, 64, 256, role="residual")
    yield linear("linear gelu_tanh", 64, 128, 256, " f=gelu_tanh", bound="bent")
    yield linear("linear gelu", 64, 128, 256, " f=gelu")
    yield linear("linear quick_gelu", 77, 128, 256, " f=quick_gelu")
    yield linear("linear silu", 3, 256, 128, " f=silu")
    yield linear("linear with addend", 64, 128, 96, more=[("addend", "partial")])
    yield linear("linear with mul", 64, 128, 96, more=[("mul", "linear")])
    yield linear("linear with gate and residual", 77, 128, 96, more=[("gate", "table"), ("residual", "residual")])


def linear_norm():
    case = Case("linear_norm modulated", "norms")
    x, residual = case.given("linear", 128, image=64), case.given("residual", 256, image=64)
    tables, w = case.table(768), case.weight(256, 128)
    out, normed = case.act("residual", 256, image=64), case.act("linear", 256, image=64)
    case.do(f"linear_norm in={x} w={w} gate={tables}:0+256 residual={residual} out={out} slot=-1 shift={tables}:256+256 scale={tables}:512+256 eps=1e-06 normed={normed}")
    return case.result(normed, 64, 256)


def mlp():
    case = Case("mlp quick_gelu with residual", "products")
    x, residual, up, down = case.given("linear", 96, image=77), case.given("residual", 96, image=77), case.weight(384, 96), case.weight(96, 384)
    out = case.act("residual", 96, image=77)
    case.do(f"mlp in={x} up={up} f_up=quick_gelu down={down} residual={residual} out={out}")
    return case.result(out, 77, 96)


def qkv(single=False):
    case = Case("single_products" if single else "qkv_norm_rope", "norms")
    text, image, heads, head = 32, 64, 2, 128
    width = heads * head
    x, rope, w = case.given("linear", 192, text, image), case.act("rope", head, text, image), case.weight(3 * width, 192, "qkv", heads=heads)
    case.rope(rope, text, image, head)
    keys = f"in={x} w={w} norm_q={case.norm(head)} norm_k={case.norm(head)} heads={heads} eps=1e-06 rope={rope}"
    if not single:
        out = case.act("heads", 3 * width, text, image)
        case.do(f"qkv_norm_rope {keys} out={out}")
        return case.result(out, text + image, 3 * width)
    both = case.act("linear", 5 * width, text, image)
    case.do(f"single_products {keys} out={both}:{2 * width}+{3 * width} up={case.weight(2 * width, 192)} hidden={both}:0+{2 * width}")
    return case.result(both, text + image, 5 * width)


def layer_norm(modulated, rows, cols):
    case = Case(f"layer_norm {'modulated' if modulated else 'with weights'} {rows}x{cols}", "norms")
    x, out = case.given("residual", cols, image=rows), case.act("linear", cols, image=rows)
    tables = case.table(2 * cols) if modulated else None
    case.do(f"layer_norm in={x} " + (f"shift={tables}:0+{cols} scale={tables}:{cols}+{cols}" if modulated else f"w={case.norm(cols, True)}") + f" eps=1e-06 out={out}")
    return case.result(out, rows, cols)


def rms_norm():
    case = Case("rms_norm 64x512", "norms")
    x, out = case.given("residual", 512, text=64), case.act("linear", 512, text=64)
    case.do(f"rms_norm in={x} w={case.norm(512)} eps=1e-06 out={out}")
    return case.result(out, 64, 512)


def attention(name, tokens, heads, head, queries=None, causal=False, bias=False):
    case, width, queries = Case(name, "attention"), heads * head, queries or tokens
    q, k, v = (case.given("heads", width, text=n, quiet=2) for n in (queries, tokens, tokens))
    out, flat = case.act("linear", width, text=queries), case.act("linear", width, text=queries)
    more = " causal=1" if causal else ""
    if bias:
        scores = case.act("table", 2 * tokens - 1, image=heads)
        case.fill(scores, heads, 2 * tokens - 1, "t5.bias")
        more = f" bias={scores}"
    case.do(f"attention q={q} k={k} v={v} heads={heads} scale={1 if bias else repr(head ** -0.5)}{more} out={out}", f"cast in={out} out={flat}")
    return case.result(flat, queries, width)


def attentions():
    yield attention("attention 96 tokens, 2 heads of 128", 96, 2, 128)
    yield attention("attention 77 tokens, causal", 77, 2, 64, causal=True)
    yield attention("attention 64 of 96 tokens", 96, 2, 128, queries=64)
    yield attention("attention with a bias", 64, 4, 64, bias=True)


def pointwise():
    for f, bound in (("silu", "rounded"), ("gelu_tanh", "rounded")):
        case = Case(f"activate {f} with mul", bound)
        x, out = case.given("linear", 192, text=77), case.act("linear", 96, text=77)
        case.do(f"activate f={f} in={x}:0+96 mul={x}:96+96 out={out}")
        yield case.result(out, 77, 96)
    case = Case("add with gate", "rounded")
    x, y, gate, out = case.given("residual", 96, image=77), case.given("partial", 96, image=77), case.table(96), case.act("residual", 96, image=77)
    case.do(f"add x={x} s=-0.5 gate={gate} y={y} out={out}")
    yield case.result(out, 77, 96)
    case = Case("add in place", "rounded")
    before, x, y = case.given("residual", 96, text=64), case.act("residual", 96, text=64), case.given("partial", 96, text=64)
    case.do(f"cast in={before} out={x}", f"add x={x} s=1 y={y} out={x}")
    yield case.result(x, 64, 96)
    case = Case("euler", "rounded")
    x, v, dsigma = case.given("residual", 64, image=96, name="noise"), case.given("residual", 64, image=96), case.act("table", 1, image=STEPS)
    case.fill(dsigma, STEPS, 1, "dsigma", quiet=2)
    case.do(f"euler x={x} v={v} dsigma={dsigma}")
    yield case.result(x, 96, 64)


def moved():
    case = Case("cast", "exact")
    x, out = case.given("partial", 96, image=77), case.act("linear", 96, image=77)
    case.do(f"cast in={x} out={out}")
    yield case.result(out, 77, 96)
    case = Case("copy_rows", "exact")
    x, out = case.given("residual", 96, text=77), case.act("residual", 96, text=5)
    case.do(f"copy_rows in={x} first=32 out={out}")
    yield case.result(out, 5, 96)
    case = Case("copy_rows by name", "exact", part="clip")
    x, out = case.given("residual", 96, text=77), case.act("residual", 96, text=1)
    case.values["clip.pooled_row"] = "F32", (1, 1), whole_numbers([41])
    case.do(f"copy_rows in={x} given=clip.pooled_row out={out}")
    yield case.result(out, 1, 96)
    case = Case("embed", "exact")
    ids, table, out = case.ids([(7 * i) % 100 for i in range(64)], "t5.ids"), case.weight(100, 96, "table", bias=False), case.act("residual", 96, text=64)
    case.do(f"embed ids={ids} table={table} out={out}")
    yield case.result(out, 64, 96)
    case = Case("embed with positions", "rounded")
    ids, out = case.ids([(11 * i) % 100 for i in range(77)]), case.act("residual", 96, text=77)
    case.do(f"embed ids={ids} table={case.weight(100, 96, 'table', bias=False)} positions={case.weight(77, 96, 'table', bias=False)} out={out}")
    yield case.result(out, 77, 96)


def conv(name, height, width, inputs, outputs, kernel=3, residual=False, upsampled=False):
    case, pixels = Case(name, "filters" if kernel == 3 else "products"), height * width
    size = (2 * height, 2 * width) if upsampled else (height, width)
    x, w = case.given("plane", inputs, image=pixels, size=(height, width)), case.weight(outputs, inputs * kernel * kernel, "conv", kernel)
    more = f" residual={case.given('plane', outputs, image=pixels, size=size)}" if residual else ""
    out = case.act("plane", outputs, image=size[0] * size[1], size=size)
    case.do(f"upsample_conv in={x} w={w} out={out}" if upsampled else f"conv in={x} w={w} stride=1{more} out={out}")
    return case.result(out, size[0] * size[1], outputs)


def planes():
    yield conv("conv 3x3, 16x24, 32 to 64 channels", 16, 24, 32, 64)
    yield conv("conv 3x3, 9x13, 16 to 48 channels, residual", 9, 13, 16, 48, residual=True)
    yield conv("conv 3x3, 16x16, 32 to 3 channels", 16, 16, 32, 3)
    yield conv("conv 1x1, 16x16, 16 to 32 channels", 16, 16, 16, 32, kernel=1)
    yield conv("upsample_conv 8x12, 32 channels", 8, 12, 32, 32, upsampled=True)
    for name in ("group_norm", "group_stats and group_apply", "norm_conv"):
        case, size, cols, groups = Case(name, "filters" if name == "norm_conv" else "norms"), (16, 16), 64, 32
        x, w, out = case.given("plane", cols, image=256, size=size), case.norm(cols, True), case.act("plane", cols, image=256, size=size)
        stats = case.act("stats", 3, image=groups)
        apply = f"in={x} stats={stats} groups={groups}"
        if name == "group_norm":
            case.do(f"group_norm in={x} groups={groups} w={w} eps=1e-06 silu=1 out={out}")
        elif name == "norm_conv":
            case.do(f"group_stats in={x} groups={groups} out={stats}",
                    f"norm_conv {apply} norm_w={w} eps=1e-06 silu=1 w={case.weight(cols, 9 * cols, 'conv', 3)} residual={x} out={out}")
        else:
            case.do(f"group_stats in={x} groups={groups} out={stats}", f"group_apply {apply} w={w} eps=1e-06 out={out}")
        yield case.result(out, 256, cols)


# ---- exchanges -----------------------------------------------------------------------------------------------------------

TP, SP, BOTH = "1x2sp0tp1", "1x2sp1tp0", "2x2sp0tp1"


def gathers(mesh, axis):
    ranks = 4 if axis == "all" and mesh == BOTH else 2
    for rows in (32, 16):
        case = Case(f"gather_rows of {axis}, {mesh[:3]}, {rows} rows each", "exact", mesh)
        x, out = case.shares("linear", 96, rows), case.act("linear", 96, image=rows * ranks)
        case.do(f"gather_rows axis={axis} in={x} unit=1 out={out}")
        yield case.result(out, rows * ranks, 96)
    case = Case(f"gather_columns of {axis}, {mesh[:3]}", "exact", mesh)
    x, out = case.shares("linear", 64, 32), case.act("linear", 64 * ranks, image=32)
    case.do(f"gather_columns axis={axis} in={x} out={out}")
    yield case.result(out, 32, 64 * ranks)


def reductions(mesh, axis):
    """Gathered behind it, to be seen by rank 0."""
    ranks = 4 if axis == "all" and mesh == BOTH else 2
    for rows in (32, 16):
        case = Case(f"reduce_rows of {axis}, {mesh[:3]}, {rows} rows each", "rounded", mesh)
        x, share, out = case.shares("partial", 96, rows * ranks), case.act("partial", 96, image=rows), case.act("linear", 96, image=rows * ranks)
        inside = case.act("linear", 96, image=rows)
        case.do(f"reduce_rows axis={axis} in={x} out={share}", f"cast in={share} out={inside}", f"gather_rows axis={axis} in={inside} unit=1 out={out}")
        yield case.result(out, rows * ranks, 96)


def cut_products():
    """A product of columns by rank, one of rows by rank, and the sum."""
    case = Case("products cut by tp", "products", TP)
    x, up, down = case.given("linear", 96, image=64), case.weight(128, 96, cut="rows"), case.weight(96, 128, cut="cols")
    inner, part, share = case.act("linear", 128, image=64), case.act("partial", 96, image=64), case.act("partial", 96, image=32)
    flat, out = case.act("linear", 96, image=32), case.act("linear", 96, image=64)
    case.do(f"linear in={x} w={up} f=silu out={inner}", f"linear in={inner} w={down} out={part}", f"reduce_rows axis=all in={part} out={share}",
            f"cast in={share} out={flat}", f"gather_rows axis=all in={flat} unit=1 out={out}")
    return case.result(out, 64, 96)


def ring(image_alone):
    case = Case("ring attention" + (" of the image's queries" if image_alone else ""), "attention", SP)
    heads, head, text, image = 2, 128, 32, 64
    width = heads * head
    q, k, v = (case.act("heads", width, text, image) for _ in range(3))
    for to in (q, k, v):
        for part, count in (("text", text), ("image", image)):
            case.fill(f"{to}.{part}", 2 * count, width, first=f"all(0,{count})", quiet=2)
    text_out = 0 if image_alone else text
    out, whole = case.act("linear", width, text_out, image), case.act("linear", width, 2 * text_out, 2 * image)
    turn(case, q + ".image" if image_alone else q, k, v, out, heads, head, (text, image), (text_out, image), f"text={2 * text} image={2 * image} unit=1")
    case.do(f"gather_rows axis=all in={out} unit=1 out={whole}")
    return case.result(whole, 2 * (text_out + image), width)


def turn(case, q, k, v, out, heads, head, keys, queries, units):
    """Attention of two devices, each of which has so many rows of the prompt and the image."""
    width, rows = heads * head, sum(keys)
    case.do("mark mark=m0", f"ring_begin axis=all {units} k={k} v={v}")
    own, other = (case.act("partial", width, *queries, inside=True) for _ in range(2))
    lse, other_lse = (case.act("stats", heads, *queries, inside=True) for _ in range(2))
    more = f"heads={heads} scale={head ** -0.5!r}"
    case.do(f"attention_part q={q} k={k} v={v} {more} out={own} lse={lse}")
    key, value = (case.act("heads", width, image=rows, inside=True) for _ in range(2))
    case.do(f"ring_receive k={key} v={value}", f"attention_part q={q} k={key} v={value} {more} out={other} lse={other_lse}",
            f"attention_merge heads={heads} out={own} lse={lse} other={other} other_lse={other_lse}", f"cast in={own} out={out}", "release mark=m0")


def plane_attention():
    """The VAE's: one head, of all devices' rows."""
    case, pixels, cols = Case("attention of a plane's rows on two devices", "attention", TP, "vae"), 128, 64
    q, k, v = (case.shares("heads", cols, pixels, quiet=1) for _ in range(3))
    out, whole = case.act("linear", cols, image=pixels), case.act("linear", cols, image=2 * pixels)
    turn(case, q, k, v, out, 1, cols, (0, pixels), (0, pixels), "image=16 unit=16")
    case.do(f"gather_rows axis=all in={out} unit=1 out={whole}")
    return case.result(whole, 2 * pixels, cols)


def neighbours(case, x, size):
    """The calls that bring the rows above and below, and how a convolution names them."""
    ranks, (height, width) = case.sp * case.tp, size
    cols = 32
    below, above = (case.act("plane", cols, image=width, size=(1, width)) for _ in range(2))
    flags = lambda edge: "all(" + ",".join(str(int(r != edge)) for r in range(ranks)) + ")"
    case.do(f"halo_row in={x} distance=1 wanted={flags(ranks - 1)} out={below}",
            f"halo_row in={x} row={height - 1} distance=-1 wanted={flags(0)} out={above}")
    return f"top={above}?{flags(0)} bottom={below}?{flags(ranks - 1)}"


def shared_planes(mesh):
    ranks, size, cols, groups = (4 if mesh == BOTH else 2), (8, 16), 32, 8
    pixels = size[0] * size[1]

    def gathered(case, out):
        whole = case.act("plane", cols, image=pixels * ranks, size=(size[0] * ranks, size[1]))
        case.do(f"gather_rows axis=all in={out} unit={size[1]} out={whole}")
        return case.result(whole, pixels * ranks, cols)

    case = Case(f"conv 3x3 with neighbours' rows, {mesh[:3]}", "filters", mesh, "vae")
    x, w, out = case.shares("plane", cols, pixels, size), case.weight(cols, 9 * cols, "conv", 3), case.act("plane", cols, image=pixels, size=size)
    case.do(f"conv in={x} {neighbours(case, x, size)} w={w} stride=1 out={out}")
    yield gathered(case, out)
    case = Case(f"norm_conv with all devices' statistics, {mesh[:3]}", "filters", mesh, "vae")
    x, norm, w, out = case.shares("plane", cols, pixels, size), case.norm(cols, True), case.weight(cols, 9 * cols, "conv", 3), case.act("plane", cols, image=pixels, size=size)
    stats, all_stats = case.act("stats", 3, image=groups), case.act("stats", 3, image=groups * ranks)
    case.do(f"group_stats in={x} groups={groups} out={stats}", f"gather_rows axis=all in={stats} unit={groups} out={all_stats}")
    case.do(f"norm_conv in={x} {neighbours(case, x, size)} stats={all_stats} groups={groups} norm_w={norm} eps=1e-06 silu=1 w={w} out={out}")
    yield gathered(case, out)


def shares_of_clip():
    """39 tokens on one device, 38 and a row of zeros on the other."""
    case = Case("embed of shares, gathered", "rounded", TP, "clip")
    ids = case.act("ids", 1, text="tp(39,38)")
    case.values["clip.ids"] = "F32", (77, 1), whole_numbers([(11 * i) % 100 for i in range(77)])
    case.opening.append(f"input name=clip.ids first=tp(0,39) out={ids}")
    x, out = case.act("residual", 96, text="tp(39,38)"), case.act("residual", 96, text=77)
    row = case.act("residual", 96, text=1)
    case.values["clip.pooled_row"] = "F32", (1, 1), whole_numbers([76])
    case.do(f"embed ids={ids} table={case.weight(100, 96, 'table', bias=False)} positions={case.weight(77, 96, 'table', bias=False)} first=tp(0,39) out={x}",
            f"gather_rows axis=all in={x} unit=1 out={out}", f"copy_rows in={out} given=clip.pooled_row out={row}")
    return case.result(row, 1, 96)


# ---- blocks ----------------------------------------------------------------------------------------------------------------


def stream(case, cols, text=0, image=0, size=None):
    """What a block changes: of random values at the begin of each step, as a recorded step wants it."""
    role = "plane" if size else "residual"
    before, x = case.given(role, cols, text, image, size=size), case.act(role, cols, text, image, size)
    case.do(f"cast in={before} out={x}")
    return x


def clip_layer():
    case, n, d = Case("CLIP layer, 77 tokens, 2 heads of 64", "block"), 77, 128
    x, normed, heads, att = stream(case, d, n), case.act("linear", d, text=n), case.act("heads", 3 * d, text=n), case.act("linear", d, text=n)
    case.do(f"layer_norm in={x} w={case.norm(d, True)} eps=1e-05 out={normed}", f"linear in={normed} w={case.weight(3 * d, d, 'qkv', heads=2)} out={heads}",
            f"attention q={heads}:0+{d} k={heads}:{d}+{d} v={heads}:{2 * d}+{d} heads=2 scale=0.125 causal=1 out={att}",
            f"linear in={att} w={case.weight(d, d)} residual={x} out={x}", f"layer_norm in={x} w={case.norm(d, True)} eps=1e-05 out={normed}",
            f"mlp in={normed} up={case.weight(4 * d, d)} f_up=quick_gelu down={case.weight(d, 4 * d)} residual={x} out={x}")
    return case.result(x, n, d)


def t5_layer():
    case, n, d, heads, hidden = Case("T5 layer, 64 tokens, 4 heads of 64", "block"), 64, 256, 4, 640
    x, normed, qkv_, att, up = (stream(case, d, n), case.act("linear", d, text=n), case.act("heads", 3 * d, text=n), case.act("linear", d, text=n),
                                case.act("linear", 2 * hidden, text=n))
    bias = case.act("table", 2 * n - 1, image=heads)
    case.fill(bias, heads, 2 * n - 1, "t5.bias")
    scores = repr(2.0 ** -3)  # of T5 itself 1, with weights that are so much smaller
    case.do(f"rms_norm in={x} w={case.norm(d)} eps=1e-06 out={normed}", f"linear in={normed} w={case.weight(3 * d, d, 'qkv', heads=heads, bias=False)} out={qkv_}",
            f"attention q={qkv_}:0+{d} k={qkv_}:{d}+{d} v={qkv_}:{2 * d}+{d} heads={heads} scale={scores} bias={bias} out={att}",
            f"linear in={att} w={case.weight(d, d, bias=False)} residual={x} out={x}", f"rms_norm in={x} w={case.norm(d)} eps=1e-06 out={normed}",
            f"linear in={normed} w={case.weight(2 * hidden, d, bias=False)} out={up}",
            f"activate f=gelu_tanh in={up}:0+{hidden} mul={up}:{hidden}+{hidden} out={up}:0+{hidden}",
            f"linear in={up}:0+{hidden} w={case.weight(d, hidden, bias=False)} residual={x} out={x}")
    return case.result(x, n, d)


def transformer_case(name):
    """What joint and single blocks begin with: the stream, normalised, and what they make on the way."""
    case, text, image, heads, head = Case(name, "block"), 32, 64, 2, 128
    d = heads * head
    x, normed, qkv_ = stream(case, d, text, image), case.act("linear", d, text, image), case.act("heads", 3 * d, text, image)
    rope = case.act("rope", head, text, image)
    case.rope(rope, text, image, head)
    return case, text, image, heads, head, d, x, normed, qkv_, rope


def joint_block():
    case, text, image, heads, head, d, x, normed, qkv_, rope = transformer_case("joint block, 32 and 64 tokens, 2 heads of 128")
    att, hidden = case.act("linear", d, text, image), case.act("linear", 4 * d, text, image)
    for part in ("text", "image"):
        table = case.table(6 * d, quiet=2)
        case.do(f"layer_norm in={x}.{part} shift={table}:0+{d} scale={table}:{d}+{d} eps=1e-06 out={normed}.{part}",
                f"qkv_norm_rope in={normed}.{part} w={case.weight(3 * d, d, 'qkv', heads=heads)} norm_q={case.norm(head)} norm_k={case.norm(head)} heads={heads} "
                f"eps=1e-06 rope={rope}.{part} out={qkv_}.{part}")
        if part == "text":
            tables = [table]
    tables.append(table)
    case.do(f"attention q={qkv_}:0+{d} k={qkv_}:{d}+{d} v={qkv_}:{2 * d}+{d} heads={heads} scale={head ** -0.5!r} out={att}")
    for part, table in zip(("text", "image"), tables):
        case.do(f"linear_norm in={att}.{part} w={case.weight(d, d)} gate={table}:{2 * d}+{d} residual={x}.{part} out={x}.{part} slot=-1 shift={table}:{3 * d}+{d} "
                f"scale={table}:{4 * d}+{d} eps=1e-06 normed={normed}.{part}",
                f"linear in={normed}.{part} w={case.weight(4 * d, d)} f=gelu_tanh out={hidden}.{part}",
                f"linear in={hidden}.{part} w={case.weight(d, 4 * d)} gate={table}:{5 * d}+{d} residual={x}.{part} out={x}.{part}")
    return case.result(x, text + image, d)


def single_block():
    case, text, image, heads, head, d, x, normed, qkv_, rope = transformer_case("single block, 96 tokens, 2 heads of 128")
    table, both = case.table(3 * d, quiet=2), case.act("linear", 5 * d, text, image)
    case.do(f"layer_norm in={x} shift={table}:0+{d} scale={table}:{d}+{d} eps=1e-06 out={normed}",
            f"qkv_norm_rope in={normed} w={case.weight(3 * d, d, 'qkv', heads=heads)} norm_q={case.norm(head)} norm_k={case.norm(head)} heads={heads} eps=1e-06 rope={rope} out={qkv_}",
            f"linear in={normed} w={case.weight(4 * d, d)} f=gelu_tanh out={both}:{d}+{4 * d}",
            f"attention q={qkv_}:0+{d} k={qkv_}:{d}+{d} v={qkv_}:{2 * d}+{d} heads={heads} scale={head ** -0.5!r} out={both}:0+{d}",
            f"linear in={both} w={case.weight(d, 5 * d)} gate={table}:{2 * d}+{d} residual={x} out={x}")
    return case.result(x, text + image, d)


def vae_level():
    case, size, cols, groups = Case("VAE level, 16x16, 64 channels, 32 groups", "block"), (16, 16), 64, 32
    x, inner, out = stream(case, cols, image=256, size=size), case.act("plane", cols, image=256, size=size), case.act("plane", cols, image=1024, size=(32, 32))
    stats = case.act("stats", 3, image=groups)
    for source, target, residual in ((x, inner, ""), (inner, x, f" residual={x}")):
        case.do(f"group_stats in={source} groups={groups} out={stats}",
                f"norm_conv in={source} stats={stats} groups={groups} norm_w={case.norm(cols, True)} eps=1e-06 silu=1 w={case.weight(cols, 9 * cols, 'conv', 3)}{residual} out={target}")
    case.do(f"upsample_conv in={x} w={case.weight(cols, 9 * cols, 'conv', 3)} out={out}")
    return case.result(out, 1024, cols)


def operations():
    yield from linears()
    yield linear_norm()
    yield mlp()
    yield qkv()
    yield qkv(single=True)
    yield layer_norm(True, 64, 3072)
    yield layer_norm(True, 77, 96)
    yield layer_norm(False, 77, 768)
    yield rms_norm()
    yield from attentions()
    yield from pointwise()
    yield from moved()
    yield from planes()


def exchanges():
    yield from gathers(TP, "all")
    yield from reductions(TP, "all")
    yield cut_products()
    yield from shared_planes(TP)
    yield plane_attention()
    yield shares_of_clip()
    yield ring(False)
    yield ring(True)
    for axis in ("tp", "sp", "all"):
        yield from gathers(BOTH, axis)
        yield from reductions(BOTH, axis)
    yield from shared_planes(BOTH)


def blocks():
    yield clip_layer()
    yield t5_layer()
    yield joint_block()
    yield single_block()
    yield vae_level()


KINDS = {"operations": operations, "exchanges": exchanges, "blocks": blocks}
