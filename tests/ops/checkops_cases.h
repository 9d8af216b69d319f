/* The cases: each draws shapes and values, calls one entry or more, and keeps what they gave. */
#ifndef FLUX1_TESTS_CHECKOPS_CASES_H
#define FLUX1_TESTS_CHECKOPS_CASES_H

#include "ops/checkops.h"

static act_role linear_input(run *r)
{
    return (act_role)PICK(r, ACT_LINEAR, ACT_LINEAR, ACT_HEADS, ACT_RESIDUAL, ACT_TABLE);
}
static act_role linear_output(run *r) { return (act_role)PICK(r, ACT_LINEAR, ACT_HEADS, ACT_RESIDUAL, ACT_PARTIAL); }

static void case_linear(run *r)
{
    int64_t batch = PICK(r, 1, 1, 2, 3), rows = PICK(r, 0, 1, 2, 3, 4, 5, 8, 9, 13, 14, 15, 29, 70, 131),
            k = PICK(r, 0, 1, 3, 16, 31, 64, 65, GEMM_STEPS, GEMM_STEPS + 1, 2 * GEMM_STEPS + 1, 600),
            n = PICK(r, 0, 1, 3, 16, 31, 33, 64, 100, 130);
    act_role role = linear_output(r);
    weight *w = linear_of(r, n, k, below(r, 2));
    any_step(r);
    epilogue e = {.addend = maybe(r, input(r, ACT_PARTIAL, batch, rows, n)),
                  .f = (activation)below(r, 5),
                  .mul = maybe(r, input(r, ACT_LINEAR, batch, rows, n)),
                  .gate = maybe(r, table(r, batch, n))};
    act in = input(r, linear_input(r), batch, rows, k), residual = input(r, ACT_RESIDUAL, batch, rows, n),
        out = output(r, role, batch, rows, n);
    int64_t with = below(r, 3);
    e.residual = with ? residual : (act){0};
    if (with == 2) /* in place */
        out = residual;
    ok(r, ops_product(r->o, in, w, &e, out));
    keep(r, out);
}

/* Q8_0 as it lies, its blocks cut by windows that begin or end within one, and beside another type. Some inputs are
 * zeros, or tiny. */
static void case_int8_cuts(run *r)
{
    const int64_t rows = PICK(r, 1, 9, 40), n = PICK(r, 5, 130), k = PICK(r, 64, 96, 576), cut = PICK(r, 0, 7, 32, 45);
    weight_recipe q = recipe_whole(WEIGHT_LINEAR, q8_tensor(r, n, k)), w = recipe_cols(&q, cut, k - cut);
    if (below(r, 2)) {
        weight_recipe other = matrix_recipe(r, WEIGHT_LINEAR, n, PICK(r, 16, 64)), beside;
        ok(r, recipe_beside(&w, &other, &beside, &r->err));
        w = beside;
    }
    w.int8 = true;
    weight *p = prepare(r, &w, true);
    act in = input(r, ACT_LINEAR, 1, rows, w.cols), out = output(r, ACT_LINEAR, 1, rows, n),
        small = input(r, ACT_LINEAR, 1, rows, w.cols), out2 = output(r, ACT_LINEAR, 1, rows, n);
    ok(r, ops_add(r->o, small, (float)PICK(r, -1, 0), (act){0}, small, small)); /* x − x: zeros */
    ok(r, ops_product(r->o, in, p, &(epilogue){0}, out));
    ok(r, ops_product(r->o, small, p, &(epilogue){0}, out2));
    keep(r, out);
    keep(r, out2);
}

/* More than one block of rows, columns and k. */
static void case_linear_blocks(run *r)
{
    int64_t rows = PICK(r, GEMM_ROWS + 1, 2 * GEMM_ROWS, 500), k = PICK(r, 300, 257), n = PICK(r, GEMM_COLS + 1, 600),
            tall = below(r, 4);
    if (tall == 0) /* rows that are laid in two parts */
        rows = PRODUCT_ROWS + 37, k = 40, n = 50;
    else if (tall == 1)                             /* k in several blocks of every instruction set */
        rows = PICK(r, 43, 107), k = 3337, n = 115; /* and few rows or many */
    weight *w = linear_of(r, n, k, true);
    act in = input(r, ACT_LINEAR, 1, rows, k), out = output(r, ACT_LINEAR, 1, rows, n);
    ok(r, ops_product(r->o, in, w, &(epilogue){.f = ACTIVATION_GELU_TANH}, out));
    keep(r, out);
}

/* k in several blocks of every instruction set, of few rows and of many, by each type that is multiplied as it lies. */
static void case_linear_deep(run *r)
{
    static const dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_F8_E4M3};
    const int64_t k = 3337, n = 20;
    for (int i = 0; i < 8; i++) {
        const int64_t rows = i % 2 ? 107 : 43;
        const weight_recipe w = recipe_whole(WEIGHT_LINEAR, weight_tensor(r, types[i / 2], 2, (int64_t[]){n, k}));
        weight *p = prepare(r, &w, false);
        act in = input(r, ACT_LINEAR, 1, rows, k), out = output(r, ACT_LINEAR, 1, rows, n);
        ok(r, ops_product(r->o, in, p, &(epilogue){0}, out));
        keep(r, out);
    }
}

static weight_recipe piece(run *r, int64_t rows, int64_t cols)
{
    const dtype type = (dtype)PICK(r, DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_F8_E4M3);
    return recipe_whole(WEIGHT_LINEAR, weight_tensor(r, type, 2, (int64_t[]){rows, cols}));
}

/* Pieces of all types that are multiplied as they lie, below each other and side by side: what lies next to a row's
 * piece has other columns than what lies below it. */
static void case_linear_mosaic(run *r)
{
    const int64_t rows = PICK(r, 1, 5, 16, 17, 40), k = PICK(r, 24, 70), n = PICK(r, 11, 45), top = n / 3;
    weight_recipe a = piece(r, top, k / 3), b = piece(r, top, k - k / 3), c = piece(r, 2, k),
                  d = piece(r, n - top - 2, 9), e = piece(r, n - top - 2, k - 9), w, lower;
    ok(r, recipe_beside(&a, &b, &w, &r->err));
    ok(r, recipe_stack(&w, &c, &w, &r->err));
    ok(r, recipe_beside(&d, &e, &lower, &r->err));
    ok(r, recipe_stack(&w, &lower, &w, &r->err));
    weight *p = prepare(r, &w, true);
    act in = input(r, ACT_LINEAR, 1, rows, k), out = output(r, ACT_LINEAR, 1, rows, n);
    ok(r, ops_product(r->o, in, p, &(epilogue){0}, out));
    keep(r, out);
}

/* Few columns: for many threads the rows are cut as well. */
static void case_linear_thin(run *r)
{
    const int64_t rows = PICK(r, 286, 512, 2048), n = PICK(r, 4, 16, 64, 128), k = 24;
    weight *w = linear_of(r, n, k, true);
    act in = input(r, ACT_LINEAR, 1, rows, k), out = output(r, ACT_LINEAR, 1, rows, n);
    ok(r, ops_product(r->o, in, w, &(epilogue){0}, out));
    keep(r, out);
}

