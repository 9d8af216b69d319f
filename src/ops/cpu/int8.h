/* Products in int8 (ops/int8.h says what they are). int8.c decides which weights have a form of their own and cuts a
 * product into tasks; the tasks are kernels_int8.h, compiled once per instruction set (int8_<isa>.c).
 *
 * INT8_FINE: weights stored as floats, and computed ones, are quantised once: [rows, whole groups] numbers and [rows,
 * groups] scales in the block's own form; the file's pages are given back. Packed weights stay as the file has them:
 * Q8_0 and int8 are read in place, the others are decoded and quantised on the way into the product, once a task:
 * repacking 4 bits as 8 would double their memory.
 *
 * INT8_ROTATED: no file has such numbers, so every weight has a form of its own, in blocks that AMX takes as they lie:
 * [rows/16][numbers/64][16 rows][64 numbers], zeros behind the last row; then [rows, groups] scales. */
#ifndef FLUX1_OPS_CPU_INT8_H
#define FLUX1_OPS_CPU_INT8_H

#include "ops/cpu/cpu.h"
#include "ops/int8.h"

/* Groups of a k block, fine ones; outputs of a task at most, and its rows; rows of the largest panel. */
enum { INT8_BLOCK_GROUPS = 16, INT8_MOST_COLS = 112, INT8_MOST_ROWS = 2048, INT8_MOST_TOKENS = 32 };
enum { INT8_BLOCK_K = INT8_BLOCK_GROUPS * INT8_GROUP };
/* A block of the rotated form. */
enum { INT8_FORM_ROWS = 16, INT8_FORM_COLS = 64, INT8_FORM = INT8_FORM_ROWS * INT8_FORM_COLS };

typedef struct int8_job {
    const gemm_job *g; /* its shape and epilogue */
    const cpu_int8_kernels *kernels;
    const cpu_int8_way *way;
    cpu_finish_fn *finish;
    const cpu_weight *w;
    int32_t *panels; /* the input: [panel][k/4][tokens] words of four numbers along k */
    float *scales;   /* [panel][group][tokens] */
    int32_t *starts; /* the same: −128 times a group's sum, which sums begin with where weights have 128 added */
    int64_t groups, numbers; /* of a row */
    int64_t block_n, block_m, blocks_m, threads;
    int lays; /* panels, and of them those that lie ready */
    const atomic_int *laid;
} int8_job;

/* Of one kind. lay: index is a panel; gemm: a block of block_n outputs and block_m rows (whole panels). */
struct cpu_int8_way {
    int tile, cols, rows; /* outputs of a tile, and of a task at most; its rows at most */
    bool quads;           /* of the input (ops/int8.h) */
    /* groups of values: whole groups of numbers and a scale each; of the input, so that a rotated weight's scales want
     * their 1/length yet */
    void (*quantise)(const float *values, int64_t count, int8_t *numbers, float *scales);
    pool_fn *lay, *gemm;
};

struct cpu_int8_kernels {
    int tokens; /* rows of a panel */
    const cpu_decoders *decoders;
    cpu_int8_way fine, rotated;
    pool_fn *attention; /* of an attention_job; NULL: none */
};

/* A weight's row in whole groups from column `col` of one, count <= INT8_BLOCK_K. values: as many floats of scratch. */
void cpu_int8_row(const int8_job *j, int64_t row, int64_t col, int64_t count, float *values, int8_t *numbers,
                  float *scales);

/* A recipe's own form: whether it has one, its bytes, and its making. */
bool cpu_int8_own(int8_kind kind, const weight_recipe *r);
flux1_status cpu_int8_place(int8_kind kind, const weight_recipe *r, size_t *bytes, flux1_error *err);
flux1_status cpu_int8_fill(cpu_ops *o, const weight_recipe *r, unsigned char *out);
void cpu_int8_point(cpu_weight *w, const unsigned char *form);

size_t cpu_int8_scratch(int8_kind kind, int64_t m, int64_t k);
flux1_status cpu_int8_product(cpu_ops *o, const gemm_job *g, const cpu_weight *w);

#endif
