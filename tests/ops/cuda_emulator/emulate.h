/* The device part of CUDA C++ for g++: what src/ops/cuda/kernels*.cu use of it. Blocks run one after another; a block's
 * threads are fibers, each of which runs to its next barrier or shuffle. */
#ifndef FLUX1_TESTS_CUDA_EMULATE_H
#define FLUX1_TESTS_CUDA_EMULATE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#pragma GCC optimize("no-strict-aliasing") /* kernels read floats as vectors and bits */

#undef __global__ /* NVIDIA's headers have their own words for the host */
#undef __device__
#undef __forceinline__
#undef __launch_bounds__
#undef __grid_constant__
#undef __shared__
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static __attribute__((section("cuda_shared"))) /* one block at a time; poisoned before each */

#ifndef __VECTOR_TYPES_H__ /* the driver's side has NVIDIA's */
struct dim3 {
    unsigned x, y, z;
};
#endif
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

#ifndef __VECTOR_TYPES_H__
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
#endif

static inline unsigned __float_as_uint(float x)
{
    unsigned u;
    memcpy(&u, &x, sizeof u);
    return u;
}
static inline float __uint_as_float(unsigned u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}
static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
/* rounded one by one: this processor's flags do not contract them */
static inline float __fmul_rn(float x, float y) { return x * y; }
static inline float __fadd_rn(float x, float y) { return x + y; }
static inline float __fdividef(float x, float y)
{
    return fabsf(y) > 0x1p126f && fabsf(y) < INFINITY ? (isinf(x) ? NAN : 0) : x / y;
}

/* Prints kernel, block, thread and the sentence, and ends the program. */
[[noreturn]] void emulate_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* driver.cpp says what lies at an address that a kernel could not touch. */
void emulate_describe(const void *p, char *text, size_t room);

/* Ends where all threads of the block stand at this line; a thread that ended, or stands elsewhere, is an error. */
void emulate_barrier(int source_line);
#define __syncthreads() emulate_barrier(__LINE__)

/* The same for a warp; *value becomes that of lane `from`. */
void emulate_exchange(int source_line, unsigned mask, unsigned *value, int from);
int emulate_lane(void);
#define __syncwarp() emulate_sync_warp(__LINE__)
#define __shfl_xor_sync(mask, value, lanes) emulate_shuffle(__LINE__, mask, value, emulate_lane() ^ (lanes))
#define __shfl_sync(mask, value, lane) emulate_shuffle(__LINE__, mask, value, lane)

static inline void emulate_sync_warp(int source_line)
{
    unsigned none = 0;
    emulate_exchange(source_line, 0xffffffffu, &none, 0);
}
static inline float emulate_shuffle(int source_line, unsigned mask, float value, int from)
{
    unsigned u = __float_as_uint(value);
    emulate_exchange(source_line, mask, &u, from);
    return __uint_as_float(u);
}
static inline unsigned emulate_shuffle(int source_line, unsigned mask, unsigned value, int from)
{
    emulate_exchange(source_line, mask, &value, from);
    return value;
}
static inline int emulate_shuffle(int source_line, unsigned mask, int value, int from)
{
    return (int)emulate_shuffle(source_line, mask, (unsigned)value, from);
}

/* Tensor cores and asynchronous copies: src/ops/cuda/kernels_tensor.h says what a lane holds. A copy happens at once or
 * when it is waited for. */
void emulate_multiply_16x8(int source_line, float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1);
void emulate_load_matrices(int source_line, unsigned (&m)[4], const void *row, bool transposed);
void emulate_copy_async(void *to, const void *from, bool there);
void emulate_commit_copies(void);
void emulate_wait_copies(int pending);

/* One thread runs at a time. */
static inline unsigned atomicMax(unsigned *at, unsigned value)
{
    unsigned old = *at;
    *at = value > old ? value : old;
    return old;
}

/* A block's dynamic shared memory, `extern __shared__` in the language: as many bytes as the launch asked for, poisoned
 * before each block; behind them lies a page that cannot be touched. NULL without any. */
void *emulate_dynamic_shared(void);

/* Runs a grid of body(args) with `shared` bytes of dynamic shared memory, EMULATE_MOST_SHARED at most. Not reentrant:
 * the driver's lock is held. */
enum : unsigned { EMULATE_MOST_SHARED = 232448 }; /* of a block on sm_90 */
void emulate_launch(const char *kernel, void (*body)(const void *args), const void *args, dim3 grid, dim3 block,
                    unsigned shared);

/* A kernel by its name, for the module. */
struct emulated_kernel {
    const char *name;
    size_t bytes;          /* of its struct of arguments */
    unsigned most_threads; /* __launch_bounds__ */
    void (*body)(const void *args);
};
extern const emulated_kernel emulated_kernels[];

#endif