#if ARENA > 64 << 20
/* Lines of more strips than one, each row of outputs or every other. */
static void case_conv_strips(run *r)
{
    const int64_t channels = 70, width = 4000, out_channels = 3;
    weight_recipe w =
        recipe_whole(WEIGHT_CONV, weight_tensor(r, DTYPE_BF16, 4, (int64_t[]){out_channels, channels, 3, 3}));
    w.kernel = 3;
    weight *p = prepare(r, &w, true);
    act in = plane(r, 1, 20, width, channels, false);
    for (int stride = 1; stride <= 2; stride++) {
        act out = plane(r, 1, 20 / stride, width / stride, out_channels, true);
        ok(r, ops_conv(r->o, in, (act){0}, (act){0}, p, stride, (act){0}, out));
        keep(r, out);
    }
}
#endif

/* m + scale · up·down, in float32. */
static void merge(run *r, float *m, const weight_recipe *up, const weight_recipe *down, float scale)
{
    float *low = malloc((size_t)(down->rows * down->cols + up->cols) * sizeof *low), *line;
    assert_non_null(low);
    line = low + down->rows * down->cols;
    for (int64_t i = 0; i < down->rows; i++)
        ok(r, recipe_decode(down, i, 0, down->cols, low + i * down->cols, &r->err));
    for (int64_t n = 0; n < up->rows; n++) {
        ok(r, recipe_decode(up, n, 0, up->cols, line, &r->err));
        for (int64_t k = 0; k < down->cols; k++) {
            double sum = 0;
            for (int64_t i = 0; i < up->cols; i++)
                sum += (double)line[i] * low[i * down->cols + k];
            m[n * down->cols + k] += (float)(scale * sum);
        }
    }
    free(low);
}

/* A weight with adapters is what the merged matrix W + Σ scale · up·down would be: ref multiplies with that in the end.
 */
static void case_adapters(run *r)
{
    int64_t batch = PICK(r, 1, 2, 3), rows = PICK(r, 0, 1, 5, 8, 9, 70), k = PICK(r, 1, 16, 65, 200),
            n = PICK(r, 3, 15, 33, 129);
    weight_recipe w = linear_recipe(r, n, k), bias = {0}, merged;
    bool biased = below(r, 2);
    w.role = below(r, 2) ? WEIGHT_LINEAR : WEIGHT_QKV;
    w.heads = w.role == WEIGHT_QKV;
    if (biased)
        bias = recipe_whole(WEIGHT_VECTOR, weight_tensor(r, DTYPE_F32, 1, &n));
    store_tensor *sum = new_tensor(r);
    ok(r, tensor_create(DTYPE_F32, 2, (int64_t[]){n, k}, &sum->view, &r->err));
    for (int64_t i = 0; i < n; i++)
        ok(r, recipe_decode(&w, i, 0, k, (float *)sum->view.data + i * k, &r->err));
    adapter list[3];
    linear_weight l = {
        .w = prepare_with(r, &w, biased ? &bias : NULL), .adapters = list, .adapter_count = (int)PICK(r, 1, 2, 3)};
    for (int i = 0; i < l.adapter_count; i++) {
        int64_t rank = PICK(r, 1, 4, 9);
        weight_recipe up = linear_recipe(r, n, rank), down = linear_recipe(r, rank, k);
        list[i] = (adapter){.up = prepare_with(r, &up, NULL),
                            .down = prepare_with(r, &down, NULL),
                            .scale = (float)PICK(r, -2, 0, 1, 3) / 4};
        merge(r, sum->view.data, &up, &down, list[i].scale);
    }
    merged = recipe_whole(WEIGHT_LINEAR, sum);
    weight *one = prepare_with(r, &merged, biased ? &bias : NULL);
    any_step(r);
    act in = input(r, linear_input(r), batch, rows, k), x = input(r, ACT_RESIDUAL, batch, rows, n),
        out = output(r, linear_output(r), batch, rows, n), again = output(r, linear_output(r), batch, rows, n);
    epilogue e = {.addend = maybe(r, input(r, ACT_PARTIAL, batch, rows, n)),
                  .f = (activation)below(r, 5),
                  .gate = maybe(r, table(r, batch, n)),
                  .residual = maybe(r, x)};
    ok(r, ops_linear(r->o, in, &l, &e, out));
    keep(r, out);
    if (r->ref)
        ok(r, ops_product(r->o, in, one, &e, again));
    else
        ok(r, ops_linear(r->o, in, &l, &e, again));
    keep(r, again);
}

static void case_layer_norm(run *r)
{
    int64_t batch = PICK(r, 1, 2, 3), rows = PICK(r, 0, 1, 5, 67), cols = PICK(r, 0, 1, 7, 64, 100, 1030, 3072);
    weight *w = below(r, 2) ? vector_weight(r, cols, below(r, 2)) : NULL;
    any_step(r);
    act shift = maybe(r, table(r, batch, cols)), scale = maybe(r, table(r, batch, cols));
    act in = input(r, (act_role)PICK(r, ACT_RESIDUAL, ACT_LINEAR), batch, rows, cols),
        out = output(r, ACT_LINEAR, batch, rows, cols);
    ok(r, ops_layer_norm(r->o, in, w, shift, scale, 1e-3f, out));
    keep(r, out);
}

static void case_rms_norm(run *r)
{
    int64_t batch = PICK(r, 1, 2), rows = PICK(r, 0, 1, 5, 67), cols = PICK(r, 1, 7, 64, 100, 1030, 3072);
    weight *w = vector_weight(r, cols, false);
    act in = input(r, ACT_RESIDUAL, batch, rows, cols),
        out = output(r, (act_role)PICK(r, ACT_LINEAR, ACT_RESIDUAL), batch, rows, cols);
    ok(r, ops_rms_norm(r->o, in, w, 1e-6f, out));
    keep(r, out);
}

static void case_head_norm_rope(run *r)
{
    int64_t batch = PICK(r, 1, 2, 3), rows = PICK(r, 0, 1, 5, 67), heads = PICK(r, 0, 1, 3),
            dim = PICK(r, 2, 16, 18, 40, 128);
    weight *w = below(r, 2) ? vector_weight(r, dim, false) : NULL;
    act rope = maybe(r, input(r, ACT_ROPE, 1, rows, dim)), x = input(r, ACT_HEADS, batch, rows, heads * dim);
    ok(r, ops_head_norm_rope(r->o, x, heads, w, 1e-6f, rope));
    keep(r, x);
}

static void case_attention(run *r)
{
    int64_t batch = PICK(r, 1, 2), heads = PICK(r, 0, 1, 2, 3),
            dim = r->int8 ? PICK(r, 1, 16, 33, 64, 100, 128, 200, 256) : PICK(r, 1, 16, 17, 33, 64, 128),
            queries = PICK(r, 0, 1, 5, 77, 130, (r->int8 ? INT8_QUERIES : ATTENTION_QUERIES) + 9),
            keys = PICK(r, 0, 1, 5, 77, ATTENTION_KEYS - 1, ATTENTION_KEYS, 2 * ATTENTION_KEYS + 1);
    attention_args a = {.heads = heads, .scale = 1.0f / sqrtf((float)dim), .causal = below(r, 2)};
    if (below(r, 3) == 0) {
        keys = queries = PICK(r, 1, 7, 77, 260);
        a.bias = input(r, ACT_TABLE, 1, heads, 2 * queries - 1);
    }
    if (keys == 0)
        a.causal = false;
    a.int8 = r->int8 && !a.causal && !act_present(a.bias);
    act q = input(r, ACT_HEADS, batch, queries, heads * dim), k = input(r, ACT_HEADS, batch, keys, heads * dim),
        v = input(r, ACT_HEADS, batch, keys, heads * dim);
    act out = output(r, ACT_HEADS, batch, queries, heads * dim);
    ok(r, ops_attention(r->o, q, k, v, &a, out));
    keep(r, out);
}

