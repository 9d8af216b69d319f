/* Element-wise operations, copies, lookups. Bound by memory: eight elements (16 bytes of bf16) a thread and turn where
 * all views allow it, one otherwise; a grid of any size shares them out by its x-axis. */
#include "ops/cuda/kernels_device.h"

/* Runs body<8> or body<1>. */
#define BY_WIDTH(all_wide, body, a) ((all_wide) ? body<8>(a) : body<1>(a))

template <int N> INLINE void activate(const cuda_element_args &a)
{
    each_element<N>(a.batch, a.out.rows, a.out.cols, [&](int b, int r, int c) {
        pack<N> x = load<N>(a.in, b, r, c);
        UNROLL for (int j = 0; j < N; j++) x.v[j] = activation_of(a.f, x.v[j]);
        if (a.mul.data) {
            pack<N> times = load<N>(a.mul, b, r, c);
            UNROLL for (int j = 0; j < N; j++) x.v[j] *= times.v[j];
        }
        store<N>(a.out, b, r, c, x);
    });
}
KERNEL(activate, cuda_element_args, CUDA_ROW_THREADS)
{
    BY_WIDTH(wide(a.in) && wide(a.out) && wide(a.mul), activate, a);
}

template <int N> INLINE void add(const cuda_element_args &a)
{
    const table_rows gate = rows_of(a.gate);
    const bool one = a.y.rows == 1;
    each_element<N>(a.batch, a.out.rows, a.out.cols, [&](int b, int r, int c) {
        pack<N> x = load<N>(a.in, b, r, c), y = load<N>(a.y, b, one ? 0 : r, c);
        if (gate.p) {
            pack<N> times = load<N>(gate.of(b), c);
            UNROLL for (int j = 0; j < N; j++) x.v[j] += a.s * times.v[j] * y.v[j];
        } else {
            UNROLL for (int j = 0; j < N; j++) x.v[j] += a.s * y.v[j];
        }
        store<N>(a.out, b, r, c, x);
    });
}
KERNEL(add, cuda_element_args, CUDA_ROW_THREADS) { BY_WIDTH(wide(a.in) && wide(a.out) && wide(a.y), add, a); }

template <int N> INLINE void euler(const cuda_element_args &a)
{
    const table_rows step = rows_of(a.gate);
    each_element<N>(a.batch, a.out.rows, a.out.cols, [&](int b, int r, int c) {
        pack<N> x = load<N>(a.in, b, r, c), v = load<N>(a.y, b, r, c);
        UNROLL for (int j = 0; j < N; j++) x.v[j] += *step.of(b).p * v.v[j];
        store<N>(a.out, b, r, c, x);
    });
}
KERNEL(euler, cuda_element_args, CUDA_ROW_THREADS) { BY_WIDTH(wide(a.in) && wide(a.out) && wide(a.y), euler, a); }

/* Between two types by way of float32; between equal ones bit by bit, token ids in a float-sized view included. */
template <int N> INLINE void copy(const cuda_element_args &a)
{
    each_element<N>(a.batch, a.out.rows, a.out.cols, [&](int b, int r, int c) {
        const int64_t from = place(a.in, b, a.first + r) + c, to = place(a.out, b, r) + c;
        if (a.in.bf16 != a.out.bf16) {
            store<N>(a.out.data, a.out.bf16, to, load<N>(a.in.data, a.in.bf16, from));
        } else if constexpr (N == 1) {
            if (a.in.bf16)
                ((uint16_t *)a.out.data)[to] = ((const uint16_t *)a.in.data)[from];
            else
                ((uint32_t *)a.out.data)[to] = ((const uint32_t *)a.in.data)[from];
        } else if (a.in.bf16) {
            as<uint4>((uint16_t *)a.out.data + to) = as<uint4>((const uint16_t *)a.in.data + from);
        } else {
            const uint4 low = as<uint4>((const uint32_t *)a.in.data + from),
                        high = as<uint4>((const uint32_t *)a.in.data + from + 4);
            as<uint4>((uint32_t *)a.out.data + to) = low;
            as<uint4>((uint32_t *)a.out.data + to + 4) = high;
        }
    });
}
KERNEL(copy, cuda_element_args, CUDA_ROW_THREADS) { BY_WIDTH(wide(a.in) && wide(a.out), copy, a); }

