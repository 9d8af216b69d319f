/* The CPU backend's insides. cpu.c makes a backend, isa.c chooses its kernels, device.c is what all backends share;
 * memory.c holds the arena and what is moved, order.c the steps, weights.c blocks and recipes. linear.c, conv.c,
 * attention.c, rows.c and planes.c cut an entry into tasks for the pool; the tasks themselves are the kernels_*.h,
 * compiled once per instruction set (kernels_<isa>.c) over the vectors of simd.h.
 *
 * Layout: an activation is row-major, [batch][text rows, image rows][cols], float32 or bf16 by role and arithmetic.
 * Weights stay as the file has them and are converted block by block, in scratch that each worker has from the start;
 * a linear layer's inputs are transposed once for all workers, in the arena. A task's result depends only on its
 * outputs' coordinates, never on how many tasks or threads there are. */
#ifndef FLUX1_OPS_CPU_CPU_H
#define FLUX1_OPS_CPU_CPU_H

#include "base/checked.h"
#include "base/pool.h"
#include "ops/check.h"
#include "ops/cpu/decoders.h"
#include "ops/cpu/stream.h"
#include "ops/device.h"
#include "ops/kept.h"
#include "ops/record.h"

/* One k block of `multiply` (products have their own, kernels_product.h): 192 words. A panels are rows of LDA words:
 * not a multiple of a page, so that a tile's rows do not share cache sets; and wide enough for the last vector to run
 * over. */
enum {
    GEMM_STEPS = 192,
    GEMM_LDA = GEMM_STEPS + 16,
    GEMM_ROWS = 576,
    GEMM_COLS = 1024,
    GEMM_LDC = GEMM_COLS + 16,
    GEMM_FEW = 16
};
/* Rows of a product that are laid at once, for all threads: at most this many. */
enum { PRODUCT_ROWS = 2048 };
enum { GEMM_SCRATCH = GEMM_ROWS * GEMM_LDA + GEMM_COLS * GEMM_STEPS + GEMM_ROWS * GEMM_LDC }; /* floats a worker */

/* Attention: at most so many queries a task (whole panels, of at most ATTENTION_PANEL; INT8_QUERIES: multiplied in
 * int8, where each task quantises the keys and values that it reads), and keys a block. */
enum { ATTENTION_QUERIES = 512, INT8_QUERIES = 1536, ATTENTION_PANEL = 32, ATTENTION_KEYS = 192 };

/* Words between keys of a head's values: a whole vector beyond, and not a multiple of a page. */
static inline int64_t attention_ldv(int64_t dim) { return i64_ceil_div(dim, 16) * 16 + 16; }

enum { STATS_PARTIALS = 16384, STATS_CHUNKS = 64, STATS_ROWS = 32 };

typedef struct cpu_buffer {
    act_buffer head;
    unsigned char *data;
    bool bf16; /* its values; otherwise float32 */
} cpu_buffer;

/* Rows of a part, all batches, from the window's first column. */
typedef struct view {
    unsigned char *data;
    int64_t ld;           /* elements between rows */
    int64_t batch_stride; /* elements between batches */
    int64_t rows;         /* of one batch */
    int64_t cols;
    bool bf16;
} view;

static inline void *view_row(const view *v, int64_t m)
{
    int64_t b = v->rows ? m / v->rows : 0;
    return v->data + (size_t)(b * v->batch_stride + (m - b * v->rows) * v->ld) * (v->bf16 ? 2 : 4);
}

/* Rows of a table, one a batch entry: entry b's at row + b·ld. row NULL: left out. */
typedef struct table_rows {
    const float *row;
    int64_t ld;
} table_rows;

static inline const float *table_row(const table_rows *t, int64_t b) { return t->row ? t->row + b * t->ld : NULL; }

/* A logical matrix [rows, cols] tiled by pieces of f32, f16 or bf16 bytes, which may lie at odd addresses, or of packed
 * ones. */
typedef struct matrix_piece {
    const unsigned char *data;
    dtype type;
    int64_t ld;
    int64_t row, col, rows, cols;
    const tensor *packed; /* NULL: the kernels read `data`. Otherwise they call cpu_decode_piece */
    int64_t first;        /* the element of `packed` at (row, col) */
} matrix_piece;