/* A head wider than a k block. */
static void case_attention_wide(run *r)
{
    int64_t dim = PICK(r, 257, 300, 512, 515), rows = PICK(r, 3, 44, 136), heads = PICK(r, 1, 2), batch = PICK(r, 1, 2);
    attention_args a = {.heads = heads, .scale = 1.0f / sqrtf((float)dim), .int8 = r->int8};
    act q = input(r, ACT_HEADS, batch, rows, heads * dim), k = input(r, ACT_HEADS, batch, rows, heads * dim),
        v = input(r, ACT_HEADS, batch, rows, heads * dim), out = output(r, ACT_HEADS, batch, rows, heads * dim);
    ok(r, ops_attention(r->o, q, k, v, &a, out));
    keep(r, out);
}

/* More queries than a backend that makes scores of wide heads takes at a time. */
static void case_attention_wide_long(run *r)
{
    const int64_t dim = 264, rows = 520;
    attention_args a = {.heads = 1, .scale = 1.0f / sqrtf((float)dim)};
    act q = input(r, ACT_HEADS, 1, rows, dim), k = input(r, ACT_HEADS, 1, rows, dim),
        v = input(r, ACT_HEADS, 1, rows, dim), out = output(r, ACT_HEADS, 1, rows, dim);
    ok(r, ops_attention(r->o, q, k, v, &a, out));
    keep(r, out);
}

/* Large scores: the maximum must be taken off, and grows from block to block. */
static void case_attention_steep(run *r)
{
    attention_args a = {.heads = 2, .scale = 4.0f, .int8 = r->int8};
    act q = input(r, ACT_HEADS, 1, 20, 64), k = input(r, ACT_HEADS, 1, 600, 64), v = input(r, ACT_HEADS, 1, 600, 64),
        out = output(r, ACT_HEADS, 1, 20, 64);
    ok(r, ops_attention(r->o, q, k, v, &a, out));
    keep(r, out);
}

/* Scores of 1e4 to 1e5, where a float32 has 2^−10 to 2^−7 left: the highest of a block is exact no more, and its weight
 * must all the same not be rounded beyond INT8_WEIGHT, which is eight ones. It is that of key 127, whose dither is the
 * nearest to 1/2; all other keys are 0. */
static void case_attention_large(run *r)
{
    enum { QUERIES = 40, KEYS = INT8_KEYS + 128, DIM = 64, HIGHEST = 127 };
    static float q[QUERIES * DIM], k[KEYS * DIM];
    const attention_args a = {.heads = 1, .scale = 1.0f / sqrtf(DIM), .int8 = r->int8};
    for (int i = 0; i < QUERIES * DIM; i++)
        q[i] = 12.0f + 2.5f * (float)(i / DIM);
    for (int i = 0; i < KEYS * DIM; i++)
        k[i] = i / DIM % INT8_KEYS == HIGHEST ? 104 : 0;
    act x[2] = {input(r, ACT_HEADS, 1, QUERIES, DIM), input(r, ACT_HEADS, 1, KEYS, DIM)},
        v = input(r, ACT_HEADS, 1, KEYS, DIM), out = output(r, ACT_HEADS, 1, QUERIES, DIM);
    for (int i = 0; i < 2; i++) {
        tensor t = {.type = DTYPE_F32, .dims = 3, .shape = {1, act_rows(x[i]), DIM}, .data = i ? k : q};
        ok(r, ops_upload(r->o, &t, x[i]));
    }
    ok(r, ops_attention(r->o, x[0], x[1], v, &a, out));
    keep(r, out);
}

/* Query i's score of key i is 800, of the others at most 600: what takes off less than the highest score has a power
 * beyond float32's, wherever that key is; and none but its own key's value is left of a query. */
static void case_attention_own_key(run *r)
{
    enum { TOKENS = ATTENTION_KEYS + 11, BITS = 8, DIM = 16 };
    static float q[TOKENS * DIM], k[TOKENS * DIM];
    _Static_assert(TOKENS <= 1 << BITS, "no two keys are alike");
    for (int i = 0; i < TOKENS * BITS; i++) {
        const int at = i / BITS * DIM + i % BITS;
        k[at] = i / BITS >> i % BITS & 1 ? 1 : -1;
        q[at] = 100 * k[at];
    }
    act x[2], v, out;
    for (int i = 0; i < 2; i++) {
        x[i] = input(r, ACT_HEADS, 1, TOKENS, DIM);
        ok(r, ops_upload(r->o, &(tensor){.type = DTYPE_F32, .dims = 3, .shape = {1, TOKENS, DIM}, .data = i ? k : q},
                         x[i]));
    }
    v = input(r, ACT_HEADS, 1, TOKENS, DIM);
    for (int causal = 0; causal < 2; causal++) {
        out = output(r, ACT_HEADS, 1, TOKENS, DIM);
        ok(r, ops_attention(r->o, x[0], x[1], v, &(attention_args){.heads = 1, .scale = 1, .causal = causal}, out));
        keep(r, out);
    }
}

/* One NaN among the queries, keys or values, and none. */
static void case_attention_nan(run *r)
{
    const int64_t dim = PICK(r, 16, 128), rows = 2 * ATTENTION_KEYS + 3;
    attention_args a = {.heads = 2, .scale = 1.0f / sqrtf((float)dim), .int8 = r->int8};
    act x[3], out;
    for (int i = 0; i < 3; i++)
        x[i] = input(r, ACT_HEADS, 1, i ? rows : 40, 2 * dim);
    const int64_t which = below(r, 4);
    if (which < 3) {
        float nan = NAN;
        tensor t = {.type = DTYPE_F32, .dims = 3, .shape = {1, 1, 1}, .data = &nan};
        const int64_t row = below(r, act_rows(x[which])), col = below(r, 2 * dim);
        ok(r, ops_upload(r->o, &t, act_columns(act_slice(x[which], row, 1), col, 1)));
    }
    out = output(r, ACT_HEADS, 1, 40, 2 * dim);
    ok(r, ops_attention(r->o, x[0], x[1], x[2], &a, out));
    keep(r, out);
}