template <int N> INLINE void finite(const cuda_element_args &a)
{
    bool bad = false;
    each_element<N>(a.batch, a.in.rows, a.in.cols, [&](int b, int r, int c) {
        pack<N> x = load<N>(a.in, b, r, c);
        UNROLL for (int j = 0; j < N; j++) bad |= not_finite(x.v[j]);
    });
    if (bad)
        *a.flag = 1; /* whoever writes, writes the same */
}
KERNEL(finite, cuda_element_args, CUDA_ROW_THREADS) { BY_WIDTH(wide(a.in), finite, a); }

template <int N> INLINE void epilogue(const cuda_element_args &a)
{
    const table_rows gate = rows_of(a.gate);
    const line bias = line_of(a.bias);
    each_element<N>(a.batch, a.out.rows, a.out.cols, [&](int b, int r, int c) {
        pack<N> x = load<N>(a.in, b, r, c);
        if (bias.p) {
            pack<N> plus = load<N>(bias, c);
            UNROLL for (int j = 0; j < N; j++) x.v[j] += plus.v[j];
        }
        if (a.addend.data) {
            pack<N> plus = load<N>(a.addend, b, r, c);
            UNROLL for (int j = 0; j < N; j++) x.v[j] += plus.v[j];
        }
        if (a.f)
            UNROLL for (int j = 0; j < N; j++) x.v[j] = activation_of(a.f, x.v[j]);
        if (a.mul.data) {
            pack<N> times = load<N>(a.mul, b, r, c);
            UNROLL for (int j = 0; j < N; j++) x.v[j] *= times.v[j];
        }
        if (gate.p) {
            pack<N> times = load<N>(gate.of(b), c);
            UNROLL for (int j = 0; j < N; j++) x.v[j] *= times.v[j];
        }
        if (a.residual.data) {
            pack<N> plus = load<N>(a.residual, b, r, c);
            UNROLL for (int j = 0; j < N; j++) x.v[j] += plus.v[j];
        }
        store<N>(a.out, b, r, c, x);
    });
}
KERNEL(epilogue, cuda_element_args, CUDA_ROW_THREADS)
{
    BY_WIDTH(wide(a.in) && wide(a.out) && wide(a.addend) && wide(a.mul) && wide(a.residual), epilogue, a);
}

/* One block a token. */
template <int N> INLINE void embed(const cuda_embed_args &a)
{
    const int64_t row = blockIdx.x, cols = a.out.cols;
    const int32_t id = ((const int32_t *)a.ids.data)[place(a.ids, blockIdx.y, row)];
    const bool known = id >= 0 && id < a.entries;
    for (int c = (int)threadIdx.x * N; c < cols; c += (int)blockDim.x * N) {
        pack<N> x;
        if (known) {
            x = load<N>(a.table, a.table_bf16, id * cols + c);
        } else {
            UNROLL for (int j = 0; j < N; j++) x.v[j] = NAN;
        }
        if (a.positions) {
            pack<N> plus = load<N>(a.positions, a.positions_bf16, (a.first + row) * cols + c);
            UNROLL for (int j = 0; j < N; j++) x.v[j] += plus.v[j];
        }
        store<N>(a.out, blockIdx.y, row, c, x);
    }
}
KERNEL(embed, cuda_embed_args, CUDA_ROW_THREADS)
{
    BY_WIDTH(a.out.wide && ((uintptr_t)a.table | (uintptr_t)a.positions) % 16 == 0, embed,
             a); /* dense rows of a multiple of 8: as wide as their first */
}
