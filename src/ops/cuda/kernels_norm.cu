/* Norms over a row, and over a head with the rotation behind it. Bound by memory: each element is read once and written
 * once.
 *
 * layer_norm, rms_norm: one block a row, four columns at a time, up to 8192 columns in registers (3072 columns: 12 a
 * thread), so mean and variance are two true passes without a second read. Longer rows and rows at odd addresses are
 * read again for each pass, from cache. One barrier a sum. softmax, quantise, largest: the same walk; four columns
 * become four bytes. head_norm_rope: eight columns a lane, as many lanes a head as that takes (128 columns: 16 lanes,
 * two heads a warp), q and k in one launch. */
#include "ops/cuda/kernels_device.h"

enum { NORM_WARPS = CUDA_NORM_THREADS / WARP };

/* A row's columns as one thread sees them: N at a time, KEEP times N of them in registers, or (KEEP 0) read again each
 * time. */
template <int N, int KEEP> struct norm_row {
    pack<N> x[KEEP ? KEEP : 1];
    const cuda_view *in;
    int64_t at;
    int cols;

    __device__ void begin(const cuda_view &view)
    {
        in = &view;
        at = place(view, blockIdx.y, blockIdx.x);
        cols = (int)view.cols;
    }
    __device__ void read()
    {
        if constexpr (KEEP > 0)
            UNROLL for (int i = 0; i < KEEP; i++) if (column(i) < cols) x[i] =
                load<N>(in->data, in->bf16, at + column(i));
    }
    static __device__ int column(int i) { return ((int)threadIdx.x + i * CUDA_NORM_THREADS) * N; }

    template <class F> __device__ void each(F f) const
    {
        if constexpr (KEEP > 0) {
            UNROLL for (int i = 0; i < KEEP; i++) if (column(i) < cols) f(column(i), x[i]);
        } else {
            for (int c = column(0); c < cols; c += CUDA_NORM_THREADS * N)
                f(c, load<N>(in->data, in->bf16, at + c));
        }
    }
};

template <bool CENTRED, int N, int KEEP>
INLINE void normalise(const cuda_norm_args &a, const norm_row<N, KEEP> &row, float (*part)[NORM_WARPS])
{
    float mean = 0, squares = 0;
    if constexpr (CENTRED) {
        float sum = 0;
        row.each([&](int, const pack<N> &x) { UNROLL for (int j = 0; j < N; j++) sum += x.v[j]; });
        mean = block_sum<CUDA_NORM_THREADS>(sum, part[0]) / (float)row.cols;
    }
    row.each([&](int, const pack<N> &x) {
        UNROLL for (int j = 0; j < N; j++)
        {
            float d = x.v[j] - mean;
            squares += d * d;
        }
    });
    const float inverse = 1.0f / sqrtf(block_sum<CUDA_NORM_THREADS>(squares, part[1]) / (float)row.cols + a.eps);
    const line w = line_of(a.w), b = line_of(a.b), scale = rows_of(a.scale).of(blockIdx.y),
               shift = rows_of(a.shift).of(blockIdx.y);
    const int64_t to = place(a.out, blockIdx.y, blockIdx.x);
    row.each([&](int c, const pack<N> &x) {
        pack<N> y;
        UNROLL for (int j = 0; j < N; j++) y.v[j] = (x.v[j] - mean) * inverse;
        if (w.p) {
            pack<N> times = load<N>(w, c);
            UNROLL for (int j = 0; j < N; j++) y.v[j] *= times.v[j];
        }
        if (b.p) {
            pack<N> plus = load<N>(b, c);
            UNROLL for (int j = 0; j < N; j++) y.v[j] += plus.v[j];
        }
        if (scale.p) {
            pack<N> times = load<N>(scale, c);
            UNROLL for (int j = 0; j < N; j++) y.v[j] *= 1 + times.v[j];
        }
        if (shift.p) {
            pack<N> plus = load<N>(shift, c);
            UNROLL for (int j = 0; j < N; j++) y.v[j] += plus.v[j];
        }
        store<N>(a.out.data, a.out.bf16, to + c, y);
    });
}

template <bool CENTRED, int N, int KEEP> INLINE void norm(const cuda_norm_args &a, float (*part)[NORM_WARPS])
{
    norm_row<N, KEEP> row = {};
    row.begin(a.in);
    row.read();
    normalise<CENTRED>(a, row, part);
}

