/* What the kernels have in common: bf16, loads and stores of 1, 4 or 8 elements of a view, sums over a warp or a block,
 * walks without divisions, activations. Compiled by nvcc for the GPU, and by g++ with
 * tests/ops/cuda_emulator/emulate.h, which stands for the language's device part, for the tests. */
#ifndef FLUX1_OPS_CUDA_KERNELS_DEVICE_H
#define FLUX1_OPS_CUDA_KERNELS_DEVICE_H

#include "ops/cuda/kernels.h"

#ifdef __CUDACC__
#define INLINE static __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define UNROLL_TWICE _Pragma("unroll 2")
#else
#define UNROLL_TWICE _Pragma("unroll 1") /* twice, and ptxas 13.0 spills for sm_80 */
#endif
#else
#include "ops/cuda_emulator/emulate.h"
#define INLINE static inline
#define UNROLL
#define UNROLL_TWICE
#endif
#define ALIGNED(p, T) ((uintptr_t)(p) % sizeof(T) == 0)

/* The memory at p as a vector of 8 or 16 bytes, at a multiple of that; the emulator looks. */
template <class T> INLINE T &as(void *p)
{
#ifndef __CUDACC__
    if (!ALIGNED(p, T))
        emulate_fail("a vector of %d bytes lies at %p", (int)sizeof(T), p);
#endif
    return *(T *)p;
}
template <class T> INLINE const T &as(const void *p) { return as<T>((void *)p); }

/* A kernel of kernels.h, launched with at most `threads` threads a block. RESIDENT: registers are for `blocks` blocks a
 * multiprocessor, no fewer. */
#define KERNEL(name, args, threads) KERNEL_BOUNDED(name, args, threads, __launch_bounds__(threads))
#define RESIDENT_KERNEL(name, args, threads, blocks) \
    KERNEL_BOUNDED(name, args, threads, __launch_bounds__(threads, blocks))
