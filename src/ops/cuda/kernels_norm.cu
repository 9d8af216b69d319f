/* Norms over a row, and over a head with the rotation behind it. Bound by memory: each element is read once and written
 * once.
 *
 * layer_norm, rms_norm: a row at a time by a block, four columns at a time, up to 4096 columns in registers (3072
 * columns: 12 a thread), so mean and variance are two true passes without a second read. Longer rows and rows at odd
 * addresses are read again for each pass, from cache. One barrier a sum. epilogue_norm: layer_norm of what the epilogue
 * has just put into the registers. softmax, quantise, largest: the same walk; four columns become four
 * bytes. head_norm_rope: eight columns a lane, as many lanes a head as that takes (128 columns: 16 lanes, two heads a
 * warp), q and k in one launch. */
#include "ops/cuda/kernels_device.h"

enum { NORM_WARPS = CUDA_NORM_THREADS / WARP };

/* A row's columns as one thread sees them: N at a time, KEEP times N of them in registers, or (KEEP 0) read again each
 * time. */
template <int N, int KEEP> struct norm_row {
    pack<N> x[KEEP ? KEEP : 1];
    const cuda_view *in;
    int64_t at;
    int cols;

    __device__ void begin(const cuda_view &view, int64_t r)
    {
        in = &view;
        at = place(view, blockIdx.y, r);
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

/* ---- rows in e4m3: its largest magnitude becomes 448 ---- */

INLINE float e4m3_scale(float most) { return fmaxf(most, 1e-12f) / 448.0f; }

template <int N> INLINE void store_e4m3(uint8_t *to, const pack<N> &x, float inverse)
{
    if constexpr (N == 4)
        as<uint32_t>(to) = e4m3_pair(x.v[0] * inverse, x.v[1] * inverse) | e4m3_pair(x.v[2] * inverse, x.v[3] * inverse)
                                                                               << 16;
    else
        *to = (uint8_t)e4m3_pair(x.v[0] * inverse, 0);
}

template <int N> INLINE float largest_in(const pack<N> &x, float most)
{
    UNROLL for (int j = 0; j < N; j++) most = fmaxf(most, fabsf(x.v[j]));
    return most;
}

/* As a bf16 activation would have them. */
template <int N> INLINE pack<N> rounded(const pack<N> &x)
{
    pack<N> y;
    if constexpr (N == 1)
        y.v[0] = bf16_low(bf16_pair(x.v[0], 0));
    else
        UNROLL for (int j = 0; j < N; j += 2)
        {
            const uint32_t pair = bf16_pair(x.v[j], x.v[j + 1]);
            y.v[j] = bf16_low(pair), y.v[j + 1] = bf16_high(pair);
        }
    return y;
}

template <int N, int KEEP> INLINE float largest_of(const norm_row<N, KEEP> &row, float *part)
{
    float most = 0;
    row.each([&](int, const pack<N> &x) { most = largest_in(x, most); });
    return block_largest<CUDA_NORM_THREADS>(most, part);
}

/* ---- norms ---- */

template <bool CENTRED, int N, int KEEP>
INLINE void normalise(const cuda_norm_args &a, const norm_row<N, KEEP> &row, int64_t r, float (*part)[NORM_WARPS])
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
    const int64_t to = place(a.out, blockIdx.y, r);
    auto normed = [&](int c, const pack<N> &x) {
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
        return y;
    };
    if (CENTRED && a.scales) {
        float most = 0;
        row.each([&](int c, const pack<N> &x) { most = largest_in(rounded(normed(c, x)), most); });
        most = e4m3_scale(block_largest<CUDA_NORM_THREADS>(most, part[2]));
        if (threadIdx.x == 0)
            a.scales[blockIdx.y * a.scales_stride + r] = most;
        row.each([&](int c, const pack<N> &x) {
            store_e4m3((uint8_t *)a.out.data + to + c, rounded(normed(c, x)), 1 / most);
        });
    } else
        row.each([&](int c, const pack<N> &x) { store<N>(a.out.data, a.out.bf16, to + c, normed(c, x)); });
}

template <bool CENTRED, int N, int KEEP> INLINE void norm(const cuda_norm_args &a, int64_t r, float (*part)[NORM_WARPS])
{
    norm_row<N, KEEP> row = {};
    row.begin(a.in, r);
    row.read();
    normalise<CENTRED>(a, row, r, part);
}

template <bool CENTRED> INLINE void norm_any(const cuda_norm_args &a, int64_t r, float (*part)[NORM_WARPS])
{
    const int64_t share = 4 * CUDA_NORM_THREADS;
    if (!a.in.wide || !a.out.wide)
        norm<CENTRED, 1, 0>(a, r, part);
    else if (a.in.cols <= share)
        norm<CENTRED, 4, 1>(a, r, part);
    else if (a.in.cols <= 3 * share)
        norm<CENTRED, 4, 3>(a, r, part);
    else if (a.in.cols <= 4 * share)
        norm<CENTRED, 4, 4>(a, r, part);
    else
        norm<CENTRED, 4, 0>(a, r, part);
}

KERNEL(rms_norm, cuda_norm_args, CUDA_NORM_THREADS)
{
    __shared__ float part[2][NORM_WARPS];
    norm_any<false>(a, blockIdx.x, part);
}

/* ---- softmax ---- */

template <int N, int KEEP> INLINE void softmax(const cuda_softmax_args &a, float (*part)[NORM_WARPS])
{
    norm_row<N, KEEP> row = {};
    row.begin(a.in, blockIdx.x);
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

/* x = product, then bias, gate, residual: the epilogue of row r's N columns from c on, which is stored, too. */
template <int N> INLINE pack<N> end_of(const cuda_element_args &a, const line &gate, int64_t r, int c, bool &bad)
{
    pack<N> x = load<N>(a.in, blockIdx.y, r, c);
    if (a.bias) {
        const pack<N> plus = load<N>(line_of(a.bias), c);
        UNROLL for (int j = 0; j < N; j++) x.v[j] += plus.v[j];
    }
    if (gate.p) {
        const pack<N> times = load<N>(gate, c);
        UNROLL for (int j = 0; j < N; j++) x.v[j] *= times.v[j];
    }
    if (a.residual.data) {
        const pack<N> plus = load<N>(a.residual, blockIdx.y, r, c);
        UNROLL for (int j = 0; j < N; j++) x.v[j] += plus.v[j];
    }
    UNROLL for (int j = 0; j < N; j++) bad |= not_finite(x.v[j]);
    store<N>(a.out, blockIdx.y, r, c, x);
    return x;
}

template <int N, int KEEP>
INLINE bool epilogue_norm(const cuda_exit_args &a, const line &gate, int64_t r, float (*part)[NORM_WARPS])
{
    norm_row<N, KEEP> row = {};
    bool bad = false;
    row.begin(a.norm.in, r);
    if constexpr (KEEP > 0) {
        UNROLL for (int i = 0; i < KEEP; i++) if (row.column(i) < row.cols) row.x[i] =
            end_of<N>(a.epilogue, gate, r, row.column(i), bad);
    } else {
        for (int c = row.column(0); c < row.cols; c += CUDA_NORM_THREADS * N) /* each reads again what it has stored */
            end_of<N>(a.epilogue, gate, r, c, bad);
    }
    normalise<true>(a.norm, row, r, part);
    return bad;
}

INLINE bool epilogue_norm_any(const cuda_exit_args &a, const line &gate, int64_t r, float (*part)[NORM_WARPS])
{
    if (!a.epilogue.in.wide || !wide(a.epilogue.residual) || !a.norm.in.wide || !a.norm.out.wide)
        return epilogue_norm<1, 0>(a, gate, r, part);
    if (a.norm.in.cols <= 3 * 4 * CUDA_NORM_THREADS)
        return epilogue_norm<4, 3>(a, gate, r, part);
    return epilogue_norm<4, 0>(a, gate, r, part);
}

/* ---- both as the transformer has them: x float32, product and out bf16, up to 3072 columns. Types are known here, so
 * that no load waits for a branch; shift, scale and gate are read once a block, and the next row is on its way while
 * this one is summed. ---- */

enum { SWIFT_PACKS = 3 };
INLINE int swift_column(int i) { return ((int)threadIdx.x + i * CUDA_NORM_THREADS) * 4; }
INLINE bool swift(const cuda_view &x) { return x.wide && !x.bf16 && x.cols <= SWIFT_PACKS * 4 * CUDA_NORM_THREADS; }

/* A line's columns as one thread uses them, `base` added. */
struct swift_line {
    pack<4> at[SWIFT_PACKS];

    __device__ swift_line(const line &l, float base, int cols)
    {
        UNROLL for (int i = 0; i < SWIFT_PACKS; i++)
        {
            pack<4> x = {};
            if (l.p && swift_column(i) < cols)
                x = load<4>(l, swift_column(i));
            UNROLL for (int j = 0; j < 4; j++) at[i].v[j] = base + x.v[j];
        }
    }
};

/* A row on its way. */
template <bool EXIT> struct swift_row {
    pack<4> x[SWIFT_PACKS];
    uint2 product[EXIT ? SWIFT_PACKS : 1]; /* four bf16 each */

    __device__ void read(const float *from, const uint16_t *products, int cols)
    {
        UNROLL for (int i = 0; i < SWIFT_PACKS; i++) if (swift_column(i) < cols) x[i] =
            load<4>(from, 0, swift_column(i));
        if constexpr (EXIT)
            UNROLL for (int i = 0; i < SWIFT_PACKS; i++) if (swift_column(i) < cols) product[i] =
                as<uint2>(products + swift_column(i));
    }
    /* x += gate·product, stored. A NaN or infinity leaves a NaN in `bad`. */
    __device__ void end(const swift_line &gate, float *to, int cols, float &bad)
    {
        UNROLL for (int i = 0; i < SWIFT_PACKS; i++) if (swift_column(i) < cols)
        {
            const float y[4] = {bf16_low(product[i].x), bf16_high(product[i].x), bf16_low(product[i].y),
                                bf16_high(product[i].y)};
            UNROLL for (int j = 0; j < 4; j++)
            {
                x[i].v[j] += y[j] * gate.at[i].v[j];
                bad += x[i].v[j] * 0.0f;
            }
            store<4>(to, 0, swift_column(i), x[i]);
        }
    }
    /* x becomes its norm. */
    __device__ void normalise(const swift_line &times, const swift_line &plus, int cols, float eps,
                              float (*part)[NORM_WARPS])
    {
        const float share = 1.0f / (float)cols;
        float sum = 0, squares = 0;
        UNROLL for (int i = 0; i < SWIFT_PACKS; i++) if (swift_column(i) < cols) UNROLL for (int j = 0; j < 4; j++)
            sum += x[i].v[j];
        const float mean = block_sum<CUDA_NORM_THREADS>(sum, part[0]) * share;
        UNROLL for (int i = 0; i < SWIFT_PACKS; i++) if (swift_column(i) < cols) UNROLL for (int j = 0; j < 4; j++)
        {
            x[i].v[j] -= mean;
            squares += x[i].v[j] * x[i].v[j];
        }
        const float inverse = 1.0f / sqrtf(block_sum<CUDA_NORM_THREADS>(squares, part[1]) * share + eps);
        UNROLL for (int i = 0; i < SWIFT_PACKS; i++) if (swift_column(i) < cols) UNROLL for (int j = 0; j < 4; j++) x[i]
            .v[j] = x[i].v[j] * inverse * times.at[i].v[j] + plus.at[i].v[j];
    }
    __device__ void store_bf16(uint16_t *to, int cols) const
    {
        UNROLL for (int i = 0; i < SWIFT_PACKS; i++) if (swift_column(i) < cols) store<4>(to, 1, swift_column(i), x[i]);
    }
    __device__ void store_bytes(uint8_t *to, float *scale, int cols, float *part)
    {
        float most = 0;
        UNROLL for (int i = 0; i < SWIFT_PACKS; i++) if (swift_column(i) < cols)
        {
            x[i] = rounded(x[i]);
            most = largest_in(x[i], most);
        }
        most = e4m3_scale(block_largest<CUDA_NORM_THREADS>(most, part));
        if (threadIdx.x == 0)
            *scale = most;
        UNROLL for (int i = 0; i < SWIFT_PACKS; i++) if (swift_column(i) < cols)
            store_e4m3(to + swift_column(i), x[i], 1 / most);
    }
};

/* Rows blockIdx.x, + gridDim.x, … of x, in place where something comes before the norm (e, EXIT). BYTES: to e4m3. part:
 * a row's second barrier lies between the reading of its first sum and the writing of the next row's. */
template <bool EXIT, bool BYTES>
INLINE void swift_rows(const cuda_norm_args &a, const cuda_element_args *e, float (*part)[NORM_WARPS])
{
    const int cols = (int)a.in.cols, rows = (int)a.in.rows, step = (int)gridDim.x;
    const swift_line times(rows_of(a.scale).of(blockIdx.y), 1, cols), plus(rows_of(a.shift).of(blockIdx.y), 0, cols);
    const line gates = EXIT ? rows_of(e->gate).of(blockIdx.y) : line{};
    const swift_line gate(gates, gates.p ? 0.0f : 1.0f, cols);
    const int64_t x_step = step * a.in.ld, product_step = EXIT ? step * e->in.ld : 0, out_step = step * a.out.ld;
    float *x = (float *)a.in.data + place(a.in, blockIdx.y, blockIdx.x);
    const uint16_t *product = EXIT ? (const uint16_t *)e->in.data + place(e->in, blockIdx.y, blockIdx.x) : nullptr;
    int64_t out = place(a.out, blockIdx.y, blockIdx.x), scale = blockIdx.y * a.scales_stride + blockIdx.x;
    swift_row<EXIT> next = {};
    float bad = 0;
    if ((int)blockIdx.x < rows)
        next.read(x, product, cols);
    for (int r = (int)blockIdx.x; r < rows; r += step) {
        swift_row<EXIT> row = next;
        if (r + step < rows)
            next.read(x + x_step, product + product_step, cols);
        if constexpr (EXIT)
            row.end(gate, x, cols, bad);
        row.normalise(times, plus, cols, a.eps, part);
        if (BYTES)
            row.store_bytes((uint8_t *)a.out.data + out, a.scales + scale, cols, part[2]);
        else
            row.store_bf16((uint16_t *)a.out.data + out, cols);
        x += x_step, product += product_step, out += out_step, scale += step;
    }
    if (EXIT && bad != 0 && e->flag) /* whoever writes, writes the same */
        *e->flag = 1;
}

RESIDENT_KERNEL(layer_norm, cuda_norm_args, CUDA_NORM_THREADS, CUDA_LAYER_NORM_BLOCKS)
{
    __shared__ float part[3][NORM_WARPS];
    if (swift(a.in) && a.out.wide && a.out.bf16 == 1 && !a.w)
        swift_rows<false, false>(a, nullptr, part);
    else
        for (int64_t r = blockIdx.x; r < a.in.rows; r += gridDim.x)
            norm_any<true>(a, r, part);
}

RESIDENT_KERNEL(epilogue_norm, cuda_exit_args, CUDA_NORM_THREADS, CUDA_EPILOGUE_NORM_BLOCKS)
{
    __shared__ float part[3][NORM_WARPS];
    const cuda_element_args &e = a.epilogue;
    if (swift(e.out) && e.residual.data == e.out.data && e.in.wide && e.in.bf16 && !e.bias && a.norm.out.wide &&
        a.norm.out.bf16 && !a.norm.w) {
        if (a.norm.scales)
            swift_rows<true, true>(a.norm, &e, part);
        else
            swift_rows<true, false>(a.norm, &e, part);
        return;
    }
    const line gate = rows_of(e.gate).of(blockIdx.y);
    bool bad = false;
    for (int64_t r = blockIdx.x; r < a.norm.in.rows; r += gridDim.x)
        bad |= epilogue_norm_any(a, gate, r, part);
    if (bad && e.flag)
        *e.flag = 1;
}

/* ---- rows in e4m3 ---- */

template <int N, int KEEP> INLINE void raise_largest(const cuda_quantise_args &a, float *part)
{
    norm_row<N, KEEP> row = {};
    row.begin(a.in, blockIdx.x);
    row.read();
    const float most = largest_of(row, part);
    if (threadIdx.x == 0)
        atomicMax((unsigned *)a.largest,
                  __float_as_uint(most)); /* floats that are not negative are ordered as their bits */
}

template <int N, int KEEP> INLINE void quantise(const cuda_quantise_args &a, float *part)
{
    norm_row<N, KEEP> row = {};
    row.begin(a.in, blockIdx.x);
    row.read();
    const float scale = e4m3_scale(a.largest ? *a.largest : largest_of(row, part)), inverse = 1 / scale;
    const int64_t r = blockIdx.y * a.in.rows + blockIdx.x;
    if (threadIdx.x == 0 && (!a.largest || r == 0))
        a.scales[a.largest ? 0 : r] = scale;
    uint8_t *to = a.out + r * a.in.cols;
    row.each([&](int c, const pack<N> &x) { store_e4m3(to + c, x, inverse); });
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
    pack<8> times = {};
    if (w.p && c < dim)
        times = load<8>(w, c);
    for (int64_t first = blockIdx.x * (int64_t)teams; first < units;
         first += stride) { /* the same for all threads: they shuffle */
        const int64_t unit = first + threadIdx.x / lanes, row = quotient(unit, a.heads), head = unit - row * a.heads;
        const bool mine = unit < units && c < dim;
        const int64_t at = place(x, blockIdx.y, row) + head * dim + c;
        pack<8> v = {}, turn = {};
        if (mine && a.rope.data) /* both are on their way before the sum waits for one */
            turn = load<8>((const float *)a.rope.data, 0, place(a.rope, 0, row) + c);
        if (mine)
            v = load<8>(x.data, x.bf16, at);
        if (w.p) {
            float squares = 0;
            UNROLL for (int j = 0; j < 8; j++) squares += v.v[j] * v.v[j];
            UNROLL for (int o = WARP / 2; o > 0; o /= 2) if (o < lanes) squares +=
                __shfl_xor_sync(ALL_LANES, squares, o);
            const float inverse = rsqrtf(squares * share + a.eps);
            UNROLL for (int j = 0; j < 8; j++) v.v[j] *= inverse * times.v[j];
        }
        if (!mine)
            continue;
        if (a.rope.data) {
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
