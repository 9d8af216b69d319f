"""The functions of ttnn that tools/ttnn/flux1_ttnn.py calls, in numpy and float32, on a mesh of devices that are arrays in a list: what the worker's calls
mean, without rounding. Numerics of the library are not imitated, but for gelu, which here is by tanh as recordings ask (the library's is by erf)."""
import json
import types

import numpy as np

RANGE = slice

DataType, Layout = type("DataType", (str,), {}), type("Layout", (str,), {})
bfloat16, float32, uint32, bfloat8_b = (DataType(name) for name in ("bfloat16", "float32", "uint32", "bfloat8_b"))
TILE_LAYOUT, ROW_MAJOR_LAYOUT, DRAM_MEMORY_CONFIG = Layout("tile"), Layout("rows"), "dram"
Topology = types.SimpleNamespace(Linear="Linear")
MathFidelity = types.SimpleNamespace(HiFi2=2, HiFi4=4)


class Tensor:
    """On all devices of a mesh; a host's has one array and no place."""

    def __init__(self, values, dtype=bfloat16, layout=TILE_LAYOUT, host=False):
        self.v, self.dtype, self.layout, self.host = [values] if isinstance(values, np.ndarray) else list(values), dtype, layout, host

    shape = property(lambda self: list(self.v[0].shape))

    def memory_config(self):
        return DRAM_MEMORY_CONFIG

    def cpu(self):
        return self

    def to_numpy(self):
        return self.v[0]


class Device:
    """A mesh [rows, columns]."""

    def __init__(self, shape):
        self.shape = tuple(shape)
        last.clear()

    def create_submesh(self, shape):
        return open_mesh_device(shape)

    def compute_with_storage_grid_size(self):
        return types.SimpleNamespace(x=8, y=8)

    def arch(self):
        return "numpy"


device = None  # the one that is open


def each(f):
    """A function of arrays as one of tensors; other arguments stay."""
    def on_all(*arguments, **named):
        count = next(len(a.v) for a in arguments if isinstance(a, Tensor))
        pick = lambda a, i: a.v[i] if isinstance(a, Tensor) else a
        return Tensor([f(*(pick(a, i) for a in arguments), **{k: pick(a, i) for k, a in named.items()}) for i in range(count)], arguments[0].dtype, arguments[0].layout)
    return on_all


def silent(*_, **__):
    return None


init_device_compute_kernel_config = CoreRangeSet = CoreRange = SubDeviceId = MinimalMatmulConfig = SDPAProgramConfig = silent
create_global_semaphore = lambda *_: object()
CoreCoord = lambda x, y: types.SimpleNamespace(x=x, y=y)
CoreRange = lambda a, b: (0, 0)


def empty(shape, dtype=bfloat16, layout=None, device=None):
    return Tensor([np.full(shape, np.nan, np.float32)] * int(np.prod(device.shape)), dtype, layout)


def zeros(shape, dtype=bfloat16, layout=None, device=None):
    return Tensor([np.zeros(shape, np.float32)] * (int(np.prod(device.shape)) if device else 1), dtype, layout, host=device is None)


def ones(shape, **named):
    return add(zeros(shape, **named), 1)


slice = each(lambda x, begin, end: x[tuple(RANGE(a, b) for a, b in zip(begin, end))])
squeeze, unsqueeze = each(lambda x, d: x.squeeze(d)), each(lambda x, d: np.expand_dims(x, d))
reshape, permute = each(lambda x, s: x.reshape(s)), each(lambda x, d: x.transpose(d))
repeat, clone = each(lambda x, times: np.tile(x, times)), each(lambda x: x)
multiply, add, subtract = each(lambda a, b: a * b), each(lambda a, b: a + b), each(lambda a, b: a - b)
mean, rsqrt, reciprocal = each(lambda x, dim, keepdim: x.mean(dim, keepdims=keepdim)), each(lambda x: 1 / np.sqrt(x)), each(lambda x: 1 / x)
sigmoid, silu = each(lambda x: 1 / (1 + np.exp(-x))), each(lambda x: x / (1 + np.exp(-x)))
gelu = each(lambda x, fast_and_approximate_mode: 0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x**3))))
rows_of = each(lambda ids, table: table[ids.astype(int)])
doubled = each(lambda x: x.repeat(2, 1).repeat(2, 2))


