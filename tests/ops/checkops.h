/* Every entry and composite of a backend against ops/ref, on random and worst-case shapes: no rows, one row, odd sizes,
 * parts, windows, batches. Outputs begin as NaN and whole buffers are compared, so that a cell not written, or written
 * outside the window, shows. Here are runs, activations and weights; checkops_cases.h has the cases, checkops_rules.h
 * what is not arithmetic, checkops_bench.h times. test_checkops.c is of ops/cpu, test_checkops_cuda.c of ops/cuda. */
#ifndef FLUX1_TESTS_CHECKOPS_H
#define FLUX1_TESTS_CHECKOPS_H

#pragma GCC diagnostic ignored "-Wunused-function" /* of what not every program uses */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/half.h"
#include "ops/int8.h"
#include "tensor/scale.h"
#include "ops/cpu/int8.h" /* sizes of its blocks: what lies on either side of them is worth a try on every backend */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_TENSORS 24
#define MAX_KEPT 8
#define MAX_GAPS 48
#define GAP 64 /* floats: a unit of the GPU's arena */
#ifndef ARENA
#define ARENA (256 << 20)
#endif

/* One run of a case on one backend. Everything random comes from `random`, so the same case draws the same shapes and
 * values on every backend; a dry run, which reads none, draws no values of tensors. */
typedef struct run {
    ops *o;
    flux1_error err;
    bool rounded; /* inputs hold bf16 values only */
    bool coarse;  /* linear weights are marked so */
    bool int8;    /* and so; some hold whole numbers with scales */
    bool dry, ref;
    uint64_t random;
    float *out; /* whole output buffers, one after the other */
    size_t count, room;
    size_t end[MAX_KEPT]; /* of each in `out` */
    int kept;
    store_tensor tensors[MAX_TENSORS];
    int tensor_count;
    block *held;       /* of the weight prepared last */
    act gap[MAX_GAPS]; /* before, between and behind activations: NaN, to the end */
    int gaps;
} run;

static uint64_t next(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random * 0x2545f4914f6cdd1dull;
}
static uint64_t draw(run *r) { return next(&r->random); }
static int64_t below(run *r, int64_t n) { return (int64_t)((draw(r) >> 33) % (uint64_t)n); }
static float value_of(const run *r, uint64_t *random)
{
    float x = ((float)(next(random) >> 40) * 0x1p-23f - 1) * 1.7f;
    return r->rounded ? bf16_round(x) : x;
}
static float value(run *r) { return value_of(r, &r->random); }
#define PICK(r, ...) pick(r, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]){__VA_ARGS__})
static int64_t pick(run *r, size_t n, const int64_t *list) { return list[below(r, (int64_t)n)]; }

static void ok(run *r, flux1_status st)
{
    if (st != FLUX1_OK)
        print_error("%s\n", r->err.message);
    assert_int_equal(st, FLUX1_OK);
}

static act whole(act a) { return act_whole(a.buffer); }

static void fill(run *r, act a, bool poison)
{
    act all = whole(a);
    int64_t shape[3] = {act_batch(all), act_rows(all), all.cols};
    tensor t;
    ok(r, tensor_create(DTYPE_F32, 3, shape, &t, &r->err));
    const int64_t n = tensor_elements(&t);
    uint64_t random = draw(r);
    for (int64_t i = 0; i < n && !r->dry; i++)
        ((float *)t.data)[i] = poison ? NAN : value_of(r, &random);
    if (n > 0)
        ok(r, ops_upload(r->o, &t, all));
    tensor_free(&t);
}

/* Of a program whose memory AddressSanitizer can watch: whether a gap can be touched. */
static void (*hide_gap)(const run *r, act gap, bool hidden);

static void leave_gap(run *r)
{
    assert_true(r->gaps < MAX_GAPS);
    act *gap = &r->gap[r->gaps++];
    tensor t;
    ok(r, tensor_create(DTYPE_F32, 3, (int64_t[]){1, 1, GAP}, &t, &r->err));
    memset(t.data, 0xff, GAP * sizeof(float));
    ok(r, ops_create(r->o, ACT_TABLE, shape_rows(1, 0, 1, GAP), gap));
    ok(r, ops_upload(r->o, &t, *gap));
    tensor_free(&t);
    if (hide_gap && !r->dry)
        hide_gap(r, *gap, true);
}

