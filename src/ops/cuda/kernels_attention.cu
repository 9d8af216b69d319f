/* softmax(q·kᵀ·scale + bias)·v for what neither cuDNN nor kernels_attention_tensor.cu takes: odd head sizes and
 * layouts, and all of it in float32.
 *
 * A block has 32 queries of one head and walks over the keys 64 at a time with the online softmax (Milakov, Gimelshein
 * 2018): a running maximum and sum per query, in registers. A thread computes 4 queries × 4 keys of the scores and 4
 * queries × 4 (or 8) columns of the result, from shared memory in float4s: 8 reads of 16 bytes for 64 multiply-adds, so
 * the float32 pipes are the bound (4·queries·keys·dim / 67 TFLOP/s on an H200). Heads wider than 64 pass through shared
 * memory in slices of 64 columns; wider than 128, the scores are computed anew for each 128 columns of the result. */
#include "ops/cuda/kernels_device.h"

enum {
    QUERIES = CUDA_ATTENTION_QUERIES,
    KEYS = 64,
    SLICE = 64,        /* columns of a head in shared memory */
    PITCH = SLICE + 4, /* rows four banks apart: eight lanes' float4s of eight rows don't collide */
    LANES = 16,        /* threads that share four queries */
};
static_assert(CUDA_ATTENTION_THREADS == QUERIES / 4 * LANES && KEYS == 4 * LANES && SLICE == 4 * LANES && KEYS == SLICE,
              "four by four a thread");

struct alignas(16) attention_room {
    float q[QUERIES][PITCH], p[QUERIES][PITCH], kv[KEYS][PITCH];
    float bias[QUERIES + KEYS]; /* by key − query + QUERIES − 1, both from the tile's own first */
};

/* Rows [row, row + ROWS) and columns [col, col + SLICE) of a head that begins at `at` in v; zeros beyond its end. */
template <int ROWS>
INLINE void fetch(float (*to)[PITCH], const cuda_view &v, int64_t at, int64_t row, int col, int dim, bool eights)
{
    const int rows = v.rows - row < ROWS ? (int)(v.rows - row) : ROWS, cols = dim - col;
    if (eights) {
        UNROLL for (int i = 0; i < ROWS * SLICE / 8 / CUDA_ATTENTION_THREADS; i++)
        {
            int n = (int)threadIdx.x + i * CUDA_ATTENTION_THREADS, r = n / (SLICE / 8), c = n % (SLICE / 8) * 8;
            pack<8> x = {};
            if (r < rows && c < cols)
                x = load<8>(v.data, v.bf16, at + (row + r) * v.ld + col + c);
            as<float4>(&to[r][c]) = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
            as<float4>(&to[r][c + 4]) = make_float4(x.v[4], x.v[5], x.v[6], x.v[7]);
        }
    } else {
        for (int n = (int)threadIdx.x; n < ROWS * SLICE; n += CUDA_ATTENTION_THREADS) {
            int r = n / SLICE, c = n % SLICE;
            to[r][c] = r < rows && c < cols ? load<1>(v.data, v.bf16, at + (row + r) * v.ld + col + c).v[0] : 0;
        }
    }
}

INLINE void multiply_add(float &sum, const float4 &x, const float4 &y)
{
    sum += x.x * y.x;
    sum += x.y * y.y;
    sum += x.z * y.z;
    sum += x.w * y.w;
}

INLINE float most_of_lanes(float x)
{
    UNROLL for (int o = LANES / 2; o > 0; o /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, o));
    return x;
}
INLINE float sum_of_lanes(float x)
{
    UNROLL for (int o = LANES / 2; o > 0; o /= 2) x += __shfl_xor_sync(ALL_LANES, x, o);
    return x;
}

/* The block's place in the whole, and where a thread stands in it. */
struct attention_place {
    int64_t batch, head, query; /* first */
    int64_t keys;               /* that any of these queries sees */
    int64_t q, k, v, out;       /* offsets of the head in the views */
    int dim, row, lane; /* this thread's queries: row … row + 3; its keys: lane + 16·j; its columns: 4·lane … 4·lane + 3
                           of a slice */
    bool eights[3]; /* of q, k, v */
};

