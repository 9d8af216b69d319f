/* Tensor cores in PTX: products of 16 × 8 × 16 in bf16 (sm_80 and later), their operands from shared memory, and copies
 * to shared memory that go on while the warp works. Under g++ tests/ops/cuda_emulator/emulate.h stands for them.
 *
 * Of a product c += a·b a lane, with g = lane / 4 and t = lane % 4, holds (PTX ISA, "mma.m16n8k16"):
 *   a[16][16]  pairs of columns: a[0] (g, 2t), a[1] (g + 8, 2t), a[2] (g, 2t + 8), a[3] (g + 8, 2t + 8)
 *   b[16][8]   pairs of rows:    b0 (2t, g), b1 (2t + 8, g)
 *   c[16][8]   float32:          c[0], c[1] (g, 2t), (g, 2t + 1); c[2], c[3] the same in row g + 8 */
#ifndef FLUX1_OPS_CUDA_KERNELS_TENSOR_H
#define FLUX1_OPS_CUDA_KERNELS_TENSOR_H

#include "ops/cuda/kernels_device.h"

#ifdef __CUDACC__
#define multiply_16x8(c, a, b0, b1) multiply_16x8_ptx(c, a, b0, b1)
INLINE void multiply_16x8_ptx(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#else
#define multiply_16x8(c, a, b0, b1) emulate_multiply_16x8(__LINE__, c, a, b0, b1)
#endif

/* Four 8 × 8 matrices of bf16 in shared memory: lane 8·i + r names the 16 bytes of row r of matrix i. A lane gets of
 * each the pair (g, 2t), or transposed (2t, g). */
#ifdef __CUDACC__
#define load_matrices(m, row) load_matrices_ptx<false>(m, row)
#define load_transposed(m, row) load_matrices_ptx<true>(m, row)
template <bool TRANSPOSED> INLINE void load_matrices_ptx(uint32_t (&m)[4], const void *row)
{
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    if constexpr (TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                     : "r"(at)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                     : "r"(at)
                     : "memory");
}
#else
#define load_matrices(m, row) emulate_load_matrices(__LINE__, m, row, false)
#define load_transposed(m, row) emulate_load_matrices(__LINE__, m, row, true)
#endif

/* 16 bytes to shared memory, or zeros; there for this thread once the group it was committed with has been waited for,
 * for the others behind a barrier after that. */
INLINE void copy_async(void *to, const void *from, bool there)
{
#ifdef __CUDACC__
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from), "r"(there ? 16 : 0)
                 : "memory");
#else
    emulate_copy_async(to, from, there);
#endif
}

INLINE void commit_copies()
{
#ifdef __CUDACC__
    asm volatile("cp.async.commit_group;" : : : "memory");
#else
    emulate_commit_copies();
#endif
}

/* All groups but the last PENDING are there. */
template <int PENDING> INLINE void wait_copies()
{
#ifdef __CUDACC__
    asm volatile("cp.async.wait_group %0;" : : "n"(PENDING) : "memory");
#else
    emulate_wait_copies(PENDING);
#endif
}

INLINE float power_of_two(float x)
{
#ifdef __CUDACC__
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return exp2f(x);
#endif
}

#endif
