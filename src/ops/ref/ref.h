/* The reference backend's insides: row-major float32, [batch][text rows, image rows][cols]; int32 ids in the same
 * cells. */
#ifndef FLUX1_OPS_REF_REF_H
#define FLUX1_OPS_REF_REF_H

#include "ops/check.h"
#include "ops/int8.h"

typedef struct ref_buffer {
    act_buffer head;
    float *data;
} ref_buffer;

typedef struct ref_numbers {
    int8_t *number;
    float *scale;
} ref_numbers;

typedef struct ref_weight {
    weight head;
    float *w;            /* [rows, cols] */
    float *bias;         /* [rows] or NULL */
    bool coarse;         /* w holds e4m3 values times their scale */
    ref_numbers numbers; /* of products in int8: [rows, int8_numbers], scales [rows, groups]; w is NULL then */
    struct ref_weight *next;
} ref_weight;

typedef struct ref_block {
    block head;
    struct ref_block *next;
} ref_block;

typedef struct ref_ops {
    ops head;
    arena memory;
    ref_weight *weights;
    ref_block *blocks;
    ops_fp8 fp8;
    int8_kind int8;
    bool int8_quads;
    unsigned char bad[OPS_SLOTS];
    int ended[OPS_STEPS_AHEAD]; /* lowest bad slot of the last steps */
} ref_ops;

/* Row `r` of the named part, from the window's first column. */
static inline float *ref_row(act a, int64_t b, int64_t r)
{
    const ref_buffer *f = (const ref_buffer *)a.buffer;
    const act_shape *s = &f->head.shape;
    return f->data + ((b * (s->rows[0] + s->rows[1]) + act_first_row(a) + r) * s->cols + a.col);
}

/* A table's row at the step counter for entry b of `batch`; NULL for a table left out. */
static inline const float *ref_table(const ops *o, act t, int64_t batch, int64_t b)
{
    return act_present(t) ? ref_row(t, 0, o->step * batch + b) : NULL;
}

static inline const ref_weight *ref_w(const weight *w) { return (const ref_weight *)w; }

/* sum[r] += Σ x[k]·w[r·stride + k·step], k = 0, 1, …, for `rows` of w: four sums at once, since none waits for another.
 */
void ref_dots(const float *x, const float *w, int64_t stride, int64_t step, int64_t rows, int64_t count, double *sum);

float ref_activation(activation f, float x);

/* Rounds `rows` of n floats to e4m3 values times their scale: each its own, or FP8_WHOLE, one. */
void ref_e4m3(ops_fp8 how, float *x, int64_t rows, int64_t n);

/* ref_int8.c (ops/int8.h): a weight's numbers; a row of the input as numbers, in the arena; output n of their product.
 */
flux1_status ref_int8_weight(int8_kind kind, const weight_recipe *r, ref_weight *out, flux1_error *err);
size_t ref_int8_scratch(int8_kind kind, int64_t cols);
flux1_status ref_int8_row(ref_ops *o, const float *x, int64_t cols, ref_numbers *out);
double ref_int8_dot(const ref_ops *o, const ref_weight *w, int64_t n, const ref_numbers *x);

/* ref_attention_int8.c: attention of heads of at most INT8_LONG; lse may be left out. */
flux1_status ref_int8_attention(ref_ops *o, act q, act k, act v, const attention_args *a, act out, act lse);
size_t ref_int8_attention_scratch(int64_t keys, int64_t dim);

#define REF_DECLARE(ret, name, args, call) ret ref_##name args;
OPS_PRIMITIVES(REF_DECLARE)
#undef REF_DECLARE

#endif