/* An activation between gaps. */
static act placed(run *r, act_role role, act_shape shape)
{
    act a;
    if (r->gaps == 0)
        leave_gap(r);
    ok(r, ops_create(r->o, role, shape, &a));
    leave_gap(r);
    return a;
}

/* The first gap that something was written to, −1 if there is none. A read of one shows in the results. */
static int written_gap(run *r)
{
    int found = -1;
    for (int i = 0; i < r->gaps && found < 0 && !r->dry; i++) {
        tensor t;
        ok(r, tensor_create(DTYPE_F32, 3, (int64_t[]){1, 1, GAP}, &t, &r->err));
        if (hide_gap)
            hide_gap(r, r->gap[i], false);
        ok(r, ops_download(r->o, r->gap[i], &t));
        for (int k = 0; k < GAP && found < 0; k++)
            found = isnan(((float *)t.data)[k]) ? -1 : i;
        tensor_free(&t);
    }
    return found;
}

/* A window [batch, rows, cols] of a buffer that may be wider, in a part of it that may have company and rows before and
 * after the window. */
static act make(run *r, act_role role, int64_t batch, int64_t rows, int64_t cols, bool poison)
{
    int64_t left = PICK(r, 0, 0, 8, 5), right = PICK(r, 0, 0, 16, 3), other = PICK(r, 0, 3, 1),
            above = PICK(r, 0, 0, 0, 1, 7), under = PICK(r, 0, 0, 2, 5), all = above + rows + under;
    act_part part = (act_part)(below(r, 3) - 1);
    act_shape shape = shape_rows(batch, other, all, left + cols + right);
    if (part == PART_WHOLE)
        shape.rows[0] = all / 3, shape.rows[1] = all - all / 3;
    else if (part == PART_TEXT)
        shape.rows[0] = all, shape.rows[1] = other;
    act a = placed(r, role, shape);
    fill(r, a, poison);
    return act_slice(act_columns(act_of(a, part), left, cols), above, rows);
}
static act input(run *r, act_role role, int64_t batch, int64_t rows, int64_t cols)
{
    return make(r, role, batch, rows, cols, false);
}
static act output(run *r, act_role role, int64_t batch, int64_t rows, int64_t cols)
{
    return make(r, role, batch, rows, cols, true);
}
/* A whole buffer. */
static act joint(run *r, act_role role, int64_t batch, int64_t text, int64_t image, int64_t cols, bool poison)
{
    act a = placed(r, role, shape_rows(batch, text, image, cols));
    fill(r, a, poison);
    return a;
}
static act plane(run *r, int64_t batch, int64_t height, int64_t width, int64_t channels, bool poison)
{
    act a = placed(r, ACT_PLANE, shape_plane(batch, height, width, channels));
    fill(r, a, poison);
    return a;
}
/* A table of 3 steps for `batch` entries; the step counter stands at 1, or where any_step puts it. */
static act table(run *r, int64_t batch, int64_t cols)
{
    act a = placed(r, ACT_TABLE, shape_rows(1, 0, 3 * batch, cols + 4));
    fill(r, a, false);
    return act_columns(a, 4, cols);
}
static void any_step(run *r) { ok(r, ops_step_set(r->o, below(r, 3))); }
static act maybe(run *r, act a) { return below(r, 2) ? a : (act){0}; }

/* Keeps the whole buffer behind an output for comparison. */
static void keep(run *r, act a)
{
    act all = whole(a);
    int64_t shape[3] = {act_batch(all), act_rows(all), all.cols};
    tensor t;
    ok(r, tensor_create(DTYPE_F32, 3, shape, &t, &r->err));
    size_t n = (size_t)tensor_elements(&t);
    if (n == 0)
        return tensor_free(&t);
    ok(r, ops_download(r->o, all, &t));
    if (r->count + n > r->room)
        assert_non_null(r->out = realloc(r->out, (r->room = 2 * (r->count + n)) * sizeof(float)));
    memcpy(r->out + r->count, t.data, n * sizeof(float));
    r->count += n;
    assert_true(r->kept < MAX_KEPT);
    r->end[r->kept++] = r->count;
    tensor_free(&t);
}

/* ---- weights in memory ---- */

enum { WEIGHT_TYPES = 5 };
static const dtype weight_types[WEIGHT_TYPES] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16,
                                                 DTYPE_F64,      /* decoded when prepared */
                                                 DTYPE_F8_E4M3}; /* a CPU decodes it on the way into panels */

