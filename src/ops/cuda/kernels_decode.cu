/* Packed weights to the type of the products, in front of each: tensor/decode_gguf.c, decode_gguf_k.c and scale.c in
 * the GPU's words, where the layouts are described. A thread makes eight neighbours, which always have one scale: it
 * reads their codes by halfwords (blocks are a multiple of two bytes long, no more) and writes 16 bytes. Bound by
 * memory. Products and sums are rounded one by one, so that the bits are those of the host's decoders. */
#include "ops/cuda/kernels_device.h"

/* ---- what blocks are made of ---- */

INLINE float f16_value(uint32_t h)
{
    const uint32_t sign = (h & 0x8000u) << 16, exponent = h >> 10 & 31u, mantissa = h & 0x3ffu;
    if (exponent == 31)
        return __uint_as_float(sign | 0x7f800000u | mantissa << 13);
    if (exponent)
        return __uint_as_float(sign | (exponent + 112) << 23 | mantissa << 13);
    return __uint_as_float(__float_as_uint((float)mantissa * 0x1p-24f) | sign);
}

/* As a float that is an f16. Below 2^-14 steps are 2^-24: those of a float at 1/2. */
INLINE float f16_rounded(float x)
{
    const uint32_t u = __float_as_uint(x), sign = u & 0x80000000u, size = u & 0x7fffffffu;
    if (size > 0x7f800000u)
        return x;
    if (size >= 0x477ff000u) /* 65520: half-way to 2^16, which is infinity */
        return __uint_as_float(sign | 0x7f800000u);
    if (size < 0x38800000u)
        return __uint_as_float(__float_as_uint(__fadd_rn(__fadd_rn(__uint_as_float(size), 0.5f), -0.5f)) | sign);
    return __uint_as_float(sign | ((size + 0xfffu + (size >> 13 & 1u)) & ~0x1fffu));
}

INLINE uint32_t halfword(const uint8_t *p) { return as<uint16_t>(p); }
INLINE float f16_at(const uint8_t *p) { return f16_value(halfword(p)); }
INLINE uint32_t word_at(const uint8_t *p) { return halfword(p) | halfword(p + 2) << 16; }

/* Eight bytes at a multiple of two. */
struct bytes8 {
    uint32_t low, high;
    __device__ int at(int j) const { return (int)((j < 4 ? low >> (8 * j) : high >> (8 * j - 32)) & 255u); }
};
INLINE bytes8 bytes_at(const uint8_t *p) { return {word_at(p), word_at(p + 4)}; }

/* The 16 levels of IQ4_NL and IQ4_XS (tensor/decode.h: iq4_levels), a byte each. */
INLINE int iq4_level(int code)
{
    const uint64_t low = 0xf6eaddcfbfad9881u, high = 0x7159453526190d01u;
    return (int)(int8_t)((code < 8 ? low : high) >> (8 * (code & 7)));
}

INLINE float times(float d, int code) { return __fmul_rn(d, (float)code); }
INLINE float times_plus(float d, int code, float m) { return __fadd_rn(times(d, code), m); }

/* Scale and minimum of sub-block i (0 to 7) of Q4_K and Q5_K. */
INLINE void scale_and_minimum(const uint8_t *s, int i, int &scale, int &minimum)
{
    scale = i < 4 ? s[i] & 63 : (s[i + 4] & 15) | s[i - 4] >> 6 << 4;
    minimum = i < 4 ? s[i + 4] & 63 : s[i + 4] >> 4 | s[i] >> 6 << 4;
}

/* ---- a struct a type: eight elements of a block at p, from element i on, a multiple of eight where a block has as
 * many; of smaller blocks p is the first of those that have them ---- */

struct packed_F32 {
    enum { elements = 1, bytes = 4 };
    static __device__ void eight(const uint8_t *p, int, float *v)
    {
        const pack<8> x = load<8>(p, 0, 0);
        UNROLL for (int j = 0; j < 8; j++) v[j] = x.v[j];
    }
};