def embedding(ids, table, layout):
    assert ids.dtype == uint32 and table.layout == ROW_MAJOR_LAYOUT and len(table.shape) == 2, "a table's rows are looked up by whole numbers"
    y = rows_of(ids, table)
    return Tensor(y.v, table.dtype, layout)


def upsample(x, scale_factor):
    """[N, H, W, C]."""
    assert scale_factor == 2 and len(x.shape) == 4 and x.layout == ROW_MAJOR_LAYOUT
    return doubled(x)


def filtered(x, w, b, pads):
    """x [H, W, inputs], w [outputs, inputs, 3, 3]; zeros in `pads` rows and columns around."""
    x = np.pad(x, ((pads[0],) * 2, (pads[1],) * 2, (0, 0)))
    height, width = x.shape[0] - 2, x.shape[1] - 2
    y = sum(x[i : i + height, j : j + width] @ w[:, :, i, j].T for i in range(3) for j in range(3))
    return y if b is None else y + b.reshape(-1)


def conv2d(input_tensor, weight_tensor, bias_tensor, device, in_channels, out_channels, batch_size, input_height, input_width, kernel_size, stride, padding,
           return_weights_and_bias, **_):
    x, w, b = input_tensor, weight_tensor, bias_tensor
    assert x.shape == [1, 1, batch_size * input_height * input_width, in_channels] and kernel_size == (3, 3) and stride == (1, 1) and batch_size == 1
    assert w.shape == [out_channels, in_channels, 3, 3] and w.host and w.layout == ROW_MAJOR_LAYOUT, "weights are the host's, or prepared"
    assert b is None or (b.shape == [1, 1, 1, out_channels] and b.host)
    y = [filtered(one.reshape(input_height, input_width, in_channels), w.v[0], b and b.v[0], padding).reshape(1, 1, -1, out_channels) for one in x.v]
    return (Tensor(y), (w, b)) if return_weights_and_bias else Tensor(y)


def to_layout(x, layout):
    return Tensor(x.v, x.dtype, layout)


def typecast(x, dtype):
    return Tensor(x.v, dtype, x.layout)


def concat(tensors, dim):
    assert len({(x.layout, x.dtype) for x in tensors}) == 1, [(x.layout, x.dtype) for x in tensors]
    return Tensor([np.concatenate(parts, dim) for parts in zip(*(x.v for x in tensors))], tensors[0].dtype, tensors[0].layout)


def plain_norm(x, eps):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)


def norm(x, epsilon, weight=None, bias=None, compute_kernel_config=None):
    one = lambda x, w, b: plain_norm(x, epsilon) * (1 if w is None else w) + (0 if b is None else b)
    return each(lambda x, w, b: one(x, w, b))(x, weight, bias)


layer_norm = norm
rms_norm = each(lambda x, epsilon, weight, **_: x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight)
pairs = each(lambda x: np.stack([-x[..., 1::2], x[..., 0::2]], -1).reshape(x.shape))


def alt_complex_rotate90(x):
    return pairs(x)


def attention(q, k, v, mask, scale, causal=False):
    s = q @ k.transpose(0, 1, 3, 2) * scale + (0 if mask is None else mask)
    if causal:
        assert mask is None and q.shape[2] == k.shape[2]
        s = np.where(np.tri(q.shape[2], dtype=bool), s, -np.inf)
    p = np.exp(s - s.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True) @ v


def split_heads(x, num_heads, **_):
    heads = lambda y: np.stack(np.split(y, num_heads, -1), 1)
    thirds = [[heads(part) for part in np.split(one, 3, -1)] for one in x.v]
    return tuple(Tensor([t[i] for t in thirds]) for i in range(3))