/* score[i][j] of query row + i and key first + lane + 16·j, before scale and mask. */
INLINE void scores(const cuda_attention_args &a, const attention_place &at, attention_room &room, int64_t first,
                   float (&score)[4][4])
{
    UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++) score[i][j] = 0;
    for (int col = 0; col < at.dim; col += SLICE) {
        __syncthreads(); /* nobody reads the last tile any more */
        if (first == 0 || at.dim > SLICE)
            fetch<QUERIES>(room.q, a.q, at.q, at.query, col, at.dim, at.eights[0]);
        fetch<KEYS>(room.kv, a.k, at.k, first, col, at.dim, at.eights[1]);
        __syncthreads();
        const int depth = at.dim - col < SLICE ? at.dim - col : SLICE;
        UNROLL_TWICE for (int d = 0; d < depth; d += 4)
        {
            float4 q[4], k[4];
            UNROLL for (int i = 0; i < 4; i++) q[i] = as<float4>(&room.q[at.row + i][d]);
            UNROLL for (int j = 0; j < 4; j++) k[j] = as<float4>(&room.kv[at.lane + LANES * j][d]);
            UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++) multiply_add(score[i][j], q[i], k[j]);
        }
    }
}

/* The biases of a tile, in shared memory until the next tile's first barrier. */
INLINE void fetch_bias(const cuda_attention_args &a, const attention_place &at, attention_room &room, int64_t first)
{
    for (int n = (int)threadIdx.x; n < QUERIES + KEYS - 1; n += CUDA_ATTENTION_THREADS) {
        int64_t column = first - at.query + n - (QUERIES - 1) + a.q.rows - 1;
        room.bias[n] = column >= 0 && column < 2 * a.q.rows - 1 ? a.bias[at.head * a.bias_ld + column] : 0;
    }
}

/* 64 · SLICES columns of the result, from `pass` on. */
template <int SLICES>
INLINE void attend(const cuda_attention_args &a, const attention_place &at, attention_room &room, int pass)
{
    float sum[SLICES][4][4] = {}, top[4], total[4] = {};
    UNROLL for (int i = 0; i < 4; i++) top[i] = -INFINITY;
    for (int64_t first = 0; first < at.keys; first += KEYS) {
        float score[4][4];
        scores(a, at, room, first, score);
        if (a.bias) {
            fetch_bias(a, at, room, first);
            __syncthreads();
        }
        UNROLL for (int i = 0; i < 4; i++)
        {
            float most = -INFINITY, weight = 0;
            UNROLL for (int j = 0; j < 4; j++)
            {
                const int64_t key = first + at.lane + LANES * j;
                score[i][j] *= a.scale;
                if (a.bias)
                    score[i][j] += room.bias[at.lane + LANES * j - (at.row + i) + QUERIES - 1];
                if (key >= at.keys || (a.causal && key > at.query + at.row + i))
                    score[i][j] = -INFINITY;
                most = fmaxf(most, score[i][j]);
            }
            most = fmaxf(top[i], most_of_lanes(most));
            const float base = most == -INFINITY ? 0 : most, rescale = expf(top[i] - base);
            top[i] = most;
            UNROLL for (int j = 0; j < 4; j++)
            {
                float p = expf(score[i][j] - base);
                weight += p;
                room.p[at.row + i][at.lane + LANES * j] = p;
            }
            total[i] = total[i] * rescale + sum_of_lanes(weight);
            UNROLL for (int s = 0; s < SLICES; s++) UNROLL for (int c = 0; c < 4; c++) sum[s][i][c] *= rescale;
        }
        const int depth = at.keys - first < KEYS ? (int)(at.keys - first) : KEYS;
        UNROLL for (int s = 0; s < SLICES; s++)
        {
            if (pass + s * SLICE >= at.dim)
                break;
            __syncthreads(); /* the last tile is read, the probabilities are written */
            fetch<KEYS>(room.kv, a.v, at.v, first, pass + s * SLICE, at.dim, at.eights[2]);
            __syncthreads();
            UNROLL_TWICE for (int k = 0; k < depth; k += 4)
            { /* beyond the last key: zeros times zeros */
                float4 p[4], v[4];
                UNROLL for (int i = 0; i < 4; i++) p[i] = as<float4>(&room.p[at.row + i][k]);
                UNROLL for (int j = 0; j < 4; j++) v[j] = as<float4>(&room.kv[k + j][4 * at.lane]);
                UNROLL for (int i = 0; i < 4; i++)
                {
                    multiply_add(sum[s][i][0], p[i], make_float4(v[0].x, v[1].x, v[2].x, v[3].x));
                    multiply_add(sum[s][i][1], p[i], make_float4(v[0].y, v[1].y, v[2].y, v[3].y));
                    multiply_add(sum[s][i][2], p[i], make_float4(v[0].z, v[1].z, v[2].z, v[3].z));
                    multiply_add(sum[s][i][3], p[i], make_float4(v[0].w, v[1].w, v[2].w, v[3].w));
                }
            }
        }
    }
    UNROLL for (int i = 0; i < 4; i++)
    {
        const int64_t row = at.query + at.row + i;
        if (row >= a.q.rows)
            break;
        const float share = a.k.rows > 0 ? 1 / total[i] : 0;
        UNROLL for (int s = 0; s < SLICES; s++)
        {
            const int col = pass + s * SLICE + 4 * at.lane;
            const int64_t to = at.out + row * a.out.ld + col;
            pack<4> y;
            UNROLL for (int c = 0; c < 4; c++) y.v[c] = sum[s][i][c] * share;
            if (a.out.wide && at.dim % 4 == 0) {
                if (col < at.dim)
                    store<4>(a.out.data, a.out.bf16, to, y);
            } else {
                UNROLL for (int c = 0; c < 4; c++) if (col + c < at.dim)
                    store<1>(a.out.data, a.out.bf16, to + c, {{y.v[c]}});
            }
        }
        if (a.lse.data && pass == 0 && at.lane == 0)
            ((float *)a.lse.data)[place(a.lse, at.batch, row) + at.head] =
                a.k.rows > 0 ? top[i] + logf(total[i]) : -INFINITY;
    }
}