struct packed_BF16 {
    enum { elements = 1, bytes = 2 };
    static __device__ void eight(const uint8_t *p, int, float *v)
    {
        const pack<8> x = load<8>(p, 1, 0);
        UNROLL for (int j = 0; j < 8; j++) v[j] = x.v[j];
    }
};

struct packed_F16 {
    enum { elements = 1, bytes = 2 };
    static __device__ void eight(const uint8_t *p, int, float *v)
    {
        const uint4 q = as<uint4>(p);
        const uint32_t pair[4] = {q.x, q.y, q.z, q.w};
        UNROLL for (int j = 0; j < 8; j++) v[j] = f16_value(pair[j / 2] >> (16 * (j % 2)) & 0xffffu);
    }
};

INLINE bytes8 aligned_bytes(const uint8_t *p)
{
    const uint2 q = as<uint2>(p);
    return {q.x, q.y};
}

struct packed_F8_E4M3 {
    enum { elements = 1, bytes = 1 };
    static __device__ void eight(const uint8_t *p, int, float *v)
    {
        const bytes8 q = aligned_bytes(p);
        UNROLL for (int j = 0; j < 8; j++) v[j] = e4m3_value((uint32_t)q.at(j));
    }
};

struct packed_F8_E5M2 { /* the upper byte of an f16 */
    enum { elements = 1, bytes = 1 };
    static __device__ void eight(const uint8_t *p, int, float *v)
    {
        const bytes8 q = aligned_bytes(p);
        UNROLL for (int j = 0; j < 8; j++) v[j] = f16_value((uint32_t)q.at(j) << 8);
    }
};

struct packed_I8 {
    enum { elements = 1, bytes = 1 };
    static __device__ void eight(const uint8_t *p, int, float *v)
    {
        const bytes8 q = aligned_bytes(p);
        UNROLL for (int j = 0; j < 8; j++) v[j] = (float)(int8_t)q.at(j);
    }
};

struct packed_BNB4 { /* the upper half of a byte first */
    enum { elements = 2, bytes = 1 };
    static __device__ void eight(const uint8_t *p, int, float *v)
    {
        const uint32_t q = word_at(p);
        UNROLL for (int j = 0; j < 8; j++) v[j] = (float)(int)(q >> (8 * (j / 2) + (j % 2 ? 0 : 4)) & 15u);
    }
};

/* Blocks of 32 elements: halves of 16 bytes, all lower ones first. */
INLINE bytes8 half_bytes(const uint8_t *p, int i) { return bytes_at(p + i % 16); }
INLINE int half_of(const bytes8 &q, int j, int i) { return q.at(j) >> (i / 16 * 4) & 15; }

struct packed_Q4_0 {
    enum { elements = 32, bytes = 18 };
    static __device__ void eight(const uint8_t *p, int i, float *v)
    {
        const float d = f16_at(p);
        const bytes8 q = half_bytes(p + 2, i);
        UNROLL for (int j = 0; j < 8; j++) v[j] = times(d, half_of(q, j, i) - 8);
    }
};

struct packed_Q4_1 {
    enum { elements = 32, bytes = 20 };
    static __device__ void eight(const uint8_t *p, int i, float *v)
    {
        const float d = f16_at(p), m = f16_at(p + 2);
        const bytes8 q = half_bytes(p + 4, i);
        UNROLL for (int j = 0; j < 8; j++) v[j] = times_plus(d, half_of(q, j, i), m);
    }
};

INLINE int fifth_bit(uint32_t high, int i) { return (int)(high >> i & 1u) << 4; }

struct packed_Q5_0 {
    enum { elements = 32, bytes = 22 };
    static __device__ void eight(const uint8_t *p, int i, float *v)
    {
        const float d = f16_at(p);
        const uint32_t high = word_at(p + 2);
        const bytes8 q = half_bytes(p + 6, i);
        UNROLL for (int j = 0; j < 8; j++) v[j] = times(d, (half_of(q, j, i) | fifth_bit(high, i + j)) - 16);
    }
};

