/* Kernels of our own: their names and arguments, shared by the C that launches them and the CUDA C that is launched.
 * Every kernel takes one struct by value.
 *
 * A view is rows of a part, all batches: element (batch b, row r, column c) is data[b·batch_stride + r·ld + c], float32
 * or bf16. */
#ifndef FLUX1_OPS_CUDA_KERNELS_H
#define FLUX1_OPS_CUDA_KERNELS_H

#include <stdint.h>

typedef struct cuda_view {
    void *data; /* on the device; NULL: left out */
    int64_t ld, batch_stride;
    int64_t rows, cols; /* of one batch */
    int32_t bf16;       /* bf16; CUDA_E4M3 where `gemm` takes that or layer_norm writes it */
    int32_t wide;       /* rows begin at multiples of 16 bytes and cols is a multiple of 8: eight elements at a time */
} cuda_view;

/* A TABLE window: the row for batch entry b is row *step · batch + b; data NULL: left out. */
typedef struct cuda_table_view {
    const float *data;
    int64_t ld, batch;   /* batch: rows a step */
    const int32_t *step; /* the step counter, on the device */
} cuda_table_view;

/* layer_norm: out = (x − mean)/√(var + eps) [·w + b] [·(1 + scale) + shift]; rms_norm: x/√(mean x² + eps)·w.
 * CUDA_NORM_THREADS threads; rms_norm: a block a row; layer_norm: the grid's x-axis shares rows out. y: batch. Where
 * out is e4m3 it is what `quantise` makes of a bf16 out, to the bit. */
typedef struct cuda_norm_args {
    cuda_view in, out;
    const float *w, *b; /* [cols] or NULL */
    cuda_table_view shift, scale;
    float *scales; /* of out's rows, where layer_norm writes e4m3: row r of entry b is scales[b·scales_stride + r] */
    int64_t scales_stride;
    float eps;
} cuda_norm_args;

/* head_norm_rope, in place, on up to two windows of the same rows (q and k): per head RMS norm with w[dim] (NULL: left
 * out), then rotation of pairs by rope (rows as x's, float32; data NULL: none). At most one warp a head, two heads a
 * warp up to 128 columns: the grid's x-axis shares heads out, any size will do; ⌈rows·heads / CUDA_HEAD_WARPS⌉, half of
 * it up to 128 columns, has one for each. y: batch, z: windows. */
typedef struct cuda_head_args {
    cuda_view x[2];
    const float *w[2];
    cuda_view rope;
    int64_t heads, dim;
    float eps;
} cuda_head_args;

/* softmax(q·kᵀ·scale + bias)·v with a causal mask, a bias by distance, or a log-sum-exp: what cuDNN's fused operation
 * does not do. attention: any head size and type, one block for CUDA_ATTENTION_QUERIES queries of a head: grid
 * (⌈queries / that⌉, heads, batch). attention_64, attention_128: heads of that size, on tensor cores; q, k, v bf16, out
 * bf16 or float32, all wide, at least one key; one block for CUDA_TENSOR_QUERIES. lse: float32 [rows, heads]. */
typedef struct cuda_attention_args {
    cuda_view q, k, v, out, lse;
    const float *bias; /* [heads][bias_ld], score(q, k) gets column k − q + queries − 1; NULL: none */
    int64_t bias_ld, dim, heads;
    float scale;
    int32_t causal;
} cuda_attention_args;

/* softmax: out = softmax(in·scale) of each row, in float32, out bf16. One block a row (CUDA_NORM_THREADS threads). */
typedef struct cuda_softmax_args {
    cuda_view in, out;
    float scale;
} cuda_softmax_args;

/* attention_merge: (out, lse) ← the merge of (out, lse) and (other, other_lse). A warp a row's head; the grid's x-axis
 * shares them out. y: batch. */
typedef struct cuda_merge_args {
    cuda_view out, lse, other, other_lse;
    int64_t heads, dim;
} cuda_merge_args;

/* group_stats: partial (count, mean, M2) of every group over CUDA_GROUP_ROWS pixels: grid (chunks, groups, batch) into
 * partial [batch][chunks][groups][3]; group_merge: merges `chunks` partials of each group into stats rows (float32
 * [batch][groups][3]), a block a group at a time: grid (groups or fewer, batch); group_apply: sets·groups rows of
 * stats, normalise, SiLU; grid as group_stats. Where 64 channels are whole groups, blocks share out slices of 64
 * channels instead of groups, so that they read whole lines; the grid is the same. */
