"""The functions of ttnn that tools/ttnn/flux1_ttnn.py calls, on shapes alone: what each result takes of a device's memory, page by page over its banks, from the
call that makes it until nobody holds it. Nothing is computed. What mock mode counts of the library itself is counted here without it (docs/tenstorrent.md)."""
import math
import types
import weakref

DataType, Layout = type("DataType", (str,), {}), type("Layout", (str,), {})
bfloat16, float32, uint32, bfloat8_b = (DataType(name) for name in ("bfloat16", "float32", "uint32", "bfloat8_b"))
TILE_LAYOUT, ROW_MAJOR_LAYOUT, DRAM_MEMORY_CONFIG = Layout("tile"), Layout("rows"), "dram"
Topology = types.SimpleNamespace(Linear="Linear")
MathFidelity = types.SimpleNamespace(HiFi2=2, HiFi4=4)
TILE = 32
CELL = {bfloat16: 2, float32: 4, uint32: 4, bfloat8_b: 1.0625}

banks, align, device = 12, 32, None
used = 0  # bytes of each bank


def open_device(shape, of_banks, alignment, grid=(8, 8)):
    global banks, align, device, used
    banks, align, used = of_banks, alignment, 0
    device = types.SimpleNamespace(shape=tuple(shape), arch=lambda: "shapes",
                                   compute_with_storage_grid_size=lambda: types.SimpleNamespace(x=grid[0], y=grid[1]))
    return device