struct packed_Q5_1 {
    enum { elements = 32, bytes = 24 };
    static __device__ void eight(const uint8_t *p, int i, float *v)
    {
        const float d = f16_at(p), m = f16_at(p + 2);
        const uint32_t high = word_at(p + 4);
        const bytes8 q = half_bytes(p + 8, i);
        UNROLL for (int j = 0; j < 8; j++) v[j] = times_plus(d, half_of(q, j, i) | fifth_bit(high, i + j), m);
    }
};

struct packed_Q8_0 {
    enum { elements = 32, bytes = 34 };
    static __device__ void eight(const uint8_t *p, int i, float *v)
    {
        const float d = f16_at(p);
        const bytes8 q = bytes_at(p + 2 + i);
        UNROLL for (int j = 0; j < 8; j++) v[j] = times(d, (int8_t)q.at(j));
    }
};

struct packed_IQ4_NL {
    enum { elements = 32, bytes = 18 };
    static __device__ void eight(const uint8_t *p, int i, float *v)
    {
        const float d = f16_at(p);
        const bytes8 q = half_bytes(p + 2, i);
        UNROLL for (int j = 0; j < 8; j++) v[j] = times(d, iq4_level(half_of(q, j, i)));
    }
};

/* Blocks of 256: of a run of 32 bytes with 128 elements in pairs of bits, and of any other, those that hold i. */
INLINE bytes8 pair_bytes(const uint8_t *p, int i) { return bytes_at(p + i / 128 * 32 + i % 32); }
INLINE int pair_of(const bytes8 &q, int j, int i) { return q.at(j) >> (i % 128 / 32 * 2) & 3; }

struct packed_Q2_K {
    enum { elements = 256, bytes = 84 };
    static __device__ void eight(const uint8_t *p, int i, float *v)
    {
        const int s = p[i / 16];
        const float scale = times(f16_at(p + 80), s & 15), least = times(f16_at(p + 82), s >> 4);
        const bytes8 q = pair_bytes(p + 16, i);
        UNROLL for (int j = 0; j < 8; j++) v[j] = times_plus(scale, pair_of(q, j, i), -least);
    }
};

struct packed_Q3_K {
    enum { elements = 256, bytes = 110 };
    static __device__ int scale_of(const uint8_t *s, int i)
    {
        const int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4, high = s[8 + i % 4] >> (i / 4 * 2) & 3;
        return (low | high << 4) - 32;
    }
    static __device__ void eight(const uint8_t *p, int i, float *v)
    {
        const float scale = times(f16_at(p + 108), scale_of(p + 96, i / 16));
        const bytes8 third = bytes_at(p + i % 32), q = pair_bytes(p + 32, i);
        UNROLL for (int j = 0; j < 8; j++) v[j] =
            times(scale, pair_of(q, j, i) - (third.at(j) >> (i / 32) & 1 ? 0 : 4));
    }
};

/* Halves of a run of 32 bytes: a sub-block in the lower ones, the next in the upper ones. */
INLINE bytes8 sub_bytes(const uint8_t *p, int i) { return bytes_at(p + i / 64 * 32 + i % 32); }
INLINE int sub_half(const bytes8 &q, int j, int i) { return q.at(j) >> (i / 32 % 2 * 4) & 15; }

struct packed_Q4_K {
    enum { elements = 256, bytes = 144 };
    static __device__ void eight(const uint8_t *p, int i, float *v)
    {
        int scale, minimum;
        scale_and_minimum(p + 4, i / 32, scale, minimum);
        const float d = times(f16_at(p), scale), m = times(f16_at(p + 2), minimum);
        const bytes8 q = sub_bytes(p + 16, i);
        UNROLL for (int j = 0; j < 8; j++) v[j] = times_plus(d, sub_half(q, j, i), -m);
    }
};