template <bool CENTRED> INLINE void norm_any(const cuda_norm_args &a, float (*part)[NORM_WARPS])
{
    const int64_t share = 4 * CUDA_NORM_THREADS;
    if (!a.in.wide || !a.out.wide)
        norm<CENTRED, 1, 0>(a, part);
    else if (a.in.cols <= share)
        norm<CENTRED, 4, 1>(a, part);
    else if (a.in.cols <= 3 * share)
        norm<CENTRED, 4, 3>(a, part);
    else if (a.in.cols <= 4 * share)
        norm<CENTRED, 4, 4>(a, part);
    else if (a.in.cols <= 8 * share)
        norm<CENTRED, 4, 8>(a, part);
    else
        norm<CENTRED, 4, 0>(a, part);
}

KERNEL(layer_norm, cuda_norm_args, CUDA_NORM_THREADS)
{
    __shared__ float part[2][NORM_WARPS];
    norm_any<true>(a, part);
}

KERNEL(rms_norm, cuda_norm_args, CUDA_NORM_THREADS)
{
    __shared__ float part[2][NORM_WARPS];
    norm_any<false>(a, part);
}

/* ---- softmax ---- */

template <int N, int KEEP> INLINE void softmax(const cuda_softmax_args &a, float (*part)[NORM_WARPS])
{
    norm_row<N, KEEP> row = {};
    row.begin(a.in);
    row.read();
    const float scale = a.scale * 1.44269504f; /* log2 e */
    float most = -INFINITY, sum = 0;
    row.each([&](int, const pack<N> &x) { UNROLL for (int j = 0; j < N; j++) most = fmaxf(most, x.v[j]); });
    most = block_largest<CUDA_NORM_THREADS>(most, part[0]) * scale;
    row.each([&](int, const pack<N> &x) { UNROLL for (int j = 0; j < N; j++) sum += exp2f(x.v[j] * scale - most); });
    const float inverse = 1.0f / block_sum<CUDA_NORM_THREADS>(sum, part[1]);
    const int64_t to = place(a.out, blockIdx.y, blockIdx.x);
    row.each([&](int c, const pack<N> &x) {
        pack<N> y;
        UNROLL for (int j = 0; j < N; j++) y.v[j] = exp2f(x.v[j] * scale - most) * inverse;
        store<N>(a.out.data, a.out.bf16, to + c, y);
    });
}

KERNEL(softmax, cuda_softmax_args, CUDA_NORM_THREADS)
{
    __shared__ float part[2][NORM_WARPS];
    const int64_t share = 4 * CUDA_NORM_THREADS;
    if (!a.in.wide || !a.out.wide)
        softmax<1, 0>(a, part);
    else if (a.in.cols <= 4 * share)
        softmax<4, 4>(a, part);
    else if (a.in.cols <= 16 * share)
        softmax<4, 16>(a, part); /* the keys of a picture of 1024² */
    else
        softmax<4, 0>(a, part);
}

/* ---- the end of a block and the norm that begins the next ---- */

/* x = product, then bias, gate, residual: the epilogue of a row's N columns from c on. */
template <int N> struct row_end {
    const cuda_element_args &a;
    line gate, bias;
    int64_t from, to, beside; /* the row's first element in the product, out, residual */

    __device__ row_end(const cuda_element_args &args)
        : a(args), gate(rows_of(args.gate).of(blockIdx.y)), bias(line_of(args.bias)),
          from(place(args.in, blockIdx.y, blockIdx.x)), to(place(args.out, blockIdx.y, blockIdx.x)),
          beside(place(args.residual, blockIdx.y, blockIdx.x))
    {
    }
    __device__ pack<N> product(int c) const { return load<N>(a.in.data, a.in.bf16, from + c); }
    __device__ pack<N> residual(int c) const
    {
        return a.residual.data ? load<N>(a.residual.data, a.residual.bf16, beside + c) : pack<N>{};
    }
    /* Stored, too. */
    __device__ pack<N> sum(int c, pack<N> x, const pack<N> &plus, bool &bad) const
    {
        if (bias.p) {
            const pack<N> more = load<N>(bias, c);
            UNROLL for (int j = 0; j < N; j++) x.v[j] += more.v[j];
        }
        if (gate.p) {
            const pack<N> times = load<N>(gate, c);
            UNROLL for (int j = 0; j < N; j++) x.v[j] *= times.v[j];
        }
        UNROLL for (int j = 0; j < N; j++)
        {
            x.v[j] += plus.v[j];
            bad |= not_finite(x.v[j]);
        }
        store<N>(a.out.data, a.out.bf16, to + c, x);
        return x;
    }
};