/* Each tensor is as if of a store and a file of its own: memory that is used again has other contents. */
static store_tensor *new_tensor(run *r)
{
    static uint64_t stores;
    assert_true(r->tensor_count < MAX_TENSORS);
    store_tensor *t = &r->tensors[r->tensor_count++];
    *t = (store_tensor){
        .name = "w", .file = "memory", .store = ++stores, .source = {.device = FILE_DEVICE_NONE, .inode = stores}};
    return t;
}

static const store_tensor *weight_tensor(run *r, dtype type, int dims, const int64_t *shape)
{
    store_tensor *t = new_tensor(r);
    ok(r, tensor_create(type, dims, shape, &t->view, &r->err));
    const int64_t n = tensor_elements(&t->view);
    uint64_t random = draw(r);
    for (int64_t i = 0; i < n && !r->dry; i++) {
        const float x = value_of(r, &random);
        if (type == DTYPE_F32)
            ((float *)t->view.data)[i] = x;
        else if (type == DTYPE_F64)
            ((double *)t->view.data)[i] = x;
        else if (type == DTYPE_F8_E4M3)
            ((uint8_t *)t->view.data)[i] = e4m3_from_f32(x);
        else
            ((uint16_t *)t->view.data)[i] = type == DTYPE_BF16 ? bf16_from_f32(x) : f16_from_f32(x);
    }
    return t;
}

/* Blocks of Q8_0; the numbers are any bytes, −128 too. */
static const store_tensor *q8_tensor(run *r, int64_t rows, int64_t cols)
{
    enum { BLOCK = 34 };
    store_tensor *t = new_tensor(r);
    ok(r, tensor_create(DTYPE_Q8_0, 2, (int64_t[]){rows, cols}, &t->view, &r->err));
    uint64_t random = draw(r);
    for (int64_t b = 0; b < rows * cols / INT8_GROUP && !r->dry; b++) {
        unsigned char *q8 = (unsigned char *)t->view.data + b * BLOCK;
        const uint16_t scale = f16_from_f32(value_of(r, &random) / 127);
        memcpy(q8, &scale, sizeof scale);
        for (int i = 2; i < BLOCK; i++)
            q8[i] = (unsigned char)next(&random);
    }
    return t;
}

/* int8 with a scale for all of it, or for each row. */
static const store_tensor *int8_tensor(run *r, int64_t rows, int64_t cols)
{
    enum { ROWS = 1 << 12 };
    static float factors[ROWS];
    static tensor_scale whole, by_row[MAX_TENSORS];
    assert_true(rows <= ROWS);
    for (int i = 0; i < ROWS; i++)
        factors[i] = (float)(1 + i % 7) / 300;
    tensor factor = {.type = DTYPE_F32, .dims = 1, .shape = {rows}, .data = factors};
    store_tensor *t = new_tensor(r);
    ok(r, tensor_create(DTYPE_I8, 2, (int64_t[]){rows, cols}, &t->view, &r->err));
    uint64_t random = draw(r);
    for (int64_t i = 0; i < rows * cols && !r->dry; i++)
        ((int8_t *)t->view.data)[i] = (int8_t)next(&random);
    whole = (tensor_scale){.kind = SCALE_FACTOR, .factor = factor};
    by_row[r->tensor_count - 1] = (tensor_scale){.kind = SCALE_ROWS, .factor = factor, .row = cols, .constant = 0.9f};
    t->view.scale = below(r, 2) ? &whole : &by_row[r->tensor_count - 1];
    return t;
}

static weight_recipe matrix_recipe(run *r, weight_role role, int64_t rows, int64_t cols)
{
    const int64_t kind = r->int8 && role == WEIGHT_LINEAR ? below(r, 3) : 2;
    if (kind == 0 && cols % INT8_GROUP == 0)
        return recipe_whole(role, q8_tensor(r, rows, cols));
    if (kind == 1)
        return recipe_whole(role, int8_tensor(r, rows, cols));
    return recipe_whole(role, weight_tensor(r, weight_types[below(r, WEIGHT_TYPES)], 2, (int64_t[]){rows, cols}));
}

