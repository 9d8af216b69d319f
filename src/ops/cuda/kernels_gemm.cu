/* out = in·wᵀ for what cuBLASLt refuses: any m, n, k, any leading dimension and address, float32, bf16 and e4m3 mixed.
 * Float32 multiply-adds.
 *
 * A block makes a tile of 64 × 64, a thread 4 × 4 of it; 16 columns of both operands lie in shared memory, columns
 * first, while the next 16 are on their way from global memory to registers. Each 16 columns are summed by themselves
 * and then added: the error grows with √(k/16), not √k. Bound by the float32 pipes: 2 reads of 16 bytes from shared
 * memory for 16 multiply-adds. */
#include "ops/cuda/kernels_device.h"

enum {
    TILE = CUDA_GEMM_TILE,
    DEPTH = 16,
    GEMM_THREADS = TILE * TILE / 16,
    GEMM_PITCH = TILE + 4,
};

/* Four columns [k, k + 4) of a row of an operand, zeros beyond its end. */
INLINE pack<4> fetch_four(const void *data, int bf16, int64_t at, bool inside, int64_t k, int64_t depth, bool fours)
{
    pack<4> x = {};
    if (!inside || k >= depth)
        return x;
    if (bf16 == CUDA_E4M3) {
        UNROLL for (int j = 0; j < 4; j++) if (k + j < depth) x.v[j] = e4m3_value(((const uint8_t *)data)[at + k + j]);
        return x;
    }
    if (fours)
        return load<4>(data, bf16, at + k);
    UNROLL for (int j = 0; j < 4; j++) if (k + j < depth) x.v[j] = load<1>(data, bf16, at + k + j).v[0];
    return x;
}

INLINE bool in_fours(const void *data, int64_t ld, int bf16, int64_t depth)
{
    return depth % 4 == 0 && ld % 4 == 0 && (uintptr_t)data % (bf16 ? 8 : 16) == 0;
}

INLINE void put_four(float (*to)[GEMM_PITCH], int row, int k, const pack<4> &x)
{
    UNROLL for (int j = 0; j < 4; j++) to[k + j][row] = x.v[j];
}

INLINE float scale_of(const cuda_gemm_args &a, int64_t r, int64_t c)
{
    return a.in_scales ? a.in_scales[a.scales_a_row ? r : 0] * a.w_scales[a.scales_a_row ? c : 0] : 1;
}

struct alignas(16) gemm_room {
    float x[DEPTH][GEMM_PITCH], w[DEPTH][GEMM_PITCH];
};

INLINE void gemm_tile(const cuda_gemm_args &a, int64_t first_row, int64_t first_col, gemm_room &room)
{
    const int row = (int)threadIdx.x / 16, col = (int)threadIdx.x % 16;                       /* this thread's 4 × 4 */
    const int line = (int)threadIdx.x / (DEPTH / 4), k0 = (int)threadIdx.x % (DEPTH / 4) * 4; /* what it fetches */
    const int64_t x_at = (first_row + line) * a.in.ld, w_at = (first_col + line) * a.k;
    const bool x_inside = first_row + line < a.in.rows, w_inside = first_col + line < a.n;
    const bool x_fours = in_fours(a.in.data, a.in.ld, a.in.bf16, a.k), w_fours = in_fours(a.w, a.k, a.w_bf16, a.k);
    float sum[4][4] = {};
    pack<4> x = fetch_four(a.in.data, a.in.bf16, x_at, x_inside, k0, a.k, x_fours),
            w = fetch_four(a.w, a.w_bf16, w_at, w_inside, k0, a.k, w_fours);
    for (int64_t k = 0; k < a.k; k += DEPTH) {
        __syncthreads();
        put_four(room.x, line, k0, x);
        put_four(room.w, line, k0, w);
        __syncthreads();
        x = fetch_four(a.in.data, a.in.bf16, x_at, x_inside, k + DEPTH + k0, a.k, x_fours);
        w = fetch_four(a.w, a.w_bf16, w_at, w_inside, k + DEPTH + k0, a.k, w_fours);
        float part[4][4] = {};
        UNROLL for (int d = 0; d < DEPTH; d++)
        {
            const float4 p = as<float4>(&room.x[d][4 * row]), q = as<float4>(&room.w[d][4 * col]);
            const float u[4] = {p.x, p.y, p.z, p.w}, v[4] = {q.x, q.y, q.z, q.w};
            UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++) part[i][j] += u[i] * v[j];
        }
        UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++) sum[i][j] += part[i][j];
    }
    UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++)
    {
        const int64_t r = first_row + 4 * row + i, c = first_col + 4 * col + j;
        if (r < a.in.rows && c < a.n)
            store<1>(a.out.data, a.out.bf16, r * a.out.ld + c, {{sum[i][j] * scale_of(a, r, c)}});
    }
}

/* A grid of any shape shares the tiles out; neighbours share the rows of `in`. */
KERNEL(gemm, cuda_gemm_args, GEMM_THREADS)
{
    __shared__ gemm_room room;
    const int64_t across = (a.n + TILE - 1) / TILE, tiles = (a.in.rows + TILE - 1) / TILE * across;
    const int64_t blocks = (int64_t)gridDim.x * gridDim.y * gridDim.z,
                  block = blockIdx.x + (int64_t)gridDim.x * (blockIdx.y + (int64_t)gridDim.y * blockIdx.z);
    for (int64_t tile = block; tile < tiles; tile += blocks)
        gemm_tile(a, tile / across * TILE, tile % across * TILE, room);
}