def groups(axis):
    """Ranks that exchange along an axis of the mesh, in its order."""
    grid = np.arange(int(np.prod(device.shape))).reshape(device.shape)
    return [list(g) for g in (grid.T if axis == 0 else grid)]


def synchronize_device(_):
    last.clear()


last = {}  # what the last exchange of a kind used along an axis


def begin_exchange(kind, axis, *used):
    """Its neighbours may still be in the one before: nothing of that is used again."""
    assert len({id(one) for one in used}) == len(used)
    assert not any(one is other for one in used for other in last.get((kind, axis), ())), f"{kind} along axis {axis} uses what the one before used"
    last[kind, axis] = used


def all_gather(x, persistent_output_buffer, dim, cluster_axis, multi_device_global_semaphore, **_):
    begin_exchange("gather", cluster_axis, persistent_output_buffer, *multi_device_global_semaphore)
    out = [None] * len(x.v)
    for g in groups(cluster_axis):
        for r in g:
            out[r] = np.concatenate([x.v[i] for i in g], dim)
    assert list(out[0].shape) == persistent_output_buffer.shape and x.layout == persistent_output_buffer.layout
    return Tensor(out, x.dtype, x.layout)


def reduce_scatter(x, persistent_output_buffers, dim, cluster_axis, multi_device_global_semaphore, **_):
    begin_exchange("scatter", cluster_axis, *persistent_output_buffers, *multi_device_global_semaphore)
    out = [None] * len(x.v)
    for g in groups(cluster_axis):
        for r, share in zip(g, np.split(sum(x.v[i] for i in g), len(g), dim)):
            out[r] = share
    assert list(out[0].shape) == persistent_output_buffers[1].shape
    return Tensor(out, x.dtype)


def mesh_partition(x, dim, cluster_axis):
    out = [None] * len(x.v)
    for g in groups(cluster_axis):
        for place, r in enumerate(g):
            out[r] = np.split(x.v[r], len(g), dim)[place]
    return Tensor(out, x.dtype, x.layout)


def ring(q, k, v, *nobody, persistent_output_buffer_k, persistent_output_buffer_v, multi_device_global_semaphore, logical_n, cluster_axis, dim, **_):
    begin_exchange("gather", cluster_axis, persistent_output_buffer_k, persistent_output_buffer_v, *multi_device_global_semaphore)
    out = [None] * len(q.v)
    for g in groups(cluster_axis):
        keys, values = (np.concatenate([x.v[i] for i in g], dim) for x in (k, v))
        assert keys.shape[dim] == logical_n
        for r in g:
            out[r] = attention(q.v[r], keys, values, None, q.v[r].shape[-1] ** -0.5)
    return Tensor(out), None, None


sdpa = each(attention)
matmul = each(lambda x, w, b: x @ w + (0 if b is None else b))
head_norm = each(lambda x, w, eps: x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w)
experimental = types.SimpleNamespace(
    minimal_matmul=lambda input_tensor, weight_tensor, bias_tensor, **_: matmul(input_tensor, weight_tensor, bias_tensor),
    dit_rms_norm_unary_fused=lambda x, weight, bias, epsilon: head_norm(x, weight, epsilon),
    all_gather_async=all_gather, reduce_scatter_minimal_async=reduce_scatter)
transformer = types.SimpleNamespace(
    split_query_key_value_and_split_heads=split_heads, concatenate_heads=each(lambda x: x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)),
    scaled_dot_product_attention=lambda q, k, v, attn_mask, is_causal, scale, **_: sdpa(q, k, v, attn_mask, scale, is_causal),
    ring_joint_scaled_dot_product_attention=ring)


# ---- from the host and back ----

FabricConfig, DispatchCoreType = types.SimpleNamespace(FABRIC_1D=1), types.SimpleNamespace(WORKER=1)
set_fabric_config = DispatchCoreConfig = close_mesh_device = silent
MeshShape = lambda *shape: shape


def open_mesh_device(shape, **_):
    global device
    device = Device(shape)
    return device