struct packed_Q5_K {
    enum { elements = 256, bytes = 176 };
    static __device__ void eight(const uint8_t *p, int i, float *v)
    {
        int scale, minimum;
        scale_and_minimum(p + 4, i / 32, scale, minimum);
        const float d = times(f16_at(p), scale), m = times(f16_at(p + 2), minimum);
        const bytes8 q = sub_bytes(p + 48, i), fifth = bytes_at(p + 16 + i % 32);
        UNROLL for (int j = 0; j < 8; j++) v[j] =
            times_plus(d, sub_half(q, j, i) | (fifth.at(j) >> (i / 32) & 1) << 4, -m);
    }
};

struct packed_Q6_K {
    enum { elements = 256, bytes = 210 };
    static __device__ void eight(const uint8_t *p, int i, float *v)
    {
        const float scale = times(f16_at(p + 208), (int8_t)p[192 + i / 16]);
        const int in = i % 128;
        const bytes8 low = bytes_at(p + i / 128 * 64 + in % 64), high = pair_bytes(p + 128, i);
        UNROLL for (int j = 0; j < 8; j++) v[j] =
            times(scale, ((low.at(j) >> (in / 64 * 4) & 15) | pair_of(high, j, i) << 4) - 32);
    }
};

struct packed_IQ4_XS {
    enum { elements = 256, bytes = 136 };
    static __device__ int scale_of(const uint8_t *s, int i)
    {
        const int low = s[2 + i / 2] >> (i % 2 * 4) & 15, high = (int)(halfword(s) >> (2 * i)) & 3;
        return (low | high << 4) - 32;
    }
    static __device__ void eight(const uint8_t *p, int i, float *v)
    {
        const float scale = times(f16_at(p), scale_of(p + 2, i / 32));
        const bytes8 q = half_bytes(p + 8 + i / 32 * 16, i % 32);
        UNROLL for (int j = 0; j < 8; j++) v[j] = times(scale, iq4_level(half_of(q, j, i % 32)));
    }
};

/* ---- scales beside them ---- */

INLINE float rounded_to(int type, float x)
{
    return type == CUDA_PACKED_BF16  ? bf16_low(bf16_pair(x, 0) & 0xffffu)
           : type == CUDA_PACKED_F16 ? f16_rounded(x)
                                     : x;
}

INLINE void scale_eight(const cuda_decode_args &a, const float *code, int r, int c, float *v)
{
    if (a.scale == CUDA_SCALE_NONE)
        return;
    const int64_t at = a.scale == CUDA_SCALE_CODES  ? r * quotient(a.out.cols, a.run) + quotient(c, a.run)
                       : a.scale == CUDA_SCALE_ROWS ? r
                                                    : 0;
    const float factor = a.factors[at];
    UNROLL for (int j = 0; j < 8; j++)
    {
        if (a.scale == CUDA_SCALE_CODES)
            v[j] = rounded_to(a.rounded, __fmul_rn(code[(int)v[j] & 15], factor));
        else
            v[j] = __fmul_rn(v[j], factor);
        if (a.scale == CUDA_SCALE_ROWS)
            v[j] = __fmul_rn(v[j], a.constant);
    }
}

/* ---- the kernel ---- */

template <class T> INLINE void decode_rows(const cuda_decode_args &a, const float *code)
{
    const int64_t row_bytes = a.out.cols / T::elements * T::bytes;
    each_element<8>(1, a.out.rows, a.out.cols, [&](int, int r, int c) {
        pack<8> x;
        T::eight(a.from + r * row_bytes + c / T::elements * T::bytes, c % T::elements, x.v);
        scale_eight(a, code, r, c, x.v);
        store<8>(a.out, 0, r, c, x);
    });
}

KERNEL(decode, cuda_decode_args, CUDA_ROW_THREADS)
{
    __shared__ float code[16]; /* arguments that each thread indexes for itself are read one thread after the other */
    if (threadIdx.x < 16)
        code[threadIdx.x] = a.code[threadIdx.x];
    __syncthreads();
    switch (a.type) {
#define CASE(name) \
    case CUDA_PACKED_##name: decode_rows<packed_##name>(a, code); break;
        CUDA_PACKED_TYPES(CASE)
#undef CASE
    }
}
