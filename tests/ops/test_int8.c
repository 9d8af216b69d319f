/* A product in int8 is off by no more than ggml's of Q8_0 with Q8_0 on the same inputs (tools/oracle/int8_goldens.py,
 * by the gguf package), also of outliers and heavy tails; with a weight of Q8_0 it is ggml's but for the inputs'
 * scales, which ggml rounds to float16. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ops/cpu/int8.h"
#include "ops/int8.h"
#include "ops/ops.h"
#include "tensor/scale.h"
#include "weights/store.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 12, OUTPUTS = 8, COLS = 352 };

static const char *const NAMES[] = {"normal", "outliers", "tails"};
enum { NAME_COUNT = 3 };

static flux1_error err;

static void ok(flux1_status st)
{
    if (st != FLUX1_OK)
        fail_msg("%s", err.message);
}

static double distance(const float *a, const float *b)
{
    double difference = 0, size = 0;
    for (int i = 0; i < ROWS * OUTPUTS; i++) {
        difference += pow((double)a[i] - b[i], 2);
        size += pow(b[i], 2);
    }
    return sqrt(difference / size);
}

static const store_tensor *tensor_of(store *s, const char *name, const char *what)
{
    char full[64];
    snprintf(full, sizeof full, "%s.%s", name, what);
    const store_tensor *t = store_find(s, full);
    assert_non_null(t);
    return t;
}

static void product_of(flux1_status (*create)(const ops_config *, ops **), int8_kind kind, bool quads,
                       const store_tensor *x, weight_recipe r, float *y)
{
    ops *o;
    block *b;
    weight *p;
    act in, out;
    tensor host = {.type = DTYPE_F32, .dims = 2, .shape = {ROWS, OUTPUTS}, .data = y};
    r.int8 = true;
    for (int i = 0; i < ROWS * OUTPUTS; i++)
        y[i] = NAN;
    ok(create(&(ops_config){.arithmetic = DTYPE_F32, .int8 = kind, .int8_quads = quads, .threads = 1, .err = &err},
              &o));
    ok(ops_reserve(o, (size_t)1 << 20));
    ok(ops_create(o, ACT_RESIDUAL, shape_rows(1, 0, ROWS, COLS), &in));
    ok(ops_create(o, ACT_RESIDUAL, shape_rows(1, 0, ROWS, OUTPUTS), &out));
    ok(ops_upload(o, &x->view, in));
    ok(ops_block_create(o, "a block", &b));
    ok(ops_prepare(o, b, &r, NULL, &p));
    ok(ops_block_begin(o, b));
    ok(ops_product(o, in, p, &(epilogue){0}, out));
    ok(ops_download(o, out, &host));
    ops_destroy(o);
}

static void product(flux1_status (*create)(const ops_config *, ops **), int8_kind kind, bool quads,
                    const store_tensor *x, const store_tensor *w, float *y)
{
    product_of(create, kind, quads, x, recipe_whole(WEIGHT_LINEAR, w), y);
}

static void hold(store *s, const char *name, const char *device, flux1_status (*create)(const ops_config *, ops **),
                 bool quads)
{
    float ours[ROWS * OUTPUTS], packed[ROWS * OUTPUTS], rotated[ROWS * OUTPUTS];
    const store_tensor *x = tensor_of(s, name, "x");
    const float *exact = tensor_of(s, name, "exact")->view.data, *ggml = tensor_of(s, name, "ggml")->view.data;
    store_tensor q8 = *tensor_of(s, name, "q8_0");
    q8.view.type = DTYPE_Q8_0; /* the file has its bytes */
    q8.view.shape[1] = COLS;
    product(create, INT8_FINE, quads, x, tensor_of(s, name, "w"), ours);
    product(create, INT8_FINE, quads, x, &q8, packed);
    product(create, INT8_ROTATED, quads, x, tensor_of(s, name, "w"), rotated);
    const double theirs = distance(ggml, exact), off = distance(ours, exact), apart = distance(packed, ggml);
    printf("%-9s %-4s ggml off by %.3e, ours by %.3e; of Q8_0 apart by %.1e\n", name, device, theirs, off, apart);
    assert_true(off <= 1.01 * theirs); /* whole numbers that a scale's rounding moves go either way */
    assert_true(off >= 0.8 * theirs);  /* and it is in 8 bits */
    assert_true(apart <= 0.15 * theirs);
    const char *as = quads ? "quads" : "rotated";
    const double turned = distance(rotated, exact), other = distance(rotated, tensor_of(s, name, as)->view.data);
    printf("%-9s %-4s %s off by %.3e; apart from numpy's by %.1e\n", name, device, as, turned, other);
    assert_true(turned <= (quads ? 2 : 1.4) * theirs && turned <= (quads ? 1.7e-2 : 1.2e-2));
    assert_true(other <= 0.15 * turned); /* whole numbers halfway between two go either way */
}