def up(n, unit):
    return -(-n // unit) * unit


def taken(shape, dtype, layout):
    """Bytes of each bank: whole pages, which are tiles or rows."""
    if layout == TILE_LAYOUT:
        pages, page = math.prod(shape[:-2]) * -(-shape[-2] // TILE) * -(-shape[-1] // TILE), int(CELL[dtype] * TILE * TILE)
    else:
        pages, page = math.prod(shape[:-1]), int(CELL[dtype] * shape[-1])
    return -(-pages // banks) * up(page, align)


class Held:
    """Memory that tensors share."""

    def __init__(self, count):
        global used
        used += count
        weakref.finalize(self, give_back, count)


def give_back(count):
    global used
    used -= count


class Tensor:
    def __init__(self, shape, dtype, layout, held=None, host=False):
        self.shape, self.dtype, self.layout, self.host = list(shape), dtype, layout, host
        self.held = held or (None if host else Held(taken(self.shape, dtype, layout)))

    def memory_config(self):
        return DRAM_MEMORY_CONFIG


def like(x, shape=None, dtype=None, layout=None):
    return Tensor(shape or x.shape, dtype or x.dtype, layout or x.layout)


def view(x, shape):
    return Tensor(shape, x.dtype, x.layout, x.held)


def silent(*_, **__):
    return None


init_device_compute_kernel_config = CoreRangeSet = SubDeviceId = MinimalMatmulConfig = SDPAProgramConfig = synchronize_device = silent
create_global_semaphore = lambda *_: object()
CoreCoord = lambda x, y: types.SimpleNamespace(x=x, y=y)
CoreRange = lambda a, b: (0, 0)


def empty(shape, dtype=bfloat16, layout=TILE_LAYOUT, device=None):
    return Tensor(shape, dtype, layout)


def zeros(shape, dtype=bfloat16, layout=TILE_LAYOUT, device=None):
    return Tensor(shape, dtype, layout, host=device is None)


ones = zeros


def slice(x, begin, end):
    assert all(0 <= b < e <= n for b, e, n in zip(begin, end, x.shape)), (x.shape, begin, end)
    return like(x, [e - b for b, e in zip(begin, end)])


def squeeze(x, dim):
    assert x.shape[dim] == 1
    return view(x, x.shape[:dim] + x.shape[dim + 1:])


def unsqueeze(x, dim):
    return view(x, x.shape[:dim] + [1] + x.shape[dim:])


def reshape(x, shape):
    """A view where pages stay what they are."""
    assert math.prod(x.shape) == math.prod(shape), (x.shape, shape)
    rows = [s[-2] if len(s) > 1 else 1 for s in (x.shape, shape)]
    same = x.shape[-1] == shape[-1] and (x.layout != TILE_LAYOUT or rows[0] == rows[1] or not any(n % TILE for n in rows))
    return view(x, shape) if same else like(x, shape)


def permute(x, dims):
    return like(x, [x.shape[d] for d in dims])


def repeat(x, times):
    return like(x, [n * k for n, k in zip(x.shape, times)])


def clone(x):
    return like(x)


def binary(a, b):
    if not isinstance(b, Tensor):
        return like(a)
    shape = [max(m, n) for m, n in zip(a.shape, b.shape)]
    assert all(n in (1, m) for x in (a, b) for m, n in zip(shape, x.shape)), (a.shape, b.shape)
    return like(a, shape)


multiply = add = subtract = binary


def unary(x, **_):
    return like(x)


sigmoid = silu = gelu = rsqrt = reciprocal = alt_complex_rotate90 = unary


def mean(x, dim, keepdim):
    return like(x, [1 if i == dim else n for i, n in enumerate(x.shape)])


def embedding(ids, table, layout):
    return like(table, [*ids.shape, table.shape[-1]], layout=layout)


def upsample(x, scale_factor):
    n, height, width, channels = x.shape
    return like(x, [n, height * scale_factor, width * scale_factor, channels])


def conv2d(input_tensor, weight_tensor, bias_tensor, out_channels, input_height, input_width, padding, **_):
    """What the library makes of a filter: a matrix and a row. Of large ones columns of cores share the inputs by eights."""
    x, w, b = input_tensor, weight_tensor, bias_tensor
    if w.host:
        units, columns = -(-w.shape[1] // 8), device.compute_with_storage_grid_size().x
        each = -(-units // columns) if min(w.shape[:2]) >= 256 else units
        w, b = Tensor([1, 1, -(-units // each) * 3 * up(24 * each, TILE), w.shape[0]], bfloat16, TILE_LAYOUT), b and Tensor([1, 1, TILE, w.shape[0]], bfloat16, TILE_LAYOUT)
    height, width = input_height + 2 * padding[0] - 2, input_width + 2 * padding[1] - 2
    return Tensor([1, 1, height * width, out_channels], bfloat16, TILE_LAYOUT), (w, b)


def to_layout(x, layout):
    return x if x.layout == layout else like(x, layout=layout)


def typecast(x, dtype):
    return like(x, dtype=dtype)


def concat(tensors, dim):
    assert len({(x.layout, x.dtype) for x in tensors}) == 1, [(x.layout, x.dtype) for x in tensors]
    shape = list(tensors[0].shape)
    shape[dim] = sum(x.shape[dim] for x in tensors)
    return like(tensors[0], shape)


def layer_norm(x, **_):
    return like(x)


rms_norm = layer_norm


def split_heads(x, num_heads, **_):
    batch, rows, cols = x.shape
    return tuple(like(x, [batch, num_heads, rows, cols // 3 // num_heads]) for _ in range(3))


def concatenate_heads(x):
    batch, heads, rows, width = x.shape
    return like(x, [batch, rows, heads * width])


def mesh_partition(x, dim, cluster_axis):
    assert x.shape[dim] % device.shape[cluster_axis] == 0
    return like(x, [n // device.shape[cluster_axis] if i == dim else n for i, n in enumerate(x.shape)])


def product(input_tensor, weight_tensor, bias_tensor, **_):
    assert input_tensor.shape[-1] == weight_tensor.shape[-2], (input_tensor.shape, weight_tensor.shape)
    return like(input_tensor, [*input_tensor.shape[:-1], weight_tensor.shape[-1]], dtype=bfloat16)


experimental = types.SimpleNamespace(
    minimal_matmul=product, dit_rms_norm_unary_fused=lambda x, weight, bias, epsilon: like(x),
    all_gather_async=lambda x, persistent_output_buffer, **_: persistent_output_buffer,
    reduce_scatter_minimal_async=lambda x, persistent_output_buffers, **_: persistent_output_buffers[1])
transformer = types.SimpleNamespace(
    split_query_key_value_and_split_heads=split_heads, concatenate_heads=concatenate_heads,
    scaled_dot_product_attention=lambda q, k, v, **_: like(q),
    ring_joint_scaled_dot_product_attention=lambda q, *_, **__: (like(q), None, None))


def get_memory_view(device, kind):
    return types.SimpleNamespace(total_bytes_allocated_per_bank=used, total_bytes_per_bank=0, num_banks=banks)


BufferType = types.SimpleNamespace(DRAM="dram")