static void case_attention_parts(run *r)
{
    int64_t batch = PICK(r, 1, 2), heads = PICK(r, 1, 3), dim = PICK(r, 16, 33), queries = PICK(r, 1, 130),
            keys[2] = {PICK(r, 0, 1, 70), PICK(r, 0, 5, 300)};
    attention_args a = {.heads = heads, .scale = 1.0f / sqrtf((float)dim), .int8 = r->int8};
    act q = input(r, ACT_HEADS, batch, queries, heads * dim), out[2], lse[2];
    for (int i = 0; i < 2; i++) {
        act k = input(r, ACT_HEADS, batch, keys[i], heads * dim), v = input(r, ACT_HEADS, batch, keys[i], heads * dim);
        out[i] = output(r, ACT_PARTIAL, batch, queries, heads * dim);
        lse[i] = output(r, ACT_STATS, batch, queries, heads);
        ok(r, ops_attention_part(r->o, q, k, v, &a, out[i], lse[i]));
        keep(r, out[i]);
        keep(r, lse[i]);
    }
    ok(r, ops_attention_merge(r->o, heads, out[0], lse[0], out[1], lse[1]));
    keep(r, out[0]);
    keep(r, lse[0]);
}

static void case_conv(run *r)
{
    int64_t batch = PICK(r, 1, 2), height = PICK(r, 1, 2, 7, 12), width = PICK(r, 1, 2, 9, 33, 69),
            in_channels = PICK(r, 1, 3, 16, 35), out_channels = PICK(r, 1, 3, 16, 40);
    int stride = (int)PICK(r, 1, 1, 2), kernel = stride == 2 ? 3 : (int)PICK(r, 1, 3);
    if (stride == 2)
        height += height % 2, width += width % 2;
    dtype type = weight_types[below(r, WEIGHT_TYPES)];
    weight_recipe w = recipe_whole(
        WEIGHT_CONV, weight_tensor(r, type, 4, (int64_t[]){out_channels + 2, in_channels, kernel, kernel}));
    w.kernel = kernel;
    w = recipe_rows(&w, 1, out_channels);
    weight *p = prepare(r, &w, below(r, 2));
    act in = plane(r, batch, height, width, in_channels, false), top = plane(r, batch, 1, width, in_channels, false),
        bottom = plane(r, batch, 1, width, in_channels, false);
    act out = plane(r, batch, height / stride, width / stride, out_channels, true),
        residual = plane(r, batch, height / stride, width / stride, out_channels, false);
    bool halo = kernel == 3 && stride == 1;
    top = maybe(r, top), bottom = maybe(r, bottom), residual = maybe(r, residual);
    if (act_present(residual) && below(r, 3) == 0) /* in place */
        out = residual;
    ok(r, ops_conv(r->o, in, halo ? top : (act){0}, halo ? bottom : (act){0}, p, stride, residual, out));
    keep(r, out);
}

/* More than one block of rows and k, as rows of several lines. */
static void case_conv_blocks(run *r)
{
    weight_recipe w = recipe_whole(WEIGHT_CONV, weight_tensor(r, DTYPE_BF16, 4, (int64_t[]){33, 70, 3, 3}));
    w.kernel = 3;
    weight *p = prepare(r, &w, true);
    act in = plane(r, 1, 26, 25, 70, false), out = plane(r, 1, 26, 25, 33, true);
    ok(r, ops_conv(r->o, in, (act){0}, (act){0}, p, 1, (act){0}, out));
    keep(r, out);
}

/* Enough channels, outputs and pixels for tiles, more channels and outputs than a task's block; and a row behind an
 * upsampling. */
static void case_conv_tiles(run *r)
{
    const int64_t batch = PICK(r, 1, 2), height = PICK(r, 1, 2, 5), width = PICK(r, 17, 34, 65),
                  channels = PICK(r, 16, 35, 64, 140), out_channels = PICK(r, 16, 33, 131);
    const bool twice = below(r, 2);
    weight_recipe w = recipe_whole(WEIGHT_CONV, weight_tensor(r, weight_types[below(r, WEIGHT_TYPES)], 4,
                                                              (int64_t[]){out_channels, channels, 3, 3}));
    w.kernel = 3;
    weight *p = prepare(r, &w, below(r, 2));
    act in = plane(r, batch, height, width, channels, false),
        top = maybe(r, plane(r, batch, 1, width, channels, false)),
        bottom = maybe(r, plane(r, batch, 1, width, channels, false)),
        out = plane(r, batch, (1 + twice) * height, (1 + twice) * width, out_channels, true);
    if (twice)
        ok(r, ops_upsample_conv(r->o, in, top, bottom, p, out));
    else
        ok(r, ops_conv(r->o, in, top, bottom, p, 1, (act){0}, out));
    keep(r, out);
}

/* As many channels and outputs as a task's block has in its scratch, by each instruction set. */
static void case_conv_full_blocks(run *r)
{
    static const int64_t outputs[] = {96, 112, 192};
    const int64_t channels = 64, height = 2, width = 33;
    act in = plane(r, 1, height, width, channels, false);
    for (int i = 0; i < 3; i++) {
        weight_recipe w =
            recipe_whole(WEIGHT_CONV, weight_tensor(r, DTYPE_BF16, 4, (int64_t[]){outputs[i], channels, 3, 3}));
        w.kernel = 3;
        weight *p = prepare(r, &w, true);
        act out = plane(r, 1, height, width, outputs[i], true);
        ok(r, ops_conv(r->o, in, (act){0}, (act){0}, p, 1, (act){0}, out));
        keep(r, out);
    }
}

static void case_group_norm(run *r)
{
    int64_t batch = PICK(r, 1, 2), height = PICK(r, 1, 5, 40), width = PICK(r, 1, 7, 33), groups = PICK(r, 1, 2, 4, 32),
            channels = groups * PICK(r, 1, 3, 4, 8, 40);
    weight *w = vector_weight(r, channels, below(r, 2));
    act in = plane(r, batch, height, width, channels, false), out = plane(r, batch, height, width, channels, true),
        again = plane(r, batch, height, width, channels, true);
    act stats = placed(r, ACT_STATS, shape_rows(batch, 0, 2 * groups, 3));
    fill(r, stats, false);
    act one = placed(r, ACT_STATS, shape_rows(batch, groups, groups, 3));
    fill(r, one, false);
    ok(r, ops_group_stats(r->o, in, groups, act_of(one, PART_TEXT)));
    ok(r, ops_group_stats(r->o, in, groups, act_of(one, PART_IMAGE)));
    ok(r, ops_group_apply(r->o, in, one, groups, w, 1e-6f, below(r, 2), out));
    keep(r, one);
    keep(r, out);
    ok(r, ops_group_norm(r->o, in, groups, w, 1e-6f, below(r, 2), again));
    keep(r, again);
}

static void case_upsample_conv(run *r)
{
    const int64_t batch = PICK(r, 1, 2), height = PICK(r, 0, 1, 2, 7), width = PICK(r, 1, 2, 9, 33),
                  in_channels = PICK(r, 1, 3, 16, 35, 70), out_channels = PICK(r, 1, 3, 16, 40, 131);
    weight_recipe w = recipe_whole(WEIGHT_CONV, weight_tensor(r, weight_types[below(r, WEIGHT_TYPES)], 4,
                                                              (int64_t[]){out_channels, in_channels, 3, 3}));
    w.kernel = 3;
    weight *p = prepare(r, &w, below(r, 2));
    act in = plane(r, batch, height, width, in_channels, false),
        top = maybe(r, plane(r, batch, 1, width, in_channels, false)),
        bottom = maybe(r, plane(r, batch, 1, width, in_channels, false)),
        out = plane(r, batch, 2 * height, 2 * width, out_channels, true);
    ok(r, ops_upsample_conv(r->o, in, top, bottom, p, out));
    keep(r, out);
}