typedef struct matrix {
    int64_t rows, cols;
    int count;
    matrix_piece piece[RECIPE_PIECES];
} matrix;

/* Columns that a kernel decodes at once: whole units of every type, and few enough for its stack. */
enum { DECODE_COLS = 192 };

/* tensor_decode (a recipe_decoder) by the kernels' decoders, cpu_decoders at arg: they give the same bits. NULL, or of
 * a type that they do not have: by the definition. */
flux1_status cpu_decode_tensor(const void *arg, const tensor *t, int64_t first, int64_t count, float *out,
                               flux1_error *err);

/* Decodes rows and columns of a packed piece to out[rows·cols], and returns the piece that they are. decoders NULL: by
 * tensor_decode. */
matrix_piece cpu_decode_piece(const cpu_decoders *decoders, const matrix_piece *p, int64_t row, int64_t rows,
                              int64_t col, int64_t cols, float *out);

typedef struct cpu_weight {
    weight head;
    weight_recipe recipe, bias_recipe;
    bool own;    /* not as it lies in the file: in the block's kept memory, at `at` */
    bool sliced; /* some columns of a file's matrix: in the block's packed form they lie alone, at `at` of its slices */
    size_t at, bias_at;
    const int8_t *numbers; /* of its own form for products in int8 (int8.h), with their scales; NULL: m */
    const float *scales;
    matrix m;            /* LINEAR, CONV (as [out, ky, kx, in]), TABLE */
    const float *vector; /* VECTOR: [rows] */
    const float *bias;   /* [rows] or NULL */
    struct cpu_weight *next;
} cpu_weight;

typedef struct cpu_block {
    block head;
    cpu_weight *weights;
    uint64_t key[2];
    size_t bytes;         /* of its weights' own forms */
    size_t slices;        /* of its sliced weights, which follow in the packed form; 0: it has no other form */
    kept_block *kept;     /* its form; NULL: not ready, or none */
    bool packed;          /* the packed one, which was lent */
    size_t own;           /* bytes of it, where it is memory that it should not take (forms_in_files) */
    bool ready;           /* its weights point at what they are */
    stream_block mapped;  /* its weights that are read where the file is mapped */
    stream_range *ranges; /* mapped.range; room for `room` */
    int room;
    struct cpu_block *next; /* in creation order */
} cpu_block;

/* Output is cut into blocks of block_m × block_n, a task each. */
typedef struct gemm_job {
    int64_t m, n, k, block_m, block_n, blocks_m;
    view in, out, addend, mul, residual; /* addend, mul, residual: data NULL when left out */
    const matrix *w;
    const float *bias;
    table_rows gate;
    activation f;
    float *scratch; /* GEMM_SCRATCH floats a worker */
    const atomic_int *cancel;
    /* linear layer: its inputs' rows [first, first + rows), laid as panels for all workers */
    int64_t entry; /* rows of one batch entry: they say which way all go, so that a batch's sums are those of one */
    int64_t first, rows; /* under way */
    float *panels;
    int lays;               /* panels of the rows under way */
    const atomic_int *laid; /* of them, those that lie ready */
    int64_t threads;
} gemm_job;

/* A 3×3 convolution. g has what a product's epilogue needs; its blocks of block_m are panels of a strip's pixels. */
typedef struct conv_job {
    gemm_job g;
    view in, top, bottom;                                   /* top, bottom: data NULL: zeros */
    int64_t channels, height, width, out_height, out_width; /* out: before upsampling */
    int stride;
    bool upsample;             /* the input, twice as high and wide, before the convolution */
    bool winograd;             /* by kernels_winograd.h */
    int parts, before;         /* columns of a line lie in so many parts (even, odd), with zeros for one in front */
    const norm_before *norm;   /* what the input passes as it is laid; NULL: nothing */
    float *mean, *scale;       /* its factors for the item under way, [channels] */
    const float *shift;        /* or NULL */
    int64_t item, first, rows; /* the strip under way: so many output rows of a batch item */
    int64_t wide, panels;      /* panels of a row (of pixels, or of tiles) and of the strip */
    int64_t ldx;               /* floats between lines of words */
    float *lines;
} conv_job;

