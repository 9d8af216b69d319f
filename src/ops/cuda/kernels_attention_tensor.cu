/* softmax(q·kᵀ·scale + bias)·v on tensor cores: bf16 operands, heads of 64 or 128 columns, rows that begin at multiples
 * of 16 bytes. With T5's bias, CLIP's causal mask or a log-sum-exp, and for everything where cuDNN is not there.
 *
 * A warp has 16 queries of one head, a block 64; they walk over the keys 64 at a time with the online softmax in powers
 * of two. Queries and the running result stay in registers; scores become probabilities in the registers that the
 * second product wants them in (the layout of c is that of a). Keys of the next tile are copied to shared memory while
 * probabilities are made, values while scores are. Rows in shared memory are four banks apart, so that eight rows' 16
 * bytes don't collide. */
#include "ops/cuda/kernels_tensor.h"

enum {
    TENSOR_WARPS = CUDA_TENSOR_QUERIES / 16,
    TENSOR_THREADS = TENSOR_WARPS * WARP,
    TENSOR_KEYS = 64,
    TENSOR_TILES = TENSOR_KEYS / 8, /* of eight keys */
};
#define LOG2_E 1.4426950408889634f

template <int DIM> struct alignas(16) tensor_room {
    uint16_t k[TENSOR_KEYS][DIM + 8], v[TENSOR_KEYS][DIM + 8];
};

/* Where a lane stands: its rows are query + g and query + g + 8. Rows are counted in ints, as registers are dear: the
 * host sees to it. */
struct tensor_place {
    int64_t batch, head;
    int query; /* the warp's first */
    int keys;  /* that any query of the block sees */
    int g, t;
};

/* Rows [first, first + 64) of a head, on their way; zeros beyond the last. */
template <int DIM>
INLINE void fetch_rows(uint16_t (*to)[DIM + 8], const cuda_view &v, const tensor_place &at, int first)
{
    const int a_time = TENSOR_THREADS / (DIM / 8), row = (int)threadIdx.x / (DIM / 8),
              col = (int)threadIdx.x % (DIM / 8) * 8;
    const uint16_t *from = (const uint16_t *)v.data + place(v, at.batch, first + row) + at.head * DIM + col;
    UNROLL for (int r = 0; r < TENSOR_KEYS; r += a_time, from += a_time * v.ld)
    {
        const bool there = first + row + r < (int)v.rows;
        copy_async(&to[row + r][col], there ? from : v.data, there);
    }
    commit_copies();
}

/* The warp's queries as operands: 16 columns each. */
template <int DIM> INLINE void fetch_queries(uint32_t (&q)[DIM / 16][4], const cuda_view &v, const tensor_place &at)
{
    const int64_t head = place(v, at.batch, 0) + at.head * DIM;
    UNROLL for (int s = 0; s < DIM / 16; s++) UNROLL for (int i = 0; i < 4; i++)
    {
        const int row = at.query + at.g + i % 2 * 8, col = s * 16 + i / 2 * 8 + 2 * at.t;
        q[s][i] = row < (int)v.rows ? as<uint32_t>((const uint16_t *)v.data + head + row * v.ld + col) : 0;
    }
}

/* score[n] of keys 8n … 8n + 7 of the tile, before scale, bias and mask. */
template <int DIM>
INLINE void tensor_scores(float (&score)[TENSOR_TILES][4], const uint32_t (&q)[DIM / 16][4],
                          const tensor_room<DIM> &room)
{
    const int lane = (int)threadIdx.x % WARP, key = lane / 16 * 8 + lane % 8, col = lane / 8 % 2 * 8;
    UNROLL for (int n = 0; n < TENSOR_TILES; n++) UNROLL for (int i = 0; i < 4; i++) score[n][i] = 0;
    UNROLL for (int s = 0; s < DIM / 16; s++) UNROLL for (int n = 0; n < TENSOR_TILES; n += 2)
    {
        uint32_t k[4];
        load_matrices(k, &room.k[n * 8 + key][s * 16 + col]);
        multiply_16x8(score[n], q[s], k[0], k[1]);
        multiply_16x8(score[n + 1], q[s], k[2], k[3]);
    }
}

/* Scores as powers of two's exponents, −infinity where nothing is to be seen. */
INLINE void finish_scores(float (&score)[TENSOR_TILES][4], const cuda_attention_args &a, const tensor_place &at,
                          int first)
{
    const float scale = a.scale * LOG2_E;
    UNROLL for (int n = 0; n < TENSOR_TILES; n++) UNROLL for (int i = 0; i < 4; i++) score[n][i] *= scale;
    if (a.bias) {
        UNROLL for (int h = 0; h < 2; h++)
        {
            const int row = at.query + at.g + 8 * h, key = first + 2 * at.t;
            const float *bias = a.bias + at.head * a.bias_ld + (key - row + (int)a.q.rows - 1);
            UNROLL for (int n = 0; n < TENSOR_TILES; n++)
                UNROLL for (int i = 0; i < 2; i++) if (key + n * 8 + i < at.keys && row < (int)a.q.rows)
                    score[n][2 * h + i] += bias[n * 8 + i] * LOG2_E;
        }
    }
    if (a.causal || first + TENSOR_KEYS > at.keys) {
        UNROLL for (int n = 0; n < TENSOR_TILES; n++) UNROLL for (int i = 0; i < 4; i++)
        {
            const int row = at.query + at.g + i / 2 * 8, key = first + n * 8 + 2 * at.t + i % 2;
            if (key >= at.keys || (a.causal && key > row))
                score[n][i] = -INFINITY;
        }
    }
}