/* Rows of a higher plane, beside others of it or of planes of their own; statistics of two sets. */
static void case_norm_conv(run *r)
{
    const int64_t batch = PICK(r, 1, 2), height = PICK(r, 0, 1, 2, 7), width = PICK(r, 1, 2, 9, 33),
                  groups = PICK(r, 1, 2, 4), in_channels = groups * PICK(r, 1, 3, 8, 20),
                  out_channels = PICK(r, 1, 3, 16, 40), above = below(r, 3), rest = below(r, 2), side = width;
    weight_recipe w = recipe_whole(WEIGHT_CONV, weight_tensor(r, weight_types[below(r, WEIGHT_TYPES)], 4,
                                                              (int64_t[]){out_channels, in_channels, 3, 3}));
    w.kernel = 3;
    weight *p = prepare(r, &w, below(r, 2)), *v = vector_weight(r, in_channels, below(r, 2));
    act all = plane(r, batch, above + height + rest, width, in_channels, false),
        row = plane(r, batch, 1, width, in_channels, false), out = plane(r, batch, height, width, out_channels, true),
        residual = plane(r, batch, height, width, out_channels, false),
        stats = placed(r, ACT_STATS, shape_rows(batch, groups, groups, 3));
    fill(r, stats, false);
    ok(r, ops_group_stats(r->o, all, groups, act_of(stats, PART_TEXT)));
    ok(r, ops_group_stats(r->o, row, groups, act_of(stats, PART_IMAGE)));
    const norm_before n = {.stats = stats, .groups = groups, .w = v, .eps = 1e-6f, .silu = below(r, 4) > 0};
    act top = above ? act_slice(all, (above - 1) * side, side) : maybe(r, row),
        bottom = rest ? act_slice(all, (above + height) * side, side) : maybe(r, row);
    residual = maybe(r, residual);
    if (act_present(residual) && below(r, 3) == 0) /* in place */
        out = residual;
    ok(r, ops_norm_conv(r->o, act_slice(all, above * side, height * side), top, bottom, &n, p, residual, out));
    keep(r, out);
}

#if ARENA > 64 << 20
/* Lines of more strips than one, of an item or of two with norms of their own. */
static void case_norm_conv_strips(run *r)
{
    const int64_t batch = PICK(r, 1, 2), height = batch == 1 ? 59 : 29, width = 65, channels = 512, out_channels = 16;
    weight_recipe w =
        recipe_whole(WEIGHT_CONV, weight_tensor(r, DTYPE_BF16, 4, (int64_t[]){out_channels, channels, 3, 3}));
    w.kernel = 3;
    weight *p = prepare(r, &w, true), *v = vector_weight(r, channels, true);
    act in = plane(r, batch, height, width, channels, false), out = plane(r, batch, height, width, out_channels, true),
        stats = placed(r, ACT_STATS, shape_rows(batch, 0, 32, 3));
    ok(r, ops_group_stats(r->o, in, 32, stats));
    ok(r, ops_norm_conv(r->o, in, (act){0}, (act){0},
                        &(norm_before){.stats = stats, .groups = 32, .w = v, .eps = 1e-6f, .silu = true}, p, (act){0},
                        out));
    keep(r, out);
}

/* The same in front of an upsampling, beside rows of neighbours: in tiles, and of two items with too few outputs for
 * those. */
static void case_upsample_conv_strips(run *r)
{
    const int64_t height = 24, width = 9, channels = 2048;
#if defined(CHECKOPS_SIMDE) /* AVX-512's panels are wider than these lines: no tiles */
    enum { KINDS = 1 };
#else
    enum { KINDS = 2 };
#endif
    for (int tiles = 0; tiles < KINDS; tiles++) {
        const int64_t batch = tiles ? 1 : 2, out_channels = tiles ? 16 : 3;
        weight_recipe w =
            recipe_whole(WEIGHT_CONV, weight_tensor(r, DTYPE_BF16, 4, (int64_t[]){out_channels, channels, 3, 3}));
        w.kernel = 3;
        weight *p = prepare(r, &w, true);
        act in = plane(r, batch, height, width, channels, false), top = plane(r, batch, 1, width, channels, false),
            bottom = plane(r, batch, 1, width, channels, false),
            out = plane(r, batch, 2 * height, 2 * width, out_channels, true);
        ok(r, ops_upsample_conv(r->o, in, top, bottom, p, out));
        keep(r, out);
    }
}
#endif

static void case_upsample(run *r)
{
    int64_t batch = PICK(r, 1, 2), height = PICK(r, 0, 1, 5), width = PICK(r, 1, 6), channels = PICK(r, 1, 3, 40, 64);
    act in = plane(r, batch, height, width, channels, false),
        out = plane(r, batch, 2 * height, 2 * width, channels, true);
    ok(r, ops_upsample(r->o, in, out));
    keep(r, out);
}

static void case_embed(run *r)
{
    int64_t batch = PICK(r, 1, 2), rows = PICK(r, 0, 1, 9), cols = PICK(r, 1, 17, 64), entries = 20;
    weight_recipe w = linear_recipe(r, entries, cols), p = matrix_recipe(r, WEIGHT_TABLE, 40, cols);
    if (below(r, 2)) { /* as they lie, one below the other */
        const weight_recipe upper = piece(r, entries / 3, cols), lower = piece(r, entries - entries / 3, cols);
        ok(r, recipe_stack(&upper, &lower, &w, &r->err));
    }
    w.role = WEIGHT_TABLE;
    weight *t = prepare(r, &w, false), *positions = prepare(r, &p, false);
    act ids, out = output(r, (act_role)PICK(r, ACT_RESIDUAL, ACT_LINEAR), batch, rows, cols);
    ok(r, ops_create(r->o, ACT_IDS, shape_rows(batch, rows, 0, 1), &ids));
    tensor host;
    ok(r, tensor_create(DTYPE_I32, 2, (int64_t[]){batch, rows}, &host, &r->err));
    for (int64_t i = 0; i < batch * rows; i++)
        ((int32_t *)host.data)[i] = (int32_t)below(r, entries);
    ok(r, ops_upload(r->o, &host, ids));
    tensor_free(&host);
    ok(r, ops_embed(r->o, ids, t, below(r, 2) ? positions : NULL, 7, out));
    keep(r, out);
}

static void case_activate(run *r)
{
    int64_t batch = PICK(r, 1, 2), rows = PICK(r, 0, 1, 9, 300), cols = PICK(r, 1, 17, 64, 100, 3072);
    act in = input(r, ACT_RESIDUAL, batch, rows, cols),
        out = output(r, (act_role)PICK(r, ACT_LINEAR, ACT_RESIDUAL), batch, rows, cols);
    ok(r, ops_add(r->o, in, 4.0f, (act){0}, in, in)); /* as far as ±8.5 */
    ok(r, ops_activate(r->o, (activation)below(r, 5), in, (act){0}, out));
    keep(r, out);
}