static void a_product_is_as_exact_as_ggmls(void **state)
{
    const char *data = getenv("FLUX1_TEST_DATA");
    char path[512];
    store *s;
    (void)state;
    snprintf(path, sizeof path, "%s/goldens/int8/products.safetensors", data ? data : TEST_DATA);
    ok(store_open_file(path, &s, &err));
    for (int i = 0; i < NAME_COUNT; i++) {
        hold(s, NAMES[i], "ref", ops_ref_create, false);
        hold(s, NAMES[i], "ref", ops_ref_create, true);
        hold(s, NAMES[i], "cpu", ops_cpu_create, ops_cpu_int8_quads());
    }
    store_close(s);
}

/* Values that are zero but for one are of one size when they have been turned, so their quads are as large as they may
 * be, and the same values as weights are 127 throughout, 255 where 128 is added. */
static void the_largest_quads_are_exact(void **state)
{
    float x[ROWS * COLS] = {0}, w[OUTPUTS * COLS] = {0}, cpu[ROWS * OUTPUTS], ref[ROWS * OUTPUTS];
    (void)state;
    for (int i = 0; i < ROWS; i++)
        x[i * COLS + 29 * i] = i % 2 ? -1.0f : 3.0f;
    for (int i = 0; i < OUTPUTS; i++)
        w[i * COLS + 29 * i] = i % 3 ? 1.0f : -0.5f;
    const store_tensor in = {.view = {.type = DTYPE_F32, .dims = 2, .shape = {ROWS, COLS}, .data = x}},
                       weights = {.view = {.type = DTYPE_F32, .dims = 2, .shape = {OUTPUTS, COLS}, .data = w}};
    product(ops_cpu_create, INT8_ROTATED, false, &in, &weights, cpu);
    product(ops_ref_create, INT8_ROTATED, ops_cpu_int8_quads(), &in, &weights, ref);
    for (int i = 0; i < ROWS * OUTPUTS; i++)
        if (!(fabsf(cpu[i] - ref[i]) <= 1e-6f))
            fail_msg("row %d, output %d: %g, by the definition %g", i / OUTPUTS, i % OUTPUTS, (double)cpu[i],
                     (double)ref[i]);
    assert_true(fabsf(ref[0] + 1.5f) < 0.03f && fabsf(ref[1]) < 1e-6f);
}

static flux1_status create_portable(const ops_config *c, ops **out)
{
    setenv("FLUX1_CPU_ISA", "portable", 1);
    const flux1_status st = ops_cpu_create(c, out);
    unsetenv("FLUX1_CPU_ISA");
    return st;
}

static const struct {
    const char *name;
    flux1_status (*create)(const ops_config *, ops **);
} BACKENDS[] = {{"ref", ops_ref_create}, {"cpu", ops_cpu_create}, {"portable cpu", create_portable}};
enum { BACKEND_COUNT = sizeof BACKENDS / sizeof *BACKENDS };

/* Values in steps of 1/8 that are not symmetrical, of a matrix of `rows` rows. */
static void fill(float *values, int rows)
{
    for (int i = 0; i < rows * COLS; i++)
        values[i] = (float)((i * 37 + i / COLS * 11) % 29 - 12) / 8;
}