/* [rows, cols] of one tensor, a slice of a larger one, or tiled by several of different types. */
static weight_recipe linear_recipe(run *r, int64_t rows, int64_t cols)
{
    weight_recipe a, b, w;
    int64_t at;
    switch (below(r, 4)) {
    case 0:
        w = matrix_recipe(r, WEIGHT_LINEAR, rows + 5, cols + 3);
        w = recipe_rows(&w, 2, rows);
        return recipe_cols(&w, 3, cols);
    case 1:
        at = rows / 3;
        a = matrix_recipe(r, WEIGHT_LINEAR, at, cols);
        b = matrix_recipe(r, WEIGHT_LINEAR, rows - at, cols);
        ok(r, recipe_stack(&a, &b, &w, &r->err));
        return w;
    case 2:
        at = cols / 3;
        a = matrix_recipe(r, WEIGHT_LINEAR, rows, at);
        b = matrix_recipe(r, WEIGHT_LINEAR, rows, cols - at);
        ok(r, recipe_beside(&a, &b, &w, &r->err));
        return w;
    default: return matrix_recipe(r, WEIGHT_LINEAR, rows, cols);
    }
}
static weight *prepare_with(run *r, const weight_recipe *w, const weight_recipe *bias)
{
    weight *out;
    ok(r, ops_block_create(r->o, "the block",
                           &r->held)); /* one each: a block's weights are all known before it is begun */
    ok(r, ops_prepare(r->o, r->held, w, bias, &out));
    ok(r, ops_block_begin(r->o, r->held));
    return out;
}
static weight *prepare(run *r, const weight_recipe *w, bool bias)
{
    weight_recipe b = {0};
    if (bias)
        b = recipe_whole(WEIGHT_VECTOR,
                         weight_tensor(r, weight_types[below(r, WEIGHT_TYPES)], 1, (int64_t[]){w->rows}));
    return prepare_with(r, w, bias ? &b : NULL);
}
static weight *linear_of(run *r, int64_t rows, int64_t cols, bool bias)
{
    weight_recipe w = linear_recipe(r, rows, cols);
    w.coarse = r->coarse;
    w.int8 = r->int8;
    return prepare(r, &w, bias);
}
static weight *vector_weight(run *r, int64_t n, bool bias)
{
    weight_recipe w =
        recipe_whole(WEIGHT_VECTOR, weight_tensor(r, weight_types[below(r, WEIGHT_TYPES)], 1, (int64_t[]){n}));
    return prepare(r, &w, bias);
}

/* ---- running a case on a backend ---- */

/* `create`: NULL for the dry backend. */
static void start_run(run *r, flux1_status (*create)(const ops_config *, ops **), const ops_sizing *sizing,
                      const ops_config *config, bool rounded, uint64_t seed)
{
    *r = (run){.rounded = rounded,
               .coarse = config->fp8 != FP8_NO,
               .int8 = config->int8,
               .ref = create == ops_ref_create,
               .random = seed * 0x9e3779b97f4a7c15ull + 1,
               .dry = !create};
    ops_config c = *config;
    c.err = &r->err;
    ok(r, create ? create(&c, &r->o) : ops_dry_create(&c, sizing, &r->o));
    ok(r, ops_reserve(r->o, ARENA));
    ok(r, ops_step_set(r->o, 1));
}

static void close_run(run *r)
{
    ops_destroy(r->o);
    for (int i = 0; i < r->tensor_count; i++)
        tensor_free(&r->tensors[i].view);
    free(r->out);
}

/* NaN in the same cells, and the relative L2 distance of the rest: the worst of the outputs kept, so that a large one
 * does not hide a small one. */
static double distance(const run *a, const run *b)
{
    double worst = 0;
    size_t i = 0;
    assert_int_equal(a->count, b->count);
    for (int k = 0; k < a->kept; k++) {
        double difference = 0, size = 0;
        for (; i < a->end[k]; i++) {
            if (isnan(a->out[i]) != isnan(b->out[i]))
                fail_msg("cell %zu is %g, should be %g", i, (double)b->out[i], (double)a->out[i]);
            if (isnan(a->out[i]))
                continue;
            difference += a->out[i] == b->out[i] ? 0 : pow((double)a->out[i] - b->out[i], 2); /* equal infinities */
            size += isinf(a->out[i]) ? 0 : pow(a->out[i], 2);
        }
        worst = fmax(worst, size > 0 ? sqrt(difference / size) : difference > 0 ? INFINITY : 0);
    }
    return worst;
}

/* ---- time ---- */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#endif