/* T5's gate: the halves of one product, in place. Beside others too, in other types. */
static void case_activate_gated(run *r)
{
    int64_t batch = PICK(r, 1, 2), rows = PICK(r, 0, 1, 9, 300), cols = PICK(r, 1, 17, 64, 100, 1024);
    act_role role = (act_role)PICK(r, ACT_LINEAR, ACT_RESIDUAL);
    act both = joint(r, role, batch, 0, rows, 2 * cols, false), in = act_columns(both, 0, cols),
        mul = below(r, 2) ? act_columns(both, cols, cols) : input(r, ACT_RESIDUAL, batch, rows, cols),
        out = below(r, 2) ? in : output(r, role, batch, rows, cols);
    ok(r, ops_activate(r->o, (activation)below(r, 5), in, mul, out));
    keep(r, both);
    keep(r, out);
}

static void case_add_euler(run *r)
{
    int64_t batch = PICK(r, 1, 2, 3), rows = PICK(r, 0, 1, 9, 300), cols = PICK(r, 1, 17, 64, 100, 3072);
    act x = input(r, ACT_RESIDUAL, batch, rows, cols), y = input(r, ACT_LINEAR, batch, below(r, 2) ? rows : 1, cols),
        out = output(r, ACT_RESIDUAL, batch, rows, cols);
    any_step(r);
    ok(r, ops_add(r->o, x, 0.7f, maybe(r, table(r, batch, cols)), y, out));
    keep(r, out);
    act v = input(r, ACT_LINEAR, batch, rows, cols);
    ok(r, ops_euler(r->o, x, v, table(r, batch, 1)));
    keep(r, x);
    ok(r, ops_add(r->o, x, -0.4f, maybe(r, table(r, batch, cols)), x, x)); /* x is y and out, too */
    keep(r, x);
}

static void case_moves(run *r)
{
    static const act_role roles[] = {ACT_RESIDUAL, ACT_LINEAR, ACT_HEADS, ACT_PARTIAL};
    int64_t batch = PICK(r, 1, 2), rows = PICK(r, 0, 1, 9, 300), cols = PICK(r, 1, 17, 64, 100, 3072),
            first = below(r, rows + 1), some = rows - first;
    act in = input(r, roles[below(r, 4)], batch, rows, cols), out = output(r, roles[below(r, 4)], batch, rows, cols),
        part = output(r, roles[below(r, 4)], batch, some, cols);
    ok(r, ops_cast(r->o, in, out));
    ok(r, ops_copy_rows(r->o, in, first, part));
    keep(r, out);
    keep(r, part);
    act again = output(r, in.buffer->role, batch, rows, cols);
    void *bytes;
    size_t most = (size_t)(batch * some * cols) * sizeof(float);
    assert_true(ops_pack_bytes(r->o, in, some) <= most);
    ok(r, ops_exchange(r->o, most, &bytes));
    if (!r->dry) {
        ok(r, ops_pack(r->o, in, first, some, bytes));
        ok(r, ops_unpack(r->o, bytes, again, first, some));
    }
    keep(r, again);
}

static void case_composites(run *r)
{
    int64_t batch = PICK(r, 1, 2, 3), rows = PICK(r, 1, 12, 40), width = PICK(r, 24, 32, 65), heads = PICK(r, 1, 3),
            dim = PICK(r, 8, 16, 18), hidden = PICK(r, 33, 96);
    qkv_weights w = {.qkv = {.w = linear_of(r, 3 * heads * dim, width, below(r, 2))}, .heads = heads, .eps = 1e-6f};
    w.norm_q = vector_weight(r, dim, false);
    w.norm_k = vector_weight(r, dim, false);
    linear_weight up = {.w = linear_of(r, hidden, width, true)}, down = {.w = linear_of(r, width, hidden, true)};
    act in = input(r, ACT_LINEAR, batch, rows, width), rope = input(r, ACT_ROPE, 1, rows, dim);
    act qkv = output(r, ACT_HEADS, batch, rows, 3 * heads * dim), wide = output(r, ACT_LINEAR, batch, rows, hidden),
        out = output(r, ACT_RESIDUAL, batch, rows, width);
    ok(r, ops_single_products(r->o, in, &w, rope, qkv, &up, wide));
    keep(r, qkv);
    keep(r, wide);
    ok(r, ops_mlp(r->o, in, &up, ACTIVATION_GELU_TANH, &down, &(epilogue){.gate = table(r, batch, width)}, out));
    keep(r, out);
}

/* A layer's output on the way to the next norm, as the model has it (x += gate·product, in place) and otherwise. In
 * float32 rows of more than a kernel's registers, too. */
static void case_linear_norm(run *r)
{
    int64_t batch = PICK(r, 1, 2, 3), rows = PICK(r, 0, 1, 5, 37), k = PICK(r, 1, 8, 40),
            n = PICK(r, 1, 7, 64, 100, 1030, 3072, 3080, 8200);
    bool plain = below(r, 2); /* aligned, whole buffers */
    linear_weight w = {.w = linear_of(r, n, k, below(r, 2))};
    weight *affine = below(r, 3) == 0 ? vector_weight(r, n, below(r, 2)) : NULL;
    any_step(r);
    act in = input(r, ACT_LINEAR, batch, rows, k),
        x = plain ? joint(r, ACT_RESIDUAL, batch, rows / 3, rows - rows / 3, n, false)
                  : input(r, ACT_RESIDUAL, batch, rows, n),
        out = plain ? joint(r, ACT_LINEAR, batch, rows / 3, rows - rows / 3, n, true)
                    : output(r, ACT_LINEAR, batch, rows, n),
        other = output(r, linear_output(r), batch, rows, n);
    epilogue e = {.gate = maybe(r, table(r, batch, n)), .residual = maybe(r, x)};
    if (below(r, 8) == 0)
        e.f = ACTIVATION_SILU;
    act to = act_present(e.residual) && below(r, 4) ? x : other;
    norm_behind norm = {.slot = (int)PICK(r, -1, 5),
                        .w = affine,
                        .shift = maybe(r, table(r, batch, n)),
                        .scale = maybe(r, table(r, batch, n)),
                        .eps = 1e-3f,
                        .out = out};
    ok(r, ops_linear_norm(r->o, in, &w, &e, to, &norm));
    keep(r, to);
    keep(r, out);
}

/* More rows than a GPU holds at once, so that a block has several. */
static void case_norms_of_many_rows(run *r)
{
    int64_t batch = PICK(r, 2, 3), text = PICK(r, 0, 61), image = PICK(r, 420, 777), n = PICK(r, 8, 72);
    linear_weight w = {.w = linear_of(r, n, 8, true)};
    any_step(r);
    act in = joint(r, ACT_LINEAR, batch, text, image, 8, false),
        x = joint(r, ACT_RESIDUAL, batch, text, image, n, false),
        out = joint(r, ACT_LINEAR, batch, text, image, n, true),
        again = joint(r, ACT_LINEAR, batch, text, image, n, true);
    norm_behind norm = {.slot = 0, .shift = table(r, batch, n), .scale = table(r, batch, n), .eps = 1e-6f, .out = out};
    ok(r, ops_linear_norm(r->o, in, &w, &(epilogue){.gate = maybe(r, table(r, batch, n)), .residual = x}, x, &norm));
    ok(r, ops_layer_norm(r->o, x, NULL, norm.shift, norm.scale, 1e-6f, again));
    keep(r, x);
    keep(r, out);
    keep(r, again);
}

/* A block's end, whose norm layers of the next block read: parts by themselves or together, as both sides have them.
 * named: they are told of. */