static store_tensor matrix_of(float *values, int rows)
{
    return (store_tensor){.view = {.type = DTYPE_F32, .dims = 2, .shape = {rows, COLS}, .data = values}};
}

/* Outputs of one row (col −1) or one column (row −1) are NaN, and all others what they were. */
static void expect_spoilt(const float *y, const float *clean, int row, int col, const char *what)
{
    for (int i = 0; i < ROWS * OUTPUTS; i++) {
        const bool spoilt = i / OUTPUTS == row || i % OUTPUTS == col;
        if (spoilt ? !isnan(y[i]) : y[i] != clean[i])
            fail_msg("%s: row %d, output %d is %g, %g without it", what, i / OUTPUTS, i % OUTPUTS, (double)y[i],
                     (double)clean[i]);
    }
}

/* In the first and the last group, one in between and the shorter last one of rotated rows. */
static void what_is_not_finite_spoils_its_row_alone(void **state)
{
    (void)state;
    static float x[ROWS * COLS], w[OUTPUTS * COLS];
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    static const int at[] = {0, 37, 255, 256, COLS - 1};
    float clean[ROWS * OUTPUTS], y[ROWS * OUTPUTS];
    const store_tensor in = matrix_of(x, ROWS), weights = matrix_of(w, OUTPUTS);
    fill(x, ROWS);
    fill(w, OUTPUTS);
    for (int c = 0; c < 2 * BACKEND_COUNT; c++) {
        const int8_kind kind = c % 2 ? INT8_ROTATED : INT8_FINE;
        product(BACKENDS[c / 2].create, kind, ops_cpu_int8_quads(), &in, &weights, clean);
        for (int k = 0; k < 3 * 5; k++) {
            char what[64];
            snprintf(what, sizeof what, "%s, %s, %g in column %d", BACKENDS[c / 2].name, c % 2 ? "rotated" : "fine",
                     (double)bad[k / 5], at[k % 5]);
            float *const of_x = x + 5 * COLS + at[k % 5], *const of_w = w + 3 * COLS + at[k % 5];
            const float before = *of_x, weight_before = *of_w;
            *of_x = bad[k / 5];
            product(BACKENDS[c / 2].create, kind, ops_cpu_int8_quads(), &in, &weights, y);
            expect_spoilt(y, clean, 5, -1, what);
            *of_x = before;
            *of_w = bad[k / 5];
            product(BACKENDS[c / 2].create, kind, ops_cpu_int8_quads(), &in, &weights, y);
            expect_spoilt(y, clean, -1, 3, what);
            *of_w = weight_before;
        }
    }
}

/* Rows of zeros and of values too small for a scale give zeros. What is finite may be too large once it is turned, or
 * once four of a quad are added: a fine row bears it, a rotated one is NaN. */
static void the_smallest_and_the_largest_values_are_as_defined(void **state)
{
    (void)state;
    static float x[ROWS * COLS], w[OUTPUTS * COLS];
    float y[ROWS * OUTPUTS];
    const store_tensor in = matrix_of(x, ROWS), weights = matrix_of(w, OUTPUTS);
    fill(x, ROWS);
    for (int i = 0; i < COLS; i++) {
        x[2 * COLS + i] = 0;
        x[3 * COLS + i] = 0x1p-110f;
        x[4 * COLS + i] = x[5 * COLS + i] = 0;
    }
    x[5 * COLS + 1] = 1.2e38f;
    x[4 * COLS + 1] = x[4 * COLS + 2] = x[4 * COLS + 7] = 3e38f; /* signs of all three are + */
    for (int i = 0; i < OUTPUTS * COLS; i++)
        w[i] = i % COLS == 1 ? 0.5f : 0.0f;
    for (int c = 0; c < 2 * BACKEND_COUNT; c++) {
        const bool rotated = c % 2,
                   quads = rotated && BACKENDS[c / 2].create != create_portable && ops_cpu_int8_quads();
        product(BACKENDS[c / 2].create, rotated ? INT8_ROTATED : INT8_FINE, ops_cpu_int8_quads(), &in, &weights, y);
        for (int i = 0; i < OUTPUTS; i++) {
            assert_true(y[2 * OUTPUTS + i] == 0 && y[3 * OUTPUTS + i] == 0);
            assert_true(rotated ? isnan(y[4 * OUTPUTS + i]) : fabsf(y[4 * OUTPUTS + i] / 1.5e38f - 1) < 0.01f);
            assert_true(quads ? isnan(y[5 * OUTPUTS + i]) : fabsf(y[5 * OUTPUTS + i] / 0.6e38f - 1) < 0.01f);
        }
    }
}