/* Over the four lanes of a row. */
INLINE float most_of_row(float x)
{
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}
INLINE float sum_of_row(float x)
{
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

/* Scores become probabilities relative to the running maximum; what was summed before is scaled to it. */
template <int DIM>
INLINE void tensor_softmax(float (&score)[TENSOR_TILES][4], float (&sum)[DIM / 8][4], float (&top)[2],
                           float (&total)[2])
{
    UNROLL for (int h = 0; h < 2; h++)
    {
        float most = top[h], weight = 0;
        UNROLL for (int n = 0; n < TENSOR_TILES; n++) most = fmaxf(most, fmaxf(score[n][2 * h], score[n][2 * h + 1]));
        most = most_of_row(most);
        const float base = most == -INFINITY ? 0 : most, rescale = power_of_two(top[h] - base);
        top[h] = most;
        UNROLL for (int n = 0; n < TENSOR_TILES; n++) UNROLL for (int i = 2 * h; i < 2 * h + 2; i++)
        {
            score[n][i] = power_of_two(score[n][i] - base);
            weight += score[n][i];
        }
        total[h] = total[h] * rescale + weight; /* the lane's own part: the four are added at the end */
        UNROLL for (int n = 0; n < DIM / 8; n++)
        {
            sum[n][2 * h] *= rescale;
            sum[n][2 * h + 1] *= rescale;
        }
    }
}

template <int DIM>
INLINE void tensor_values(float (&sum)[DIM / 8][4], const float (&p)[TENSOR_TILES][4], const tensor_room<DIM> &room)
{
    const int lane = (int)threadIdx.x % WARP, key = lane / 8 % 2 * 8 + lane % 8, col = lane / 16 * 8;
    UNROLL for (int s = 0; s < TENSOR_KEYS / 16; s++)
    {
        const uint32_t a[4] = {bf16_pair(p[2 * s][0], p[2 * s][1]), bf16_pair(p[2 * s][2], p[2 * s][3]),
                               bf16_pair(p[2 * s + 1][0], p[2 * s + 1][1]),
                               bf16_pair(p[2 * s + 1][2], p[2 * s + 1][3])};
        UNROLL for (int n = 0; n < DIM / 8; n += 2)
        {
            uint32_t v[4];
            load_transposed(v, &room.v[s * 16 + key][n * 8 + col]);
            multiply_16x8(sum[n], a, v[0], v[1]);
            multiply_16x8(sum[n + 1], a, v[2], v[3]);
        }
    }
}

template <int DIM>
INLINE void store_result(const cuda_attention_args &a, const tensor_place &at, const float (&sum)[DIM / 8][4],
                         const float (&top)[2], const float (&total)[2])
{
    UNROLL for (int h = 0; h < 2; h++)
    {
        const int row = at.query + at.g + 8 * h;
        const int64_t to = place(a.out, at.batch, row) + at.head * DIM + 2 * at.t;
        const float all = sum_of_row(total[h]), share = 1 / all;
        if (row >= (int)a.q.rows)
            continue;
        UNROLL for (int n = 0; n < DIM / 8; n++)
        {
            const float x = sum[n][2 * h] * share, y = sum[n][2 * h + 1] * share;
            if (a.out.bf16)
                as<uint32_t>((uint16_t *)a.out.data + to + n * 8) = bf16_pair(x, y);
            else
                as<float2>((float *)a.out.data + to + n * 8) = make_float2(x, y);
        }
        if (a.lse.data && at.t == 0)
            ((float *)a.lse.data)[place(a.lse, at.batch, row) + at.head] = top[h] / LOG2_E + logf(all);
    }
}

template <int DIM> INLINE void attend_tensor(const cuda_attention_args &a, tensor_room<DIM> &room)
{
    const int lane = (int)threadIdx.x % WARP;
    const int block = (int)blockIdx.x * CUDA_TENSOR_QUERIES, keys = (int)a.k.rows;
    const tensor_place at = {blockIdx.z,
                             blockIdx.y,
                             block + (int)threadIdx.x / WARP * 16,
                             a.causal && block + CUDA_TENSOR_QUERIES < keys ? block + CUDA_TENSOR_QUERIES : keys,
                             lane / 4,
                             lane % 4};
    uint32_t q[DIM / 16][4];
    float sum[DIM / 8][4] = {}, top[2] = {-INFINITY, -INFINITY}, total[2] = {};
    fetch_rows<DIM>(room.k, a.k, at, 0);
    fetch_queries<DIM>(q, a.q, at);
    for (int first = 0; first < at.keys; first += TENSOR_KEYS) {
        float score[TENSOR_TILES][4];
        fetch_rows<DIM>(room.v, a.v, at, first);
        wait_copies<1>();
        __syncthreads(); /* the keys are there */
        tensor_scores<DIM>(score, q, room);
        __syncthreads();                                       /* and read */
        fetch_rows<DIM>(room.k, a.k, at, first + TENSOR_KEYS); /* behind the last tile: zeros nobody reads */
        finish_scores(score, a, at, first);
        tensor_softmax<DIM>(score, sum, top, total);
        wait_copies<1>();
        __syncthreads(); /* the values are there */
        tensor_values<DIM>(sum, score, room);
        __syncthreads(); /* and read */
    }
    wait_copies<0>();
    store_result<DIM>(a, at, sum, top, total);
}

KERNEL(attention_64, cuda_attention_args, TENSOR_THREADS)
{
    __shared__ tensor_room<64> room;
    attend_tensor<64>(a, room);
}

KERNEL(attention_128, cuda_attention_args, TENSOR_THREADS)
{
    __shared__ tensor_room<128> room;
    attend_tensor<128>(a, room);
}