typedef struct cuda_group_args {
    cuda_view in, out, stats;
    float *partial;
    const float *w, *b;
    int64_t groups, chunks, sets;
    float eps;
    int32_t silu;
} cuda_group_args;

/* upsample: nearest ×2. in is height × width. The grid's x-axis shares input pixels out; y: batch. */
typedef struct cuda_upsample_args {
    cuda_view in, out;
    int64_t height, width;
} cuda_upsample_args;

/* embed: out[row] = table[ids[row]] (+ positions[first + row]); ids int32 in a float-sized view. Tables are float32 or
 * bf16, dense. An id outside the table writes NaN (the host has checked them before). Grid (rows, batch). */
typedef struct cuda_embed_args {
    cuda_view ids, out;
    const void *table, *positions; /* positions may be NULL */
    int64_t entries, first;
    int32_t table_bf16, positions_bf16;
} cuda_embed_args;

/* activate: out = f(in)⊙mul, mul left out when absent. add: out = x + s·gate⊙y (y of one row goes to every row). euler:
 * x += step size·v. copy: out = in's rows from `first`. finite: *flag = 1 if in has a NaN or infinity. epilogue: out =
 * f(in + b + addend)⊙mul⊙gate + residual, each left out when absent; in may be out. Element-wise: CUDA_ROW_THREADS
 * threads, one block for as many rows as make a good load; grid-stride. */
typedef struct cuda_element_args {
    cuda_view in, out, y, addend, mul, residual;
    cuda_table_view gate;
    const float *bias; /* [cols] or NULL */
    int64_t first;
    int64_t batch;
    float s;
    int32_t f; /* activation */
    int32_t *flag;
} cuda_element_args;

/* epilogue_norm: epilogue without addend, f and mul; *flag = 1 (NULL: left out) if its out has a NaN or infinity;
 * then layer_norm of its out, in one go over each row: norm.in is that out. Grid as layer_norm's. */
typedef struct cuda_exit_args {
    cuda_element_args epilogue;
    cuda_norm_args norm;
} cuda_exit_args;

/* im2col: rows of patches of output pixels [first, first + count) of the batch-major list of all output pixels, as
 * columns (ky, kx, channel), dense, in the input's own type: patches[count][kernel·kernel·channels]. top and bottom
 * rows stand in for zeros above and below. The grid's x-axis shares them out. */
typedef struct cuda_im2col_args {
    cuda_view in, top, bottom;
    void *patches;
    int64_t first, count;
    int64_t height, width, out_height, out_width, channels;
    int32_t kernel, stride;
} cuda_im2col_args;

/* gemm: out[m][n] = in·wᵀ, sums in float32; for what cuBLASLt refuses. in: view of one batch; w dense [n][k]; out
 * float32 or bf16. Tiles of 64 × 64, shared out over a grid of any shape. Of e4m3 operands (bf16 and w_bf16 CUDA_E4M3)
 * the result is multiplied by both scales: a row's own, or one for all. */
typedef struct cuda_gemm_args {
    cuda_view in, out;
    const void *w;
    int64_t n, k;
    int32_t w_bf16;
    int32_t scales_a_row;
    const float *in_scales, *w_scales;
} cuda_gemm_args;

/* largest: *largest = the largest magnitude of `in` (it must be 0 before; NaN are passed over); a block a row.
 * quantise: out = e4m3 of in divided by its scale, dense [batch][rows][cols], and the scales: of each row
 * [batch][rows], or where `largest` is given of the whole, one. NaN stays NaN, and infinity becomes it. */
typedef struct cuda_quantise_args {
    cuda_view in;
    uint8_t *out;
    float *scales;
    float *largest; /* NULL: a scale a row */
} cuda_quantise_args;

/* Types of packed weights, by their names in DTYPE_MAP (tensor/tensor.h); the plain ones are for weights of several
 * pieces. */
#define CUDA_PACKED_TYPES(X) \
    X(F32)                   \
    X(F16)                   \
    X(BF16)                  \
    X(F8_E4M3)               \
    X(F8_E5M2)               \
    X(I8)                    \
    X(BNB4)                  \
    X(Q4_0)                  \
    X(Q4_1)                  \
    X(Q5_0)                  \
    X(Q5_1)                  \
    X(Q8_0)                  \
    X(IQ4_NL)                \
    X(Q2_K)                  \
    X(Q3_K)                  \
    X(Q4_K)                  \
    X(Q5_K)                  \
    X(Q6_K)                  \
    X(IQ4_XS)