/* 127/3 is 42.33 and 127/2 is 63.5, which goes to 64; with a largest magnitude of 127 the scale is 1, and 2.5 and −3.5
 * go to the even neighbour. */
static void quantising_is_as_defined(void **state)
{
    (void)state;
    const float values[4] = {3, -1, 0, 1.5f}, even[3] = {127, 2.5f, -3.5f}, tiny[2] = {1e-35f, 0},
                bad[2] = {1, INFINITY}, none[3] = {NAN, 1, 2};
    int8_t n[4];
    float scale;
    int8_quantise(values, 4, n, &scale);
    assert_true(n[0] == 127 && n[1] == -42 && n[2] == 0 && n[3] == 64);
    assert_true(scale == 3.0f / 127);
    int8_quantise(even, 3, n, &scale);
    assert_true(n[0] == 127 && n[1] == 2 && n[2] == -4 && scale == 1);
    int8_quantise(tiny, 2, n, &scale);
    assert_true(n[0] == 0 && scale == 0);
    int8_quantise(bad, 2, n, &scale);
    assert_true(n[0] == 0 && n[1] == 0 && isnan(scale));
    int8_quantise(none, 3, n, &scale);
    assert_true(n[0] == 0 && n[1] == 0 && n[2] == 0 && isnan(scale));
    int8_quantise(&(float){INT8_LEAST}, 1, n, &scale);
    assert_true(n[0] == 127 && scale == INT8_LEAST / 127);
}

/* ---- forms of weights ---- */

enum {
    FORM_ROWS = 21,
    FORM_COLS = 5000
}; /* more columns than are quantised at once, and a last group that is shorter */

/* The number in column `at` of a row: row by row, or in blocks of 16 rows and 64 numbers. */
static int8_t number_at(int8_kind kind, const int8_t *form, int64_t all, int64_t row, int64_t at)
{
    return kind == INT8_FINE ? form[row * all + at]
                             : form[row / 16 * 16 * all + at / 64 * 16 * 64 + row % 16 * 64 + at % 64];
}

static void expect_form(const weight_recipe *r, int8_kind kind, const cpu_weight *w)
{
    const int64_t all = int8_numbers(kind, FORM_COLS), groups = int8_groups(kind, FORM_COLS);
    for (int64_t row = 0; row < FORM_ROWS; row++)
        for (int64_t g = 0, at = 0; g < groups; g++) {
            const int64_t col = g * int8_group(kind), count = i64_min(int8_group(kind), FORM_COLS - col);
            int8_t numbers[INT8_LONG];
            float scale;
            ok(int8_recipe_group(kind, r, row, col, count, numbers, &scale, &err));
            assert_true(w->scales[row * groups + g] == scale);
            for (int64_t i = 0; i < int8_length(kind, count); i++, at++)
                assert_int_equal(number_at(kind, w->numbers, all, row, at), numbers[i]);
        }
    for (int64_t row = FORM_ROWS; kind == INT8_ROTATED && row < 32; row++)
        for (int64_t at = 0; at < all; at++)
            assert_int_equal(number_at(kind, w->numbers, all, row, at), 0);
}