typedef struct attention_job {
    view q, k, v, out, lse, bias;                            /* lse, bias: data NULL when left out */
    int64_t batch, heads, dim, queries, keys, block, blocks; /* `blocks` tasks of `block` queries a head */
    float scale;
    bool causal;
    unsigned char *scratch;
    size_t scratch_stride;
    const atomic_int *cancel;
} attention_job;

/* Count, mean and Σ (x − mean)². */
typedef struct moments {
    double count, mean, m2;
} moments;

/* Chan, Golub, LeVeque 1979. */
static inline void moments_merge(moments *a, double count, double mean, double m2)
{
    if (count == 0)
        return;
    double total = a->count + count, delta = mean - a->mean;
    a->m2 += m2 + delta * delta * a->count * count / total;
    a->mean += delta * count / total;
    a->count = total;
}

/* Anything that goes row by row: task i does rows [i·chunk, (i+1)·chunk). Which members count is the kernel's. */
typedef struct rows_job {
    view in, out, y, rope;
    int64_t rows, chunk, cols, heads, dim, first, width, height;
    const float *w, *b;
    table_rows shift, scale, factor; /* of the step and batch entry */
    const matrix *table, *positions;
    float eps, s;
    bool silu;
    activation f;
    atomic_int *flag;
    moments *partial; /* group_stats: [chunks][groups] */
    float *scratch;   /* GEMM_SCRATCH floats a worker */
} rows_job;

/* Sums of output row m, columns [n, n + count), become outputs. */
typedef void cpu_finish_fn(const gemm_job *g, int64_t m, int64_t n, int64_t count, const float *sums);

typedef struct cpu_int8_kernels cpu_int8_kernels; /* int8.h */
typedef struct cpu_int8_way cpu_int8_way;
extern const cpu_int8_kernels cpu_int8_portable, cpu_int8_avx2, cpu_int8_avxvnni, cpu_int8_avx512vnni,
    cpu_int8_avx512amx, cpu_int8_neon, cpu_int8_neondot, cpu_int8_neoni8mm;

/* One instruction set: the shape of its register tile, and the tasks. */
typedef struct cpu_kernels {
    bool bf16; /* products of bf16 pairs */
    int tile_cols, product_cols;
    int cut_cols, cut_beside; /* cut_limits.tile and .beside */
    int winograd_panels;      /* of a task, at most */
    cpu_finish_fn *finish;
    pool_fn *lay, *product, *gemv, *lay_line, *conv, *attention, *attention_merge;
    pool_fn *winograd; /* NULL where products are of bf16 pairs */
    pool_fn *layer_norm, *rms_norm, *head_norm_rope, *embed, *activate, *add, *copy, *finite, *group_stats,
        *group_apply, *upsample;
} cpu_kernels;

extern const cpu_kernels cpu_kernels_portable, cpu_kernels_avx2, cpu_kernels_avx512, cpu_kernels_avx512bf16,
    cpu_kernels_avx512amx, cpu_kernels_neon, cpu_kernels_neonbf16;

/* An instruction set: its kernels by arithmetic. */
typedef struct cpu_instruction_set {
    bool (*present)(void);
    const cpu_kernels *f32, *bf16;
    const cpu_int8_kernels *int8;
    const char *name;
} cpu_instruction_set;

typedef struct cpu_device {
    ops_device head;
    kept *kept;
} cpu_device;

typedef struct cpu_ops {
    ops head;
    const cpu_kernels *kernels;
    bool bf16;                    /* arithmetic is bf16 */
    const cpu_int8_kernels *int8; /* NULL: no products in int8 */
    int8_kind int8_as;
    int threads;
    pool *workers;
    arena memory;
    call_list calls;
    float *scratch;    /* threads × GEMM_SCRATCH */
    moments *partials; /* STATS_PARTIALS */
    cpu_block *blocks, **last_block;
    stream stream;
    bool listed;           /* the stream knows the blocks */
    bool forms_in_files;   /* as ops_config's */
    size_t budget, own;    /* of weights_budget; and what blocks' own forms take of it, which nobody has lent */
    kept *kept, *own_kept; /* the device's, or of a backend without one */
    atomic_int bad[OPS_SLOTS];
    int ended[OPS_STEPS_AHEAD]; /* lowest bad slot of the last steps */
} cpu_ops;