/* All of a row is on its way before the first element is stored, where registers hold it. */
template <int N, int KEEP> INLINE void epilogue_norm(const cuda_exit_args &a, float (*part)[NORM_WARPS])
{
    const row_end<N> end(a.epilogue);
    norm_row<N, KEEP> row = {};
    bool bad = false;
    row.begin(a.norm.in);
    if constexpr (KEEP > 0) {
        pack<N> plus[KEEP] = {};
        UNROLL for (int i = 0; i < KEEP; i++) if (row.column(i) < row.cols)
        {
            row.x[i] = end.product(row.column(i));
            plus[i] = end.residual(row.column(i));
        }
        UNROLL for (int i = 0; i < KEEP; i++) if (row.column(i) < row.cols) row.x[i] =
            end.sum(row.column(i), row.x[i], plus[i], bad);
    } else {
        for (int c = row.column(0); c < row.cols; c += CUDA_NORM_THREADS * N) /* each reads again what it has stored */
            end.sum(c, end.product(c), end.residual(c), bad);
    }
    if (bad && a.epilogue.flag)
        *a.epilogue.flag = 1;
    normalise<true>(a.norm, row, part);
}

KERNEL(epilogue_norm, cuda_exit_args, CUDA_NORM_THREADS)
{
    __shared__ float part[2][NORM_WARPS];
    const int64_t share = 4 * CUDA_NORM_THREADS;
    if (!a.epilogue.in.wide || !wide(a.epilogue.residual) || !a.norm.in.wide || !a.norm.out.wide)
        epilogue_norm<1, 0>(a, part);
    else if (a.norm.in.cols <= share)
        epilogue_norm<4, 1>(a, part);
    else if (a.norm.in.cols <= 3 * share)
        epilogue_norm<4, 3>(a, part);
    else
        epilogue_norm<4, 0>(a, part);
}

/* ---- rows in e4m3 ---- */

template <int N, int KEEP> INLINE float largest_of(const norm_row<N, KEEP> &row, float *part)
{
    float most = 0;
    row.each([&](int, const pack<N> &x) { UNROLL for (int j = 0; j < N; j++) most = fmaxf(most, fabsf(x.v[j])); });
    return block_largest<CUDA_NORM_THREADS>(most, part);
}

template <int N, int KEEP> INLINE void raise_largest(const cuda_quantise_args &a, float *part)
{
    norm_row<N, KEEP> row = {};
    row.begin(a.in);
    row.read();
    const float most = largest_of(row, part);
    if (threadIdx.x == 0)
        atomicMax((unsigned *)a.largest,
                  __float_as_uint(most)); /* floats that are not negative are ordered as their bits */
}

template <int N, int KEEP> INLINE void quantise(const cuda_quantise_args &a, float *part)
{
    norm_row<N, KEEP> row = {};
    row.begin(a.in);
    row.read();
    const float most = a.largest ? *a.largest : largest_of(row, part), scale = fmaxf(most, 1e-12f) / 448.0f,
                inverse = 1 / scale;
    const int64_t r = blockIdx.y * a.in.rows + blockIdx.x;
    if (threadIdx.x == 0 && (!a.largest || r == 0))
        a.scales[a.largest ? 0 : r] = scale;
    uint8_t *to = a.out + r * a.in.cols;
    row.each([&](int c, const pack<N> &x) {
        if constexpr (N == 4)
            as<uint32_t>(to + c) =
                e4m3_pair(x.v[0] * inverse, x.v[1] * inverse) | e4m3_pair(x.v[2] * inverse, x.v[3] * inverse) << 16;
        else
            to[c] = (uint8_t)e4m3_pair(x.v[0] * inverse, 0);
    });
}

KERNEL(largest, cuda_quantise_args, CUDA_NORM_THREADS)
{
    __shared__ float part[NORM_WARPS];
    if (a.in.wide)
        raise_largest<4, 0>(a, part);
    else
        raise_largest<1, 0>(a, part);
}

KERNEL(quantise, cuda_quantise_args, CUDA_NORM_THREADS)
{
    __shared__ float part[NORM_WARPS];
    const int64_t share = 4 * CUDA_NORM_THREADS;
    if (!a.in.wide)
        quantise<1, 0>(a, part);
    else if (a.in.cols <= 3 * share)
        quantise<4, 3>(a, part);
    else
        quantise<4, 0>(a, part); /* the second reading comes from cache */
}