/* Every number and scale of the definition, where the kernels find it, whatever lay there before. */
static void forms_have_the_numbers_of_the_definition(void **state)
{
    (void)state;
    static float w[FORM_ROWS * FORM_COLS];
    const store_tensor t = {.view = {.type = DTYPE_F32, .dims = 2, .shape = {FORM_ROWS, FORM_COLS}, .data = w}};
    const weight_recipe r = recipe_whole(WEIGHT_LINEAR, &t);
    for (int i = 0; i < FORM_ROWS * FORM_COLS; i++)
        w[i] = (float)((i * 37 + i / FORM_COLS * 11) % 1021 - 500) / 8;
    for (int c = 0; c < 4; c++) {
        const int8_kind kind = c % 2 ? INT8_ROTATED : INT8_FINE;
        cpu_weight form = {.head = {.int8 = kind}, .recipe = r};
        ops *o;
        size_t bytes;
        ok(BACKENDS[1 + c / 2].create(&(ops_config){.arithmetic = DTYPE_F32, .int8 = kind, .threads = 2, .err = &err},
                                      &o));
        ok(cpu_int8_place(kind, &r, &bytes, &err));
        unsigned char *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
        assert_non_null(memory);
        memset(memory, 0xAA, bytes);
        ok(cpu_int8_fill(cpu_self(o), &r, memory));
        cpu_int8_point(&form, memory);
        expect_form(&r, kind, &form);
        free(memory);
        ops_destroy(o);
    }
}

static flux1_status no_values(const tensor_values *v, int64_t first, int64_t count, float *out, flux1_error *e)
{
    (void)v, (void)first, (void)count, (void)out;
    return error_set(e, FLUX1_ERR_MEMORY, "no values");
}

/* Nothing is multiplied with a form whose values could not be computed. */
static void a_form_that_cannot_be_made_is_an_error(void **state)
{
    (void)state;
    const tensor_values values = {.decode = no_values};
    const store_tensor t = {.name = "w",
                            .file = "f",
                            .view = {.type = DTYPE_COMPUTED, .dims = 2, .shape = {40, COLS}, .data = (void *)&values}};
    for (int8_kind kind = INT8_NONE; kind <= INT8_ROTATED; kind++) {
        weight_recipe r = recipe_whole(WEIGHT_LINEAR, &t);
        ops *o;
        block *b;
        weight *w;
        r.int8 = kind != INT8_NONE;
        err = (flux1_error){0};
        ok(ops_cpu_create(&(ops_config){.arithmetic = DTYPE_F32, .int8 = kind, .threads = 2, .err = &err}, &o));
        ok(ops_block_create(o, "a block", &b));
        ok(ops_prepare(o, b, &r, NULL, &w));
        assert_int_equal(ops_block_begin(o, b), FLUX1_ERR_MEMORY);
        assert_non_null(strstr(err.message, "no values"));
        ops_destroy(o);
    }
}

/* ---- numbers that a file has ---- */

/* Of four rows and 128 columns: rows 1 and 2 of `by_rows`, columns from 32 on, beside blocks of Q8_0; below them rows 1
 * and 2 of `by_factor` beside rows 2 and 3 of by_rows. */
static void pieces_of_three(const store_tensor *by_rows, const store_tensor *blocks, const store_tensor *by_factor,
                            weight_recipe *out)
{
    const weight_recipe rows = recipe_whole(WEIGHT_LINEAR, by_rows), q8 = recipe_whole(WEIGHT_LINEAR, blocks),
                        factor = recipe_whole(WEIGHT_LINEAR, by_factor);
    weight_recipe a = recipe_rows(&rows, 1, 2), c = recipe_rows(&factor, 1, 2), d = recipe_rows(&rows, 2, 2), top,
                  bottom;
    a = recipe_cols(&a, 32, 64);
    d = recipe_cols(&d, 0, 64);
    ok(recipe_beside(&a, &q8, &top, &err));
    ok(recipe_beside(&c, &d, &bottom, &err));
    ok(recipe_stack(&top, &bottom, out, &err));
}