static void read_norm(run *r, bool named)
{
    int64_t batch = PICK(r, 1, 2, 3), text = PICK(r, 0, 1, 5), image = PICK(r, 1, 8, 19), k = PICK(r, 8, 16),
            n = PICK(r, 16, 64, 90, 1030, 3072, 3080), m = PICK(r, 8, 16);
    adapter low = {.up = linear_of(r, n, 4, false), .down = linear_of(r, 4, k, false), .scale = 0.5f};
    linear_weight w = {.w = linear_of(r, n, k, below(r, 2)), .adapters = &low, .adapter_count = below(r, 4) == 0},
                  reader[] = {{.w = linear_of(r, m, n, true)}, {.w = linear_of(r, m, n, false)}};
    bool written_apart = below(r, 2), read_apart = below(r, 2);
    any_step(r);
    act in = joint(r, ACT_LINEAR, batch, text, image, k, false),
        x = joint(r, ACT_RESIDUAL, batch, text, image, n, false),
        out = joint(r, ACT_LINEAR, batch, text, image, n, true), y[3];
    act scale = maybe(r, table(r, batch, n)), gate = maybe(r, table(r, batch, n));
    for (act_part p = written_apart ? PART_TEXT : PART_WHOLE; p <= (written_apart ? PART_IMAGE : PART_WHOLE); p++) {
        norm_behind norm = {.slot = -1, .scale = scale, .eps = 1e-5f, .out = act_of(out, p)};
        for (int i = 0; named && i < 2; i++)
            norm.readers[i] = &reader[i];
        ok(r, ops_linear_norm(r->o, act_of(in, p), &w, &(epilogue){.gate = gate, .residual = act_of(x, p)},
                              act_of(x, p), &norm));
    }
    for (int i = 0; i < 3; i++) {
        y[i] = joint(r, linear_output(r), batch, text, image, m, true);
        if (i == 2) /* written by another, it is as any other */
            ok(r, ops_layer_norm(r->o, x, NULL, (act){0}, (act){0}, 1e-5f, out));
        for (act_part p = read_apart ? PART_TEXT : PART_WHOLE; p <= (read_apart ? PART_IMAGE : PART_WHOLE); p++)
            ok(r, ops_linear(r->o, act_of(out, p), &reader[i % 2], &(epilogue){0}, act_of(y[i], p)));
        keep(r, y[i]);
    }
    keep(r, x);
}

static void case_read_norm(run *r) { read_norm(r, true); }

/* ---- shapes and windows as the model makes them (multiples of eight, aligned): what vendors' libraries take rather
 * than our own kernels ---- */

/* q, k, v windows of one buffer, the result into the first columns of another; a part of the queries at times. */
static void case_aligned_attention(run *r)
{
    int64_t batch = PICK(r, 1, 2), heads = PICK(r, 1, 3), dim = PICK(r, 8, 64, 128), text = PICK(r, 0, 8, 13),
            image = PICK(r, 1, 16, 75), width = heads * dim;
    attention_args a = {.heads = heads, .scale = 1.0f / sqrtf((float)dim), .int8 = r->int8};
    act qkv = joint(r, ACT_HEADS, batch, text, image, 3 * width, false),
        both = joint(r, ACT_LINEAR, batch, text, image, width + 64, true);
    act_part part = text > 0 && below(r, 2) ? PART_IMAGE : PART_WHOLE;
    ok(r, ops_attention(r->o, act_of(act_columns(qkv, 0, width), part), act_columns(qkv, width, width),
                        act_columns(qkv, 2 * width, width), &a, act_of(act_columns(both, 0, width), part)));
    keep(r, both);
}

/* T5's and CLIP's kinds: a bias by distance or a causal mask, more queries and keys than a tile, no company in the
 * buffer. */
static void case_aligned_attention_masked(run *r)
{
    int64_t batch = PICK(r, 1, 2), heads = PICK(r, 1, 3), dim = PICK(r, 64, 64, 128),
            rows = PICK(r, 1, 16, 63, 77, 150), width = heads * dim;
    attention_args a = {.heads = heads, .scale = below(r, 2) ? 1 : 1.0f / sqrtf((float)dim), .causal = below(r, 2)};
    if (below(r, 2))
        a.bias = input(r, ACT_TABLE, 1, heads, 2 * rows - 1);
    act qkv = joint(r, ACT_HEADS, batch, rows, 0, 3 * width, false),
        out = joint(r, ACT_HEADS, batch, rows, 0, width, true);
    ok(r, ops_attention(r->o, act_columns(qkv, 0, width), act_columns(qkv, width, width),
                        act_columns(qkv, 2 * width, width), &a, out));
    keep(r, out);
}

static void case_aligned_attention_part(run *r)
{
    int64_t batch = PICK(r, 1, 2), heads = PICK(r, 1, 3), dim = PICK(r, 16, 64), text = PICK(r, 0, 8),
            image = PICK(r, 3, 66), width = heads * dim, keys = PICK(r, 0, 1, 40);
    attention_args a = {.heads = heads, .scale = 1.0f / sqrtf((float)dim), .int8 = r->int8};
    act qkv = joint(r, ACT_HEADS, batch, text, image, 3 * width, false),
        kv = joint(r, ACT_HEADS, batch, 0, keys, 2 * width, false), q = act_columns(qkv, 0, width);
    act out[2], lse[2];
    for (int i = 0; i < 2; i++) {
        out[i] = joint(r, ACT_PARTIAL, batch, text, image, width, true);
        lse[i] = joint(r, ACT_STATS, batch, text, image, heads, true);
    }
    ok(r, ops_attention_part(r->o, q, act_columns(qkv, width, width), act_columns(qkv, 2 * width, width), &a, out[0],
                             lse[0]));
    ok(r, ops_attention_part(r->o, q, act_columns(kv, 0, width), act_columns(kv, width, width), &a, out[1], lse[1]));
    for (int i = 0; i < 2; i++) {
        keep(r, out[i]);
        keep(r, lse[i]);
    }
    ok(r, ops_attention_merge(r->o, heads, out[0], lse[0], out[1], lse[1]));
    keep(r, out[0]);
    keep(r, lse[0]);
}

static void case_aligned_linear(run *r)
{
    static const activation functions[] = {ACTIVATION_NONE, ACTIVATION_NONE, ACTIVATION_GELU_TANH, ACTIVATION_SILU};
    int64_t batch = PICK(r, 1, 2), text = PICK(r, 0, 16), image = PICK(r, 1, 40), k = PICK(r, 8, 64, 192),
            n = PICK(r, 8, 96, 96);
    act_part part = text > 0 && below(r, 2) ? (act_part)below(r, 2) : PART_WHOLE;
    weight *w = linear_of(r, n, k, below(r, 4) > 0);
    epilogue e = {.f = functions[below(r, 4)],
                  .gate = maybe(r, table(r, batch, n)),
                  .mul =
                      below(r, 4) == 0 ? act_of(joint(r, ACT_LINEAR, batch, text, image, n, false), part) : (act){0}};
    act in = act_of(act_columns(joint(r, linear_input(r), batch, text, image, k + 64, false), 32, k), part);
    act out = act_of(
            act_columns(joint(r, below(r, 2) ? ACT_LINEAR : ACT_PARTIAL, batch, text, image, n + 32, true), 32, n),
            part),
        x = act_of(joint(r, ACT_RESIDUAL, batch, text, image, n, false), part);
    int64_t with = below(r, 3);
    e.residual = with ? x : (act){0};
    out = with == 2 ? x : out;
    ok(r, ops_product(r->o, in, w, &e, out));
    keep(r, out);
}