def tiles(shape):
    return [-(-n // 32) for n in shape[-2:]]


def file_bytes(shape, dtype, layout):
    """Of a tensor in its own form."""
    if layout == TILE_LAYOUT:
        return int(np.prod(shape[:-2]) * np.prod(tiles(shape))) * {bfloat16: 2048, bfloat8_b: 1088, float32: 4096}[dtype]
    return int(np.prod(shape)) * {bfloat16: 2, float32: 4}[dtype]


def dump_tensor(path, x):
    with open(path, "wb") as f:
        f.write(json.dumps({"shape": x.shape, "dtype": x.dtype, "layout": x.layout}).encode() + b"\n" + bytes(file_bytes(x.shape, x.dtype, x.layout)))


def unpacked(data, shape, dtype, layout):
    """The values of each form, as Tenstorrent's cards hold it: tiles of four faces of 16x16; bfloat8_b: the exponents of a tile's 64 rows of a face, then its
    values, sign and seven bits."""
    assert len(data) == file_bytes(shape, dtype, layout)
    if dtype == bfloat8_b:
        tile = np.frombuffer(data, np.uint8).reshape(-1, 1088)
        size, number = np.exp2(tile[:, :64].astype(np.float32) - 133), tile[:, 64:].reshape(-1, 64, 16)
        values = (1 - 2.0 * (number >> 7)) * (number & 127) * size[:, :, None]
    else:
        values = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32) if dtype == bfloat16 else np.frombuffer(data, np.float32)
    if layout == TILE_LAYOUT:
        down, across = tiles(shape)
        values = values.reshape(-1, down, across, 2, 2, 16, 16).transpose(0, 1, 3, 5, 2, 4, 6).reshape(-1, down * 32, across * 32)
        values = values[:, :shape[-2], :shape[-1]]
    return np.ascontiguousarray(values.reshape(shape), np.float32)


def load_tensor(path):
    with open(path, "rb") as f:
        about = json.loads(f.readline())
        data = f.read()
    layout = Layout(about["layout"])
    return Tensor(unpacked(data, about["shape"], DataType(about["dtype"]), layout), DataType(about["dtype"]), layout, host=True)


def from_host_shards(shards, shape):
    assert len(shards) == int(np.prod(shape)) and tuple(shape) == device.shape
    return Tensor([x.v[0] for x in shards], shards[0].dtype, shards[0].layout, host=True)


def to_device(x, _):
    return Tensor(x.v, x.dtype, x.layout)


def get_device_tensors(x):
    return [Tensor([v], x.dtype, x.layout) for v in x.v]


# ---- traces: calls are noted and not made; played, they read and write the tensors that they were noted with ----

traces, noted = {}, None


def results(out):
    return [x for x in (out if isinstance(out, tuple) else (out,)) if isinstance(x, Tensor)]


def notable(f):
    def call(*arguments, **named):
        out = f(*arguments, **named)
        if noted is not None:
            noted.append((f, arguments, named, out))
            for x in results(out):
                x.v = [np.full_like(v, np.nan) for v in x.v]
        return out
    return call


def copy(source, target):
    if noted is None:
        assert source.shape == target.shape and source.dtype == target.dtype
        target.v = list(source.v)
    else:
        noted.append((copy, (source, target), {}, None))


def begin_trace_capture(_):
    global noted
    noted = []
    return len(traces)


def end_trace_capture(_, trace):
    global noted
    traces[trace], noted = noted, None
    last.clear()  # nothing was exchanged


def execute_trace(_, trace, blocking):
    for f, arguments, named, out in traces[trace]:
        for old, new in zip(results(out), results(f(*arguments, **named))):
            old.v = new.v


def release_trace(_, trace):
    traces[trace] = None


for name in """slice squeeze unsqueeze reshape permute repeat to_layout clone multiply add subtract mean rsqrt sigmoid silu gelu embedding typecast concat layer_norm rms_norm
               alt_complex_rotate90 mesh_partition upsample conv2d""".split():
    globals()[name] = notable(globals()[name])
for space in (experimental, transformer):
    for name, f in vars(space).items():
        setattr(space, name, notable(f))