static void expect_stored(const weight_recipe *r, int64_t row, int64_t col, int64_t count, bool expected)
{
    int8_t n[INT8_GROUP];
    float scale = -1, values[INT8_GROUP];
    memset(n, 99, sizeof n);
    if (int8_recipe_stored(r, row, col, count, n, &scale) != expected)
        fail_msg("row %lld, columns from %lld: %s", (long long)row, (long long)col, expected ? "not found" : "found");
    ok(recipe_decode(r, row, col, count, values, &err));
    for (int64_t i = 0; expected && i < count; i++)
        if (!((float)n[i] * scale == values[i]))
            fail_msg("row %lld, column %lld: %d times %g, should be %g", (long long)row, (long long)(col + i), n[i],
                     (double)scale, (double)values[i]);
    for (int64_t i = expected ? count : 0; i < INT8_GROUP; i++)
        assert_int_equal(n[i], 99);
    assert_true(expected || scale == -1);
}

/* They are what the decoders make of them, divided by the scale; of a group that lies in one piece and has one scale.
 */
static void numbers_and_scales_of_files_are_kept(void **state)
{
    (void)state;
    static int8_t of_rows[4 * 96], of_factor[3 * 64];
    static unsigned char blocks[4 * 34];
    static float factors[] = {2, 3, 5, 7}, factor = 0.25f;
    for (int i = 0; i < 4 * 96; i++)
        of_rows[i] = (int8_t)(i * 37 % 251 - 125);
    for (int i = 0; i < 3 * 64; i++)
        of_factor[i] = (int8_t)(i * 53 % 249 - 124);
    for (int i = 0; i < 4 * 34; i++)
        blocks[i] = (unsigned char)(i % 34 == 0 ? 0 : i % 34 == 1 ? 0x3c + i / 34 : i * 29); /* f16: 1, 1.25 … */
    const tensor_scale each = {.kind = SCALE_ROWS,
                               .factor = {.type = DTYPE_F32, .dims = 1, .shape = {4}, .data = factors},
                               .constant = 0.5f,
                               .row = 96},
                       one = {.kind = SCALE_FACTOR, .factor = {.type = DTYPE_F32, .data = &factor}, .constant = 9},
                       codes = {.kind = SCALE_CODES};
    const store_tensor by_rows = {.view = {DTYPE_I8, 2, {4, 96}, of_rows, &each}},
                       q8 = {.view = {DTYPE_Q8_0, 2, {2, 64}, blocks, NULL}},
                       by_factor = {.view = {DTYPE_I8, 2, {3, 64}, of_factor, &one}};
    weight_recipe r;
    pieces_of_three(&by_rows, &q8, &by_factor, &r);
    for (int64_t row = 0; row < 4; row++) {
        for (int64_t col = 0; col < 128; col += INT8_GROUP)
            expect_stored(&r, row, col, INT8_GROUP, true);
        expect_stored(&r, row, 48, INT8_GROUP, false); /* in two pieces */
        expect_stored(&r, row, 64, 20, true);
        expect_stored(&r, row, 80, INT8_GROUP, row >= 2); /* from the middle of a block of Q8_0 */
        expect_stored(&r, row, 16, INT8_GROUP, true);
    }
    int8_t n[INT8_GROUP];
    float scale;
    assert_false(int8_stored(&by_rows.view, 80, INT8_GROUP, n, &scale)); /* two rows */
    assert_true(int8_stored(&by_rows.view, 64, INT8_GROUP, n, &scale) && scale == 1);
    const tensor bare = {DTYPE_I8, 2, {4, 96}, of_rows, NULL}, coded = {DTYPE_I8, 2, {4, 96}, of_rows, &codes},
                 bytes = {DTYPE_U8, 2, {4, 96}, of_rows, &each}, scaled = {DTYPE_Q8_0, 2, {2, 64}, blocks, &one};
    assert_false(int8_stored(&bare, 0, INT8_GROUP, n, &scale) || int8_stored(&coded, 0, INT8_GROUP, n, &scale) ||
                 int8_stored(&bytes, 0, INT8_GROUP, n, &scale) || int8_stored(&scaled, 0, INT8_GROUP, n, &scale));
}

/* Columns up to `end` of one tensor, the others of another. */
static weight_recipe cut_at(const store_tensor *left, const store_tensor *right, int64_t end)
{
    const weight_recipe l = recipe_whole(WEIGHT_LINEAR, left), r = recipe_whole(WEIGHT_LINEAR, right),
                        a = recipe_cols(&l, 0, end), b = recipe_cols(&r, end, COLS - end);
    weight_recipe both;
    ok(recipe_beside(&a, &b, &both, &err));
    return both;
}