/* ---- heads ---- */

/* Dims that are multiples of 8, to 256: `lanes` lanes a head. */
INLINE void heads_in_registers(const cuda_head_args &a, const cuda_view &x, const line &w)
{
    const int dim = (int)a.dim,
              lanes = dim <= 32    ? 4
                      : dim <= 64  ? 8
                      : dim <= 128 ? 16
                                   : 32,
              teams = (int)blockDim.x / lanes;
    const int c = (int)threadIdx.x % lanes * 8;
    const float share = 1.0f / (float)dim;
    const int64_t units = x.rows * a.heads, stride = gridDim.x * (int64_t)teams;
    for (int64_t first = blockIdx.x * (int64_t)teams; first < units;
         first += stride) { /* the same for all threads: they shuffle */
        const int64_t unit = first + threadIdx.x / lanes, row = quotient(unit, a.heads), head = unit - row * a.heads;
        const bool mine = unit < units && c < dim;
        const int64_t at = place(x, blockIdx.y, row) + head * dim + c;
        pack<8> v = {};
        if (mine)
            v = load<8>(x.data, x.bf16, at);
        if (w.p) {
            float squares = 0;
            UNROLL for (int j = 0; j < 8; j++) squares += v.v[j] * v.v[j];
            UNROLL for (int o = WARP / 2; o > 0; o /= 2) if (o < lanes) squares +=
                __shfl_xor_sync(ALL_LANES, squares, o);
            const float inverse = rsqrtf(squares * share + a.eps);
            if (mine) {
                pack<8> times = load<8>(w, c);
                UNROLL for (int j = 0; j < 8; j++) v.v[j] *= inverse * times.v[j];
            }
        }
        if (!mine)
            continue;
        if (a.rope.data) {
            pack<8> turn = load<8>(a.rope, 0, row, c);
            UNROLL for (int j = 0; j < 8; j += 2)
            {
                float p = v.v[j], q = v.v[j + 1];
                v.v[j] = p * turn.v[j] - q * turn.v[j + 1];
                v.v[j + 1] = q * turn.v[j] + p * turn.v[j + 1];
            }
        }
        store<8>(x.data, x.bf16, at, v);
    }
}

/* Any dim: a warp a head, read again after the sum, which all lanes' first reads precede. */
INLINE void heads_by_pairs(const cuda_head_args &a, const cuda_view &x, const line &w)
{
    const int dim = (int)a.dim, lane = (int)threadIdx.x % WARP, warps = (int)blockDim.x / WARP;
    const int64_t units = x.rows * a.heads;
    for (int64_t unit = blockIdx.x * (int64_t)warps + threadIdx.x / WARP; unit < units;
         unit += gridDim.x * (int64_t)warps) { /* the same for a warp's lanes */
        const int64_t row = quotient(unit, a.heads), at = place(x, blockIdx.y, row) + (unit - row * a.heads) * dim;
        float inverse = 1;
        if (w.p) {
            float squares = 0;
            for (int c = lane; c < dim; c += WARP) {
                float v = load<1>(x.data, x.bf16, at + c).v[0];
                squares += v * v;
            }
            inverse = rsqrtf(warp_sum(squares) / (float)dim + a.eps);
        }
        for (int c = 2 * lane; c < dim; c += 2 * WARP) {
            const bool pair = c + 1 < dim;
            float p = load<1>(x.data, x.bf16, at + c).v[0], q = pair ? load<1>(x.data, x.bf16, at + c + 1).v[0] : 0;
            if (w.p) {
                p *= inverse * w.p[c];
                q *= pair ? inverse * w.p[c + 1] : 0;
            }
            if (a.rope.data) {
                float cosine = load<1>(a.rope, 0, row, c).v[0], sine = load<1>(a.rope, 0, row, c + 1).v[0],
                      turned = p * cosine - q * sine;
                q = q * cosine + p * sine;
                p = turned;
            }
            store<1>(x.data, x.bf16, at + c, {{p}});
            if (pair)
                store<1>(x.data, x.bf16, at + c + 1, {{q}});
        }
    }
}

KERNEL(head_norm_rope, cuda_head_args, WARP *CUDA_HEAD_WARPS)
{
    const cuda_view &x = a.x[blockIdx.z];
    const line w = line_of(a.w[blockIdx.z]);
    if (x.wide && wide(a.rope) && a.dim % 8 == 0 && a.dim <= 256)
        heads_in_registers(a, x, w);
    else
        heads_by_pairs(a, x, w);
}