#define KERNEL_BOUNDED(name, args, threads, bounds)                                            \
    enum { threads_of_##name = (threads) };                                                    \
    static_assert((threads) <= 256, "tests/ptxas.sh counts the registers of so many threads"); \
    KERNEL_LINKAGE void bounds flux1_##name(const __grid_constant__ args a)
#ifdef __CUDACC__
#define KERNEL_LINKAGE extern "C" __global__ /* found by name in the module */
#else
#define KERNEL_LINKAGE static /* the library has a function flux1_decode too */
#endif

enum { WARP = 32 };
#define ALL_LANES 0xffffffffu

/* ---- bf16 ---- */

INLINE float bf16_low(uint32_t pair) { return __uint_as_float(pair << 16); }
INLINE float bf16_high(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

/* To nearest, ties to even; NaN stays NaN. */
INLINE uint32_t bf16_pair(float low, float high)
{
#ifdef __CUDACC__
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    const float value[2] = {low, high};
    uint32_t word[2];
    for (int i = 0; i < 2; i++) {
        uint32_t u = __float_as_uint(value[i]);
        word[i] = (u & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    }
    return word[0] | word[1] << 16;
#endif
}

/* ---- e4m3: base/half.h in the GPU's words ---- */

INLINE float e4m3_value(uint32_t q)
{
    const uint32_t size = q & 0x7fu;
    const float f = size == 0x7fu ? NAN
                    : size < 8    ? (float)size * 0x1p-9f
                                  : __uint_as_float((size << 20) + (120u << 23));
    return q & 0x80u ? -f : f;
}

INLINE uint32_t e4m3_code(float f)
{
    const uint32_t u = __float_as_uint(f), sign = (u >> 24) & 0x80u, size = u & 0x7fffffffu;
    if (size >= 0x43e00000u)
        return sign | (size > 0x7f800000u ? 0x7fu : 0x7eu);
    if (size < 0x3c800000u)
        return sign | (__float_as_uint(__uint_as_float(size) + 0x1p14f) - __float_as_uint(0x1p14f));
    return sign | (((size + 0x7ffffu + ((size >> 20) & 1u)) >> 20) - (120u << 3));
}

INLINE uint32_t e4m3_pair(float low, float high)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
    uint16_t pair;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
    return pair;
#else
    return e4m3_code(low) | e4m3_code(high) << 8;
#endif
}

/* ---- elements ---- */

template <int N> struct pack {
    float v[N];
};

/* Elements i … i + N − 1; for N > 1 they begin at a multiple of 16 bytes (N = 8, or 4 of float32) or of 8 (4 of bf16).
 */
template <int N> INLINE pack<N> load(const void *data, int bf16, int64_t i)
{
    pack<N> x;
    if constexpr (N == 1) {
        x.v[0] = bf16 ? bf16_low(((const uint16_t *)data)[i]) : ((const float *)data)[i];
    } else if (bf16) {
        uint32_t pairs[N / 2];
        if constexpr (N == 8) {
            uint4 q = as<uint4>((const uint16_t *)data + i);
            pairs[0] = q.x, pairs[1] = q.y, pairs[2] = q.z, pairs[3] = q.w;
        } else {
            uint2 q = as<uint2>((const uint16_t *)data + i);
            pairs[0] = q.x, pairs[1] = q.y;
        }
        UNROLL for (int j = 0; j < N / 2; j++)
        {
            x.v[2 * j] = bf16_low(pairs[j]);
            x.v[2 * j + 1] = bf16_high(pairs[j]);
        }
    } else {
        UNROLL for (int j = 0; j < N; j += 4)
        {
            float4 four = as<float4>((const float *)data + i + j);
            x.v[j] = four.x, x.v[j + 1] = four.y, x.v[j + 2] = four.z, x.v[j + 3] = four.w;
        }
    }
    return x;
}

template <int N> INLINE void store(void *data, int bf16, int64_t i, const pack<N> &x)
{
    if constexpr (N == 1) {
        if (bf16)
            ((uint16_t *)data)[i] = (uint16_t)bf16_pair(x.v[0], 0);
        else
            ((float *)data)[i] = x.v[0];
    } else if (bf16) {
        uint32_t pairs[N / 2];
        UNROLL for (int j = 0; j < N / 2; j++) pairs[j] = bf16_pair(x.v[2 * j], x.v[2 * j + 1]);
        if constexpr (N == 8)
            as<uint4>((uint16_t *)data + i) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
        else
            as<uint2>((uint16_t *)data + i) = make_uint2(pairs[0], pairs[1]);
    } else {
        UNROLL for (int j = 0; j < N; j += 4) as<float4>((float *)data + i + j) =
            make_float4(x.v[j], x.v[j + 1], x.v[j + 2], x.v[j + 3]);
    }
}

INLINE int64_t place(const cuda_view &v, int64_t b, int64_t r) { return b * v.batch_stride + r * v.ld; }
template <int N> INLINE pack<N> load(const cuda_view &v, int64_t b, int64_t r, int c)
{
    return load<N>(v.data, v.bf16, place(v, b, r) + c);
}
template <int N> INLINE void store(const cuda_view &v, int64_t b, int64_t r, int c, const pack<N> &x)
{
    store<N>(v.data, v.bf16, place(v, b, r) + c, x);
}

/* Absent, or good for eight elements at a time. */
INLINE bool wide(const cuda_view &v) { return !v.data || v.wide; }

/* A float32 vector over columns: a norm's weight, a bias, a table's row. NULL: left out. */
struct line {
    const float *p;
    bool aligned;
};
INLINE line line_of(const float *p) { return {p, (uintptr_t)p % 16 == 0}; }
template <int N> INLINE pack<N> load(const line &l, int c)
{
    if (N > 1 && l.aligned)
        return load<N>(l.p, 0, c);
    pack<N> x;
    UNROLL for (int j = 0; j < N; j++) x.v[j] = l.p[c + j];
    return x;
}

/* A table's rows at the step counter, one a batch entry. NULL: left out. */
struct table_rows {
    const float *p;
    int64_t ld;
    bool aligned;

    __device__ line of(int64_t b) const { return {p ? p + b * ld : nullptr, aligned}; }
};
INLINE table_rows rows_of(const cuda_table_view &t)
{
    const float *p = t.data ? t.data + *t.step * t.batch * t.ld : nullptr;
    return {p, t.ld, (uintptr_t)p % 16 == 0 && t.ld % 4 == 0};
}

/* ---- sums ---- */

INLINE float warp_sum(float x)
{
    UNROLL for (int o = WARP / 2; o > 0; o /= 2) x += __shfl_xor_sync(ALL_LANES, x, o);
    return x;
}

/* The block's sum, in every thread. part: shared, one float a warp, not used by an earlier call without a barrier in
 * between. */
template <int THREADS> INLINE float block_sum(float x, float *part)
{
    x = warp_sum(x);
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = x;
    __syncthreads();
    x = 0;
    UNROLL for (int w = 0; w < THREADS / WARP; w++) x += part[w];
    return x;
}

/* The same for the largest; NaN are passed over. */
template <int THREADS> INLINE float block_largest(float x, float *part)
{
    UNROLL for (int o = WARP / 2; o > 0; o /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, o));
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = x;
    __syncthreads();
    x = part[0];
    UNROLL for (int w = 1; w < THREADS / WARP; w++) x = fmaxf(x, part[w]);
    return x;
}

/* ---- walks ---- */

/* Nearly all sizes are below 2^31, where a division takes a quarter of the time. */
INLINE int64_t quotient(int64_t a, int64_t b)
{
    return ((uint64_t)a | (uint64_t)b) >> 31 ? a / b : (int64_t)((uint32_t)a / (uint32_t)b);
}

/* A number of N digits, most significant first, each below its radix (the first: any). It grows by a fixed step with at
 * most one carry a digit, so that grid-stride loops divide only before they begin. No radix may be 0. */
template <int N> struct counter {
    int at[N], radix[N], step[N];

    static __device__ void split(int64_t n, const int *radix, int *digit)
    {
        UNROLL for (int i = N - 1; i > 0; i--)
        {
            int64_t q = quotient(n, radix[i]);
            digit[i] = (int)(n - q * radix[i]);
            n = q;
        }
        digit[0] = (int)n;
    }
    __device__ void begin(int64_t start, int64_t stride)
    {
        split(start, radix, at);
        split(stride, radix, step);
    }
    __device__ void advance()
    {
        int carry = 0;
        UNROLL for (int i = N - 1; i > 0; i--)
        {
            int n = at[i] + step[i] + carry; /* below twice the radix: no overflow for sizes below 2^30 */
            carry = n >= radix[i];
            at[i] = carry ? n - radix[i] : n;
        }
        at[0] += step[0] + carry;
    }
};

INLINE int64_t thread_of_grid() { return blockIdx.x * (int64_t)blockDim.x + threadIdx.x; }
INLINE int64_t threads_of_grid() { return gridDim.x * (int64_t)blockDim.x; }

/* f(batch, row, column) for every N columns of every row, the grid's x-axis sharing them out. */
template <int N, class F> INLINE void each_element(int64_t batch, int64_t rows, int64_t cols, F f)
{
    int64_t groups = cols / N, total = batch * rows * groups, stride = threads_of_grid();
    if (total == 0)
        return;
    counter<3> c;
    c.radix[0] = 0, c.radix[1] = (int)rows, c.radix[2] = (int)groups;
    c.begin(thread_of_grid(), stride);
    for (int64_t i = thread_of_grid(); i < total; i += stride, c.advance())
        f(c.at[0], c.at[1], c.at[2] * N);
}

INLINE bool not_finite(float x) { return (__float_as_uint(x) & 0x7f800000u) == 0x7f800000u; }

/* ---- activations ---- */

/* x/(1 + e^−y): y = x is SiLU, 1.702 x quick GELU, and 2u GELU's tanh form, as (1 + tanh u)/2 = 1/(1 + e^−2u). Where
 * e^−y overflows the quotient is 0. */
INLINE float x_sigmoid(float x, float y) { return __fdividef(x, 1 + expf(-y)); }

INLINE float silu(float x) { return x_sigmoid(x, x); }

enum { F_NONE, F_GELU_TANH, F_QUICK_GELU, F_GELU, F_SILU }; /* ops.h's `activation` */

INLINE float activation_of(int f, float x)
{
    switch (f) {
    case F_GELU_TANH: return x_sigmoid(x, 1.5957691216057308f * (x + 0.044715f * x * x * x)); /* 2·√(2/π) */
    case F_QUICK_GELU: return x_sigmoid(x, 1.702f * x);
    case F_GELU: return 0.5f * x * (1 + erff(x * 0.70710678118654752f));
    case F_SILU: return silu(x);
    default: return x;
    }
}

#endif