KERNEL(attention, cuda_attention_args, CUDA_ATTENTION_THREADS)
{
    __shared__ attention_room room;
    attention_place at;
    at.query = blockIdx.x * (int64_t)QUERIES;
    at.head = blockIdx.y;
    at.batch = blockIdx.z;
    at.dim = (int)a.dim;
    at.row = (int)threadIdx.x / LANES * 4;
    at.lane = (int)threadIdx.x % LANES;
    at.keys = a.causal && at.query + QUERIES < a.k.rows ? at.query + QUERIES : a.k.rows;
    at.q = place(a.q, at.batch, 0) + at.head * a.dim;
    at.k = place(a.k, at.batch, 0) + at.head * a.dim;
    at.v = place(a.v, at.batch, 0) + at.head * a.dim;
    at.out = place(a.out, at.batch, 0) + at.head * a.dim;
    at.eights[0] = a.q.wide && at.dim % 8 == 0;
    at.eights[1] = a.k.wide && at.dim % 8 == 0;
    at.eights[2] = a.v.wide && at.dim % 8 == 0;
    if (at.dim <= SLICE)
        attend<1>(a, at, room, 0);
    else
        for (int pass = 0; pass < at.dim; pass += 2 * SLICE)
            attend<2>(a, at, room, pass);
}

/* The union of two results by their log-sum-exp, a warp for a row's head; the grid's x-axis shares them out, y is the
 * batch. */
KERNEL(attention_merge, cuda_merge_args, CUDA_ROW_THREADS)
{
    const int lane = (int)threadIdx.x % WARP;
    const int64_t units = a.out.rows * a.heads, stride = threads_of_grid() / WARP;
    for (int64_t unit = thread_of_grid() / WARP; unit < units; unit += stride) { /* the same for a warp's lanes */
        const int64_t row = quotient(unit, a.heads), head = unit - row * a.heads;
        float *mine = (float *)a.lse.data + place(a.lse, blockIdx.y, row) + head;
        const float other = ((const float *)a.other_lse.data)[place(a.other_lse, blockIdx.y, row) + head], own = *mine;
        if (other == -INFINITY)
            continue;
        const float top = fmaxf(own, other), p = expf(own - top), q = expf(other - top), share = 1 / (p + q);
        for (int c = lane; c < a.dim; c += WARP) {
            float x = load<1>(a.out, blockIdx.y, row, (int)(head * a.dim) + c).v[0],
                  y = load<1>(a.other, blockIdx.y, row, (int)(head * a.dim) + c).v[0];
            store<1>(a.out, blockIdx.y, row, (int)(head * a.dim) + c, {{(p * x + q * y) * share}});
        }
        __syncwarp(); /* all lanes have read it */
        if (lane == 0)
            *mine = top + logf(p + q);
    }
}