static inline cpu_ops *cpu_self(ops *o) { return (cpu_ops *)o; }
static inline const cpu_weight *cpu_w(const weight *w) { return (const cpu_weight *)w; }

view cpu_view(act a); /* zeroed for an act left out */
/* A table's rows at the step counter, for an output of `batch` entries. */
table_rows cpu_table(const cpu_ops *o, act t, int64_t batch);

/* isa.c: the best that the machine has, or the one that FLUX1_CPU_ISA names, for tests and for a machine that lies. */
flux1_status cpu_instruction_set_choose(const cpu_instruction_set **out, flux1_error *err);

/* weights.c */
extern const kept_memory cpu_kept_memory;
static inline void *cpu_kept_data(const kept_block *b) { return (void *)(uintptr_t)b->data; }
void cpu_blocks_free(cpu_ops *o);
void cpu_blocks_unwind(cpu_ops *o); /* none is held any more */
void cpu_block_key(ops *o, const block *b, uint64_t key[2], size_t *bytes);
flux1_status cpu_block_export(ops *o, block *b, void *out);
void cpu_weights_budget(ops *o, size_t bytes);

/* ops_cpu_sizing.weight_bytes */
size_t cpu_weight_bytes(const ops_config *c, const weight_recipe *w, const weight_recipe *bias);

/* Of all workers' panels. */
static inline size_t cpu_scratch_bytes(int threads)
{
    return size_round_up((size_t)(threads > 1 ? threads : 1) * GEMM_SCRATCH * sizeof(float), ARENA_ALIGN);
}

/* Runs a rows job in chunks of about 16k elements. */
void cpu_rows(cpu_ops *o, pool_fn *fn, rows_job *job);

size_t cpu_attention_scratch(int64_t dim, bool int8); /* bytes a worker */
/* Bytes of a product's laid inputs, where the kernels multiply pairs of bf16 or floats; 0 for few rows. */
size_t cpu_product_scratch(int64_t m, int64_t entry, int64_t n, int64_t k, bool pairs);
/* Bytes of a 3×3 convolution's laid lines, for `pixels` outputs (before upsampling) of an input so wide. */
size_t cpu_conv_scratch(int64_t pixels, int64_t width, int stride, int64_t channels, bool pairs);

/* What a group norm takes off each of `cols` channels of item b, and multiplies by. */
void cpu_group_factors(const norm_before *n, int64_t b, int64_t cols, float *mean, float *scale);

/* A product's job, but for what cuts it. */
flux1_status cpu_run_product(cpu_ops *o, gemm_job *g);

/* cut.c: a product's tasks are blocks of rows and columns, as few as keep all threads busy until about the same time.
 */
typedef struct cut_limits {
    int64_t panel, rows; /* rows of a block are whole panels, and at most */
    int64_t tile, cols;  /* and its columns whole tiles, and at most */
    int64_t beside;      /* what a task costs beside its columns, in columns */
} cut_limits;
typedef struct product_cut {
    int64_t block_m, blocks_m, block_n, tasks;
} product_cut;
product_cut cpu_cut_product(int64_t m, int64_t n, int64_t threads, const cut_limits *most);

/* Tasks that lay a product's inputs, and those that multiply them, behind each other in one run: who comes first copies
 * weights while others lay. */
typedef struct product_run {
    pool_fn *lay, *multiply;
    void *job;
    int lays;
    atomic_int laid;
} product_run;
void cpu_run_laid(cpu_ops *o, product_run *run, int64_t tasks);

#define CPU_DECLARE(ret, name, args, call) ret cpu_##name args;
OPS_PRIMITIVES(CPU_DECLARE)
flux1_status cpu_upsample_conv(ops *o, act in, act top, act bottom, const weight *w, act out);
flux1_status cpu_norm_conv(ops *o, act in, act top, act bottom, const norm_before *n, const weight *w, act residual,
                           act out);
#undef CPU_DECLARE

#endif