enum {
    CUDA_PACKED_NONE,
#define CUDA_PACKED_ENUM(name) CUDA_PACKED_##name,
    CUDA_PACKED_TYPES(CUDA_PACKED_ENUM)
#undef CUDA_PACKED_ENUM
};

/* What the stored values are multiplied by (tensor/scale.h): nothing, one factor, a factor a row and a constant, or
 * codes that are looked up, a factor every `run` elements of a row, rounded to a type. */
enum { CUDA_SCALE_NONE, CUDA_SCALE_FACTOR, CUDA_SCALE_ROWS, CUDA_SCALE_CODES };

/* decode: out = the values of rows of blocks, which follow each other without a gap; the bits of tensor_decode, NaN
 * aside. out: wide; cols: whole blocks, and whole runs. */
typedef struct cuda_decode_args {
    const uint8_t *from;
    const float *factors;
    cuda_view out;
    int64_t run;
    int32_t type, scale;
    int32_t rounded; /* CODES: CUDA_PACKED_F32, F16 or BF16 */
    float constant;
    float code[16];
} cuda_decode_args;

#define CUDA_KERNELS(X)                   \
    X(layer_norm, cuda_norm_args)         \
    X(rms_norm, cuda_norm_args)           \
    X(head_norm_rope, cuda_head_args)     \
    X(attention, cuda_attention_args)     \
    X(attention_64, cuda_attention_args)  \
    X(attention_128, cuda_attention_args) \
    X(softmax, cuda_softmax_args)         \
    X(attention_merge, cuda_merge_args)   \
    X(group_stats, cuda_group_args)       \
    X(group_merge, cuda_group_args)       \
    X(group_apply, cuda_group_args)       \
    X(upsample, cuda_upsample_args)       \
    X(embed, cuda_embed_args)             \
    X(activate, cuda_element_args)        \
    X(add, cuda_element_args)             \
    X(euler, cuda_element_args)           \
    X(copy, cuda_element_args)            \
    X(finite, cuda_element_args)          \
    X(epilogue, cuda_element_args)        \
    X(epilogue_norm, cuda_exit_args)      \
    X(im2col, cuda_im2col_args)           \
    X(gemm, cuda_gemm_args)               \
    X(largest, cuda_quantise_args)        \
    X(quantise, cuda_quantise_args)       \
    X(decode, cuda_decode_args)

/* What a launch can pass on every GPU. */
#ifdef __cplusplus
#define CUDA_ARGUMENTS_FIT(name, args) static_assert(sizeof(args) <= 4096, "the arguments of " #name);
#else
#define CUDA_ARGUMENTS_FIT(name, args) _Static_assert(sizeof(args) <= 4096, "the arguments of " #name);
#endif
CUDA_KERNELS(CUDA_ARGUMENTS_FIT)
#undef CUDA_ARGUMENTS_FIT

typedef enum cuda_kernel {
#define CUDA_KERNEL_ENUM(name, args) CUDA_KERNEL_##name,
    CUDA_KERNELS(CUDA_KERNEL_ENUM)
#undef CUDA_KERNEL_ENUM
        CUDA_KERNEL_COUNT
} cuda_kernel;

/* Block sizes that both sides must agree on. */
enum {
    CUDA_NORM_THREADS = 256,
    CUDA_LAYER_NORM_BLOCKS = 3, /* a multiprocessor has room for, by its registers */
    CUDA_EPILOGUE_NORM_BLOCKS = 2,
    CUDA_HEAD_WARPS = 8, /* 256 threads */
    CUDA_ATTENTION_THREADS = 128,
    CUDA_ATTENTION_QUERIES = 32,
    CUDA_TENSOR_QUERIES = 64, /* 128 threads */
    CUDA_ROW_THREADS = 256,
    CUDA_GROUP_THREADS = 256,
    CUDA_GROUP_ROWS = 1024, /* pixels a partial */
    CUDA_GEMM_TILE = 64,    /* 256 threads */
    CUDA_E4M3 = 2,          /* the type beside float32 (0) and bf16 (1) */
};

#endif