static void case_aligned_conv(run *r)
{
    int64_t batch = PICK(r, 1, 2), height = PICK(r, 2, 6), width = PICK(r, 2, 8), in_channels = PICK(r, 8, 16, 3),
            out_channels = PICK(r, 8, 40, 3);
    int stride = (int)PICK(r, 1, 1, 2), kernel = stride == 2 ? 3 : (int)PICK(r, 1, 3, 3);
    weight_recipe w = recipe_whole(
        WEIGHT_CONV, weight_tensor(r, DTYPE_BF16, 4, (int64_t[]){out_channels, in_channels, kernel, kernel}));
    w.kernel = kernel;
    weight *p = prepare(r, &w, below(r, 2));
    act in = plane(r, batch, height, width, in_channels, false),
        out = plane(r, batch, height / stride, width / stride, out_channels, true);
    ok(r, ops_conv(r->o, in, (act){0}, (act){0}, p, stride,
                   maybe(r, plane(r, batch, height / stride, width / stride, out_channels, false)), out));
    keep(r, out);
}

typedef struct check {
    const char *name;
    void (*body)(run *r);
    int variants;
    double f32, bf16; /* bounds of the relative L2 error */
} check;

static const check checks[] = {
    {"linear", case_linear, 120, 1e-6, 6e-3},
    {"linear, several blocks", case_linear_blocks, 6, 1e-6, 6e-3},
    {"linear, several blocks of k", case_linear_deep, 1, 1e-6, 6e-3},
    {"linear, pieces of all kinds", case_linear_mosaic, 8, 1e-6, 6e-3},
    {"linear with adapters", case_adapters, 40, 2e-6, 2e-2},
    {"layer_norm", case_layer_norm, 25, 1e-6, 5e-3},
    {"rms_norm", case_rms_norm, 15, 1e-6, 5e-3},
    {"head_norm_rope", case_head_norm_rope, 20, 1e-6, 5e-3},
    {"attention", case_attention, 40, 2e-6, 8e-3},
    {"attention, wide heads", case_attention_wide, 16, 2e-6, 8e-3},
    {"attention, wide heads, many queries", case_attention_wide_long, 1, 2e-6, 8e-3},
    {"attention, steep scores", case_attention_steep, 1, 5e-6, 2e-2},
    {"attention, each query's own key", case_attention_own_key, 1, 2e-6, 8e-3},
    {"attention_part, attention_merge", case_attention_parts, 10, 2e-6, 8e-3},
    {"conv", case_conv, 40, 1e-6, 6e-3},
    {"conv, several blocks", case_conv_blocks, 1, 1e-6, 6e-3},
#if ARENA > 64 << 20 /* where lines are cut into strips: not on a GPU, whose tests have a small arena */
    {"conv, several strips", case_conv_strips, 1, 1e-6, 6e-3},
#endif
    {"conv, upsample_conv in tiles", case_conv_tiles, 30, 1e-6, 8e-3},
    {"conv, full blocks", case_conv_full_blocks, 1, 1e-6, 8e-3},
    {"group_stats, group_apply, group_norm", case_group_norm, 20, 1e-6, 5e-3},
    {"upsample", case_upsample, 6, 0, 0},
    {"upsample_conv", case_upsample_conv, 30, 1e-6, 8e-3},
    {"norm_conv", case_norm_conv, 40, 1e-6, 1e-2},
#if ARENA > 64 << 20 /* where lines are cut into strips: not on a GPU, whose tests have a small arena */
    {"norm_conv, several strips", case_norm_conv_strips, 2, 1e-6, 1e-2},
    {"upsample_conv, several strips", case_upsample_conv_strips, 1, 1e-6, 8e-3},
#endif
    {"embed", case_embed, 12, 1e-7, 5e-3},
    {"activate", case_activate, 20, 1e-6, 5e-3},
    {"activate, gated", case_activate_gated, 20, 1e-6, 5e-3},
    {"add, euler", case_add_euler, 12, 1e-6, 5e-3},
    {"cast, copy_rows, pack, unpack", case_moves, 20, 0, 5e-3},
    {"qkv_norm_rope, single_products, mlp", case_composites, 8, 2e-6, 1e-2},
    {"linear_norm", case_linear_norm, 40, 2e-6, 1e-2},
    {"linear_norm, layer_norm, many rows", case_norms_of_many_rows, 4, 2e-6, 1e-2},
    {"attention, aligned", case_aligned_attention, 20, 2e-6, 8e-3},
    {"attention, aligned, masked", case_aligned_attention_masked, 24, 2e-6, 8e-3},
    {"attention_part, aligned", case_aligned_attention_part, 12, 2e-6, 8e-3},
    {"linear, aligned", case_aligned_linear, 40, 1e-6, 6e-3},
    {"conv, aligned", case_aligned_conv, 20, 1e-6, 6e-3},
};

/* Products with coarse weights in e4m3: the operands are the same to the bit, but for a hidden row within (bf16 on one
 * side only, it may round the other way). */
static const check fp8_checks[] = {
    {"linear, fp8", case_linear, 120, 1e-6, 6e-3},
    {"linear, several blocks, fp8", case_linear_blocks, 2, 1e-6, 6e-3},
    {"linear, aligned, fp8", case_aligned_linear, 60, 1e-6, 6e-3},
    {"qkv_norm_rope, single_products, mlp, fp8", case_composites, 16, 5e-3, 4e-2},
    {"linear_norm and what reads it, fp8", case_read_norm, 8, 5e-3, 4e-2},
};

/* Products in int8: the numbers and scales are the same to the bit, but for a hidden row within, where one may round to
 * its neighbour. */
static const check int8_checks[] = {
    {"linear, int8", case_linear, 160, 1e-6, 6e-3},
    {"linear, several blocks, int8", case_linear_blocks, 4, 1e-6, 6e-3},
    {"linear, cut from Q8_0, int8", case_int8_cuts, 24, 1e-6, 6e-3},
    {"linear, aligned, int8", case_aligned_linear, 40, 1e-6, 6e-3},
    {"qkv_norm_rope, single_products, mlp, int8", case_composites, 12, 2e-3, 2e-2},
    {"attention, int8", case_attention, 30, 6e-4, 5e-3},
    {"attention, wide heads, int8", case_attention_wide, 2, 2e-6, 5e-3},
    {"attention, steep scores, int8", case_attention_steep, 1, 6e-4, 5e-3},
    {"attention, large scores, int8", case_attention_large, 2, 2e-6, 5e-3},
    {"attention with a NaN, int8", case_attention_nan, 8, 6e-4, 5e-3},
    {"attention_part, attention_merge, int8", case_attention_parts, 10, 6e-4, 5e-3},
    {"attention, aligned, int8", case_aligned_attention, 10, 6e-4, 5e-3},
    {"attention_part, aligned, int8", case_aligned_attention_part, 12, 6e-4, 5e-3},
};

#endif