/* One value of 127 in a row is itself in 8 bits, so that an output is 127 times one weight; quantised again to the
 * largest of its group, 89 or less, most weights would be others. Also beside floats, and where one group, [32, 64), is
 * of two tensors. */
static void products_take_the_numbers_of_files(void **state)
{
    (void)state;
    static float x[ROWS * COLS], factors[OUTPUTS], floats[OUTPUTS * COLS];
    static int8_t numbers[OUTPUTS * COLS], front[OUTPUTS * COLS],
        behind[OUTPUTS * COLS]; /* the same up to column 48, and from there on */
    static const int hot[ROWS] = {0, 29, 40, 58, 87, 116, 145, 174, 203, 232, 261, 319};
    float y[ROWS * OUTPUTS];
    for (int i = 0; i < ROWS; i++)
        x[i * COLS + hot[i]] = 127;
    for (int i = 0; i < OUTPUTS * COLS; i++) {
        numbers[i] = (int8_t)(i * 37 % 179 - 89);
        front[i] = i % COLS < 48 ? numbers[i] : 0;
        behind[i] = i % COLS < 48 ? 0 : numbers[i];
    }
    for (int i = 0; i < OUTPUTS; i++)
        factors[i] = (float)(i + 3) / 4;
    const tensor_scale each = {.kind = SCALE_ROWS,
                               .factor = {.type = DTYPE_F32, .dims = 1, .shape = {OUTPUTS}, .data = factors},
                               .constant = 1,
                               .row = COLS};
    const store_tensor in = matrix_of(x, ROWS), rest = matrix_of(floats, OUTPUTS),
                       weights = {.view = {DTYPE_I8, 2, {OUTPUTS, COLS}, numbers, &each}},
                       left = {.view = {DTYPE_I8, 2, {OUTPUTS, COLS}, front, &each}},
                       right = {.view = {DTYPE_I8, 2, {OUTPUTS, COLS}, behind, &each}};
    const weight_recipe recipes[] = {recipe_whole(WEIGHT_LINEAR, &weights), cut_at(&weights, &rest, 320),
                                     cut_at(&left, &right, 48)};
    for (int c = 0; c < 3 * BACKEND_COUNT; c++) {
        product_of(BACKENDS[c / 3].create, INT8_FINE, false, &in, recipes[c % 3], y);
        for (int i = 0; i < ROWS * OUTPUTS; i++) {
            const int col = hot[i / OUTPUTS], output = i % OUTPUTS;
            const float wanted = 127 * (float)numbers[output * COLS + col] * factors[output],
                        most = c % 3 == 2 && col / INT8_GROUP == 1 ? 127 * 0.36f * factors[output] : /* 89/127/2 */
                                   1e-6f * fabsf(wanted);
            if (!(fabsf(y[i] - wanted) <= most))
                fail_msg("%s, recipe %d: column %d, output %d is %g, should be %g", BACKENDS[c / 3].name, c % 3, col,
                         output, (double)y[i], (double)wanted);
        }
    }
}

/* ---- attention ---- */

enum { DIM = 128, KEYS = 151 };

static act of_values(ops *o, int64_t rows, const float *values)
{
    tensor t = {.type = DTYPE_F32, .dims = 2, .shape = {rows, DIM}, .data = (void *)(uintptr_t)values}; /* only read */
    act a;
    ok(ops_create(o, ACT_HEADS, shape_rows(1, 0, rows, DIM), &a));
    ok(ops_upload(o, &t, a));
    return a;
}

/* softmax(q·kᵀ/√128)·v of one query. */
static void attention(flux1_status (*create)(const ops_config *, ops **), const float *q, const float *k,
                      const float *v, float *y)
{
    ops *o;
    act out;
    tensor host = {.type = DTYPE_F32, .dims = 2, .shape = {1, DIM}, .data = y};
    ok(create(&(ops_config){.arithmetic = DTYPE_F32, .int8 = INT8_ROTATED, .threads = 1, .err = &err}, &o));
    ok(ops_reserve(o, (size_t)8 << 20));
    ok(ops_create(o, ACT_HEADS, shape_rows(1, 0, 1, DIM), &out));
    const attention_args a = {.heads = 1, .scale = 1 / sqrtf(DIM), .int8 = true};
    ok(ops_attention(o, of_values(o, 1, q), of_values(o, KEYS, k), of_values(o, KEYS, v), &a, out));
    ok(ops_download(o, out, &host));
    ops_destroy(o);
}

/* A prompt's filling: behind one key that the query likes, 150 equal ones, whose scores are 6.5 lower. Each weighs
 * e^−6.5 = 1/665 of it, 0.38 of the smallest weight that 8 bits have; all together 150/665 = 0.2255. With values of 1
 * for the first and 0 for the others the output is 1/1.2255 = 0.816. */
static void many_small_weights_count(void **state)
{
    float q[DIM], k[KEYS * DIM], v[KEYS * DIM], y[DIM];
    double size = 0;
    (void)state;
    for (int d = 0; d < DIM; d++) {
        q[d] = (float)((d * 37 % 29 - 14) / 8.0);
        size += (double)q[d] * q[d];
    }
    for (int i = 0; i < KEYS; i++)
        for (int d = 0; d < DIM; d++) {
            k[i * DIM + d] = q[d] * (float)(i ? 1 - 6.5 * sqrt(DIM) / size : 1);
            v[i * DIM + d] = i == 0;
        }
    flux1_status (*const create[])(const ops_config *, ops **) = {ops_ref_create, ops_cpu_create};
    for (int c = 0; c < 2; c++) {
        attention(create[c], q, k, v, y);
        for (int d = 0; d < DIM; d++)
            if (!(fabsf(y[d] - 0.816f) < 0.012f))
                fail_msg("%s: value %d is %g", c ? "cpu" : "ref", d, (double)y[d]);
    }
}

/* A column of equal values is the output, whatever they are: 127 of them are its scale. What is below the least scale
 * is zero. */
static void values_of_any_size_pass_through_attention(void **state)
{
    (void)state;
    static const float of[] = {0, 1e-35f, 1e-20f, 0.01f, 1, -5, 126, 128, -1000, 1e30f};
    enum { SIZES = sizeof of / sizeof *of };
    static float q[DIM], k[KEYS * DIM], v[KEYS * DIM];
    float y[DIM];
    for (int i = 0; i < KEYS * DIM; i++) {
        k[i] = (float)(i * 37 % 29 - 14) / 8;
        v[i] = of[i % DIM % SIZES];
    }
    for (int d = 0; d < DIM; d++)
        q[d] = (float)(d * 11 % 13 - 6) / 8;
    for (int c = 0; c < BACKEND_COUNT; c++) {
        attention(BACKENDS[c].create, q, k, v, y);
        for (int d = 0; d < DIM; d++) {
            const float x = of[d % SIZES], want = fabsf(x) < INT8_LEAST ? 0 : x;
            if (!(fabsf(y[d] - want) <= 1e-5f * fabsf(want)))
                fail_msg("%s: value %d is %g, should be %g", BACKENDS[c].name, d, (double)y[d], (double)want);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(quantising_is_as_defined),
                                       cmocka_unit_test(forms_have_the_numbers_of_the_definition),
                                       cmocka_unit_test(a_form_that_cannot_be_made_is_an_error),
                                       cmocka_unit_test(numbers_and_scales_of_files_are_kept),
                                       cmocka_unit_test(products_take_the_numbers_of_files),
                                       cmocka_unit_test(many_small_weights_count),
                                       cmocka_unit_test(values_of_any_size_pass_through_attention),
                                       cmocka_unit_test(the_largest_quads_are_exact),
                                       cmocka_unit_test(what_is_not_finite_spoils_its_row_alone),
                                       cmocka_unit_test(the_smallest_and_the_largest_values_are_as_defined),
                                       cmocka_unit_test(a_product_is_as_exact_as_ggmls)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
