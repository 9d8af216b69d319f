/* Weights that a device keeps: the list (ops/kept.h), and the CPU's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/limits.h"
#include "ops/device.h"
#include "ops/kept.h"
#include "tensor/scale.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- the list, over memory of a given size ---- */

typedef struct pretend {
    size_t room;
    uint64_t given, last; /* the last address; what was given back last */
    size_t bytes[64];
} pretend;

static bool take(void *device, size_t bytes, uint64_t *data)
{
    pretend *p = device;
    if (bytes > p->room)
        return false;
    p->room -= bytes;
    *data = ++p->given;
    p->bytes[*data] = bytes;
    return true;
}

static void give_back(void *device, uint64_t data, size_t bytes)
{
    pretend *p = device;
    assert_int_equal(bytes, p->bytes[data]);
    p->room += bytes;
    p->last = data;
}

static const kept_memory memory = {take, give_back};
static flux1_error err;

static kept_block *taken(kept *k, uint64_t name, size_t bytes)
{
    kept_block *b;
    assert_int_equal(kept_take(k, (uint64_t[2]){name, 0}, bytes, &b, &err), FLUX1_OK);
    return b;
}

static kept_block *filled(kept *k, uint64_t name, size_t bytes)
{
    kept_block *b = taken(k, name, bytes);
    assert_non_null(b);
    assert_false(b->whole);
    kept_whole(k, b);
    return b;
}

static bool there(kept *k, uint64_t name)
{
    kept_block *b = kept_find(k, (uint64_t[2]){name, 0});
    kept_leave(k, b);
    return b != NULL;
}

/* Whether a new block of this size stays when nobody uses it; other unused ones may go for it. */
static bool stays(kept *k, size_t bytes)
{
    static uint64_t name = 1000;
    kept_leave(k, filled(k, ++name, bytes));
    return there(k, name);
}

static void unused_blocks_go_by_age_when_memory_is_wanted(void **state)
{
    (void)state;
    pretend p = {.room = 100};
    kept *k;
    assert_int_equal(kept_create(&memory, &p, &k, &err), FLUX1_OK);
    kept_block *a = filled(k, 1, 30), *b = filled(k, 2, 30), *c = filled(k, 3, 30);
    kept_leave(k, a), kept_leave(k, b);
    assert_true(there(k, 1)); /* 2 is the oldest now */
    kept_leave(k, filled(k, 4, 40));
    assert_false(there(k, 2));
    assert_true(there(k, 1) && there(k, 3) && there(k, 4));
    kept_block *d = filled(k, 5, 60); /* 1 and 4 go, 3 is used */
    assert_false(there(k, 1) || there(k, 4));
    assert_null(taken(k, 6, 40));
    assert_true(there(k, 3));
    kept_leave(k, c), kept_leave(k, d);
    kept_leave(k, NULL);
    kept_destroy(k);
    assert_int_equal(p.room, 100);
}

static void unused_blocks_are_held_to_the_budget(void **state)
{
    (void)state;
    pretend p = {.room = 1000};
    kept *k;
    assert_int_equal(kept_create(&memory, &p, &k, &err), FLUX1_OK);
    kept_block *a = filled(k, 1, 30);
    for (uint64_t name = 2; name <= 4; name++)
        kept_leave(k, filled(k, name, 30));
    kept_budget(k, 70);
    assert_true(there(k, 1) && there(k, 4));
    assert_false(there(k, 2) || there(k, 3));
    kept_block *b = filled(k, 5, 60); /* what is needed may exceed it */
    assert_false(there(k, 4));
    kept_leave(k, a); /* not the one that is left: the one that makes room */
    assert_true(there(k, 5) && !there(k, 1));
    kept_leave(k, b);
    assert_true(there(k, 5));
    kept_budget(k, 1);
    assert_false(there(k, 5));
    kept_budget(k, 70);
    kept_block *c = filled(k, 6, 20), *d = filled(k, 7, 30); /* all that are used count */
    assert_true(stays(k, 20) && !stays(k, 21));
    kept_leave(k, c), kept_leave(k, d);
    kept_leave(k, filled(k, 9, 70));
    assert_true(there(k, 9));
    kept_destroy(k);
}

/* Whatever order they come and go in. */
static void of_several_budgets_the_least_counts(void **state)
{
    (void)state;
    pretend p = {.room = 1000};
    kept *k;
    ops_kept_limit small = {0}, large = {0};
    assert_int_equal(kept_create(&memory, &p, &k, &err), FLUX1_OK);
    kept_budget(k, 100);
    kept_limit(k, &small, 40);
    kept_limit(k, &large, 200);
    assert_true(stays(k, 40) && !stays(k, 41));
    for (uint64_t name = 1; name <= 2; name++)
        kept_leave(k, filled(k, name, 30));
    assert_true(there(k, 2) && !there(k, 1));
    kept_limit(k, &small, 0);
    assert_true(stays(k, 200) && !stays(k, 201));
    kept_limit(k, &small, 20);
    assert_false(there(k, 2));
    kept_limit(k, &small, 50);
    assert_true(stays(k, 50) && !stays(k, 51));
    kept_limit(k, &large, 0);
    kept_limit(k, &small, 0);
    kept_limit(k, &small, 0);
    assert_true(stays(k, 100) && !stays(k, 101));
    kept_destroy(k);
}

static void a_block_that_was_not_filled_is_nobodys(void **state)
{
    (void)state;
    pretend p = {.room = 1000};
    kept *k;
    assert_int_equal(kept_create(&memory, &p, &k, &err), FLUX1_OK);
    kept_block *a = taken(k, 1, 30);
    assert_false(there(k, 1));
    kept_leave(k, a);
    assert_int_equal(p.room, 1000);
    kept_leave(k, filled(k, 1, 30));
    assert_true(taken(k, 1, 30)->whole);
    kept_destroy(k);
}

/* ---- two threads want the same ---- */

typedef struct other {
    kept *k;
    kept_block *got;
    bool was_whole;
} other;

static void *want(void *arg)
{
    other *o = arg;
    if (kept_take(o->k, (uint64_t[2]){1, 0}, 30, &o->got, NULL) != FLUX1_OK)
        return NULL;
    o->was_whole = o->got->whole;
    if (!o->was_whole)
        kept_whole(o->k, o->got);
    return NULL;
}

static void the_second_of_two_finds_it_whole_or_fills_it(void **state)
{
    (void)state;
    for (int fails = 0; fails < 2; fails++) {
        pretend p = {.room = 1000};
        other o = {0};
        pthread_t thread;
        assert_int_equal(kept_create(&memory, &p, &o.k, &err), FLUX1_OK);
        kept_block *a = taken(o.k, 1, 30);
        assert_int_equal(pthread_create(&thread, NULL, want, &o), 0);
        if (fails)
            kept_leave(o.k, a);
        else
            kept_whole(o.k, a);
        pthread_join(thread, NULL);
        assert_int_equal(o.was_whole, !fails);
        assert_true(fails || o.got == a);
        assert_int_equal(p.given, fails ? 2 : 1);
        kept_destroy(o.k);
    }
}

/* ---- keys ---- */

static void key_of(const weight_recipe *r, uint64_t options, uint64_t key[2])
{
    kept_key(key, "kind", 1, options);
    kept_key_recipe(key, r);
}

static void a_key_is_of_all_that_the_bytes_are_made_of(void **state)
{
    (void)state;
    float x[24] = {0};
    store_tensor t = {.name = "w", .file = "f", .view = {DTYPE_F32, 2, {6, 4}, x}, .source = {.inode = 3}, .offset = 8},
                 u;
    float factors[12] = {1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 7};
    const tensor_scale rows = {.kind = SCALE_ROWS, .factor = {DTYPE_F32, 1, {6}, factors}, .constant = 1, .row = 4};
    tensor_scale changed = rows;
    t.view.scale = &rows;
    const weight_recipe w = recipe_whole(WEIGHT_LINEAR, &t);
    uint64_t key[2], same[2];
    key_of(&w, 5, key);
    key_of(&w, 5, same);
    assert_memory_equal(key, same, sizeof key);
    for (int what = 0; what < 18; what++) {
        weight_recipe v = w;
        u = t;
        v.piece[0].source = &u;
        switch (what) {
        case 0: v.role = WEIGHT_QKV; break;
        case 1: v.heads = 2; break;
        case 2: v.coarse = true; break;
        case 3: v.kernel = 1; break;
        case 4: v = recipe_rows(&w, 0, 5); break;
        case 5: v = recipe_rows(&w, 1, 5); break;
        case 6: v = recipe_cols(&w, 0, 3); break;
        case 7: u.view.type = DTYPE_F16; break;
        case 8: u.offset = 12; break;
        case 9: u.source.inode = 4; break;
        case 10: u.view.shape[0] = 4, u.view.shape[1] = 6; break;
        case 11: v.piece[0].row = 1; break;
        case 12: u.source.nanoseconds = 1; break; /* written to since */
        case 13: u.view.scale = NULL; break;
        case 14: changed = rows, changed.factor.data = factors + 6, u.view.scale = &changed; break;
        case 15: changed = rows, changed.first = 4, u.view.scale = &changed; break;
        case 16: changed = rows, changed.constant = 2, u.view.scale = &changed; break;
        case 17: changed = rows, changed.rounded = DTYPE_BF16, u.view.scale = &changed; break;
        }
        key_of(&v, 5, same);
        if (!memcmp(key, same, sizeof key))
            fail_msg("change %d makes the same key", what);
    }
    for (int what = 0; what < 6; what++) { /* where it lies in the matrix and in its tensor */
        weight_recipe v = w;
        int64_t *const place[] = {&v.piece[0].source_row, &v.piece[0].source_col, &v.piece[0].row,
                                  &v.piece[0].col,        &v.piece[0].rows,       &v.piece[0].cols};
        ++*place[what];
        key_of(&v, 5, same);
        if (!memcmp(key, same, sizeof key))
            fail_msg("another number %d of a piece makes the same key", what);
    }
    key_of(&w, 6, same);
    assert_memory_not_equal(key, same, sizeof key);
    kept_key(same, "kind", 2, 5);
    kept_key_recipe(same, &w);
    assert_memory_not_equal(key, same, sizeof key);
    kept_key(same, "other", 1, 5);
    kept_key_recipe(same, &w);
    assert_memory_not_equal(key, same, sizeof key);
}

static void of_one(const store_tensor *t, uint64_t key[2])
{
    const weight_recipe w = recipe_whole(WEIGHT_LINEAR, t);
    key_of(&w, 5, key);
}

static void expect_key(const store_tensor *t, const uint64_t key[2], bool equal, int change)
{
    uint64_t now[2];
    of_one(t, now);
    if (!memcmp(key, now, sizeof now) != equal)
        fail_msg("change %d makes %s key", change, equal ? "another" : "the same");
}

/* Whatever is written to a file, or put in its place, changes one of these. In which store it is open does not count;
 * of what lies in no file only that and the address do. */
static void a_key_is_of_the_file_in_its_state(void **state)
{
    (void)state;
    float x[8] = {0};
    const file_identity file = {.device = 1,
                                .inode = 2,
                                .size = 3,
                                .seconds = 4,
                                .nanoseconds = 5,
                                .changed_seconds = 6,
                                .changed_nanoseconds = 7};
    const store_tensor t = {.view = {DTYPE_F32, 2, {2, 2}, x}, .store = 1, .source = file},
                       none = {.view = {DTYPE_F32, 2, {2, 2}, x}, .store = 1};
    uint64_t key[2], of_none[2];
    of_one(&t, key);
    of_one(&none, of_none);
    for (int what = 0; what < 9; what++) {
        store_tensor u = t, v = none;
        switch (what) {
        case 0: u.source.device++; break;
        case 1: u.source.inode++; break;
        case 2: u.source.size++; break;
        case 3: u.source.seconds++; break;
        case 4: u.source.nanoseconds++; break;
        case 5: u.source.changed_seconds++; break;
        case 6: u.source.changed_nanoseconds++; break;
        case 7: u.store = v.store = 2; break;
        case 8: u.view.data = v.view.data = x + 4; break;
        }
        expect_key(&u, key, what >= 7, what);
        expect_key(&v, of_none, what < 7, what);
    }
}

/* The numbers of a scale, and the bytes beside it. */
static void a_key_is_of_all_of_a_scale(void **state)
{
    (void)state;
    float x[8] = {0}, floats[2] = {1, 2}, others[2] = {1, 3};
    const tensor beside = {.type = DTYPE_F32, .dims = 1, .shape = {2}, .data = floats};
    const tensor_scale scale = {.kind = SCALE_CODES,
                                .factor = beside,
                                .absmax = beside,
                                .nested_code = beside,
                                .nested_absmax = beside,
                                .row = 4,
                                .block = 4,
                                .nested_block = 4};
    tensor_scale changed;
    store_tensor t = {.view = {DTYPE_BNB4, 2, {2, 4}, x, &scale}, .source = {.size = 3}}, u = t;
    uint64_t key[2];
    of_one(&t, key);
    u.view.scale = &changed;
    for (int what = 0; what < 14; what++) {
        changed = scale;
        switch (what) {
        case 0: changed.kind = SCALE_ROWS; break;
        case 1: changed.row++; break;
        case 2: changed.block++; break;
        case 3: changed.nested_block++; break;
        case 4: changed.nested_offset = 0.5f; break;
        case 5: changed.code[0] = 1; break;
        case 6: changed.code[15] = 1; break;
        case 7: changed.factor.data = others; break;
        case 8: changed.absmax.data = others; break;
        case 9: changed.nested_code.data = others; break;
        case 10: changed.nested_absmax.data = others; break;
        case 11: changed.factor.type = DTYPE_U8, changed.factor.shape[0] = 8; break; /* the same bytes */
        case 12: changed.nested_absmax.data = NULL; break;
        }
        expect_key(&u, key, what == 13, what);
    }
}

/* Two tensors of files, and what else the values follow from. */
static void a_key_of_computed_values_is_of_what_they_are_made_of(void **state)
{
    (void)state;
    float x[8] = {0}, factor[2] = {1, 2};
    const tensor_scale scale = {.kind = SCALE_FACTOR, .factor = {DTYPE_F32, 0, {0}, factor}},
                       twice = {.kind = SCALE_FACTOR, .factor = {DTYPE_F32, 0, {0}, factor + 1}};
    const store_tensor of[2] = {{.view = {DTYPE_I8, 1, {4}, x, &scale}, .source = {.size = 3}},
                                {.view = {DTYPE_F32, 1, {4}, x}, .source = {.size = 3}, .offset = 8}};
    const store_tensor *list[] = {&of[0], &of[1]};
    const store_sources sources = {.tensor = list, .count = 2, .hash = 5};
    store_tensor t = {.view = {DTYPE_COMPUTED, 2, {2, 2}, x}, .source = {.size = 3}, .computed_from = &sources};
    uint64_t key[2];
    of_one(&t, key);
    for (int what = 0; what < 6; what++) {
        store_tensor first = of[0], second = of[1];
        const store_tensor *changed_list[] = {&first, &second};
        store_sources changed = {.tensor = changed_list, .count = 2, .hash = 5};
        store_tensor u = t;
        u.computed_from = &changed;
        switch (what) {
        case 0: changed.hash++; break;
        case 1: first.source.inode++; break;
        case 2: second.offset++; break;
        case 3: first.view.scale = &twice; break;
        case 4: changed.count = 1; break;
        }
        expect_key(&u, key, what == 5, what);
    }
}

/* ---- the CPU's ---- */

enum { OUT = 3, IN = 2, TAPS = 9, PIXELS = 12 };

typedef struct filters {
    float w[OUT * IN * TAPS], b[OUT];
    store_tensor tensor, bias;
} filters;

static void make_filters(filters *f, uint64_t number)
{
    for (int i = 0; i < OUT * IN * TAPS; i++)
        f->w[i] = (float)(i % 7) - 3;
    for (int i = 0; i < OUT; i++)
        f->b[i] = (float)i;
    f->tensor = (store_tensor){.name = "w", .view = {DTYPE_F32, 4, {OUT, IN, 3, 3}, f->w}, .source = {.inode = number}};
    f->bias =
        (store_tensor){.name = "b", .view = {DTYPE_F32, 1, {OUT}, f->b}, .source = {.inode = number}, .offset = 8};
}

typedef struct backend {
    ops *o;
    block *b;
    weight *w;
} backend;

static void ok(flux1_status st)
{
    if (st != FLUX1_OK)
        fail_msg("%s", err.message);
}

static backend open_backend_with(ops_device *d, const filters *f, bool forms_in_files)
{
    backend a;
    weight_recipe w = recipe_whole(WEIGHT_CONV, &f->tensor), bias = recipe_whole(WEIGHT_VECTOR, &f->bias);
    w.kernel = 3;
    const ops_config c = {
        .arithmetic = DTYPE_F32, .threads = 1, .err = &err, .device = d, .forms_in_files = forms_in_files};
    ok(d->kind->create(&c, &a.o));
    ok(ops_reserve(a.o, 1 << 20));
    ok(ops_block_create(a.o, "filters", &a.b));
    a.b->filed = forms_in_files;
    ok(ops_prepare(a.o, a.b, &w, &bias, &a.w));
    return a;
}

static backend open_backend(ops_device *d, const filters *f) { return open_backend_with(d, f, false); }

/* The convolution of a plane of ones. */
static void result(backend *a, float *out)
{
    size_t mark = ops_mark(a->o);
    float ones[PIXELS * IN];
    act x, y;
    for (int i = 0; i < PIXELS * IN; i++)
        ones[i] = 1;
    ok(ops_create(a->o, ACT_PLANE, shape_plane(1, 3, 4, IN), &x));
    ok(ops_create(a->o, ACT_PLANE, shape_plane(1, 3, 4, OUT), &y));
    ok(ops_upload(a->o, &(tensor){.type = DTYPE_F32, .dims = 1, .shape = {PIXELS * IN}, .data = ones}, x));
    ok(ops_block_begin(a->o, a->b));
    ok(ops_conv(a->o, x, (act){0}, (act){0}, a->w, 1, (act){0}, y));
    ok(ops_block_end(a->o, a->b));
    ok(ops_download(a->o, y, &(tensor){.type = DTYPE_F32, .dims = 1, .shape = {PIXELS * OUT}, .data = out}));
    ops_release(a->o, mark);
}

/* Filters are changed behind the device's back: where the old ones' result comes, they were found, not made again. */
static void the_cpu_finds_what_another_backend_prepared(void **state)
{
    (void)state;
    filters f;
    ops_device *d;
    float first[PIXELS * OUT], again[PIXELS * OUT];
    make_filters(&f, 1);
    ok(ops_cpu_device.open(0, &d, &err));
    backend a = open_backend(d, &f);
    result(&a, first);
    ops_destroy(a.o);
    f.w[0] += 100, f.b[0] += 100;
    a = open_backend(d, &f);
    result(&a, again);
    assert_memory_equal(first, again, sizeof first);
    ops_rest(a.o); /* given up, but still there */
    result(&a, again);
    assert_memory_equal(first, again, sizeof first);
    d->kind->kept_budget(d, 1); /* in use: it stays */
    result(&a, again);
    assert_memory_equal(first, again, sizeof first);
    ops_rest(a.o); /* now it goes, and is made again */
    result(&a, again);
    assert_memory_not_equal(first, again, sizeof first);
    ops_destroy(a.o);
    ops_device_close(d);
}

/* Of one matrix each kind of product has a form under a name of its own, in memory and on disk. */
static void forms_of_int8_are_not_taken_for_each_other(void **state)
{
    (void)state;
    static float w[2 * 32];
    const store_tensor matrix = {.name = "w", .view = {DTYPE_F32, 2, {2, 32}, w}, .source = {.inode = 5}};
    weight_recipe r = recipe_whole(WEIGHT_LINEAR, &matrix);
    uint64_t key[3][2];
    r.int8 = true;
    for (int8_kind kind = INT8_NONE; kind <= INT8_ROTATED; kind++) {
        ops_device *d;
        ops *o;
        weight *made;
        block *b;
        size_t bytes;
        ok(ops_cpu_device.open(0, &d, &err));
        ok(d->kind->create(&(ops_config){.arithmetic = DTYPE_F32, .int8 = kind, .threads = 1, .err = &err, .device = d},
                           &o));
        ok(ops_block_create(o, "a block", &b));
        ok(ops_prepare(o, b, &r, NULL, &made));
        d->kind->block_key(o, b, key[kind], &bytes);
        for (int8_kind before = INT8_NONE; before < kind; before++)
            assert_memory_not_equal(key[kind], key[before], sizeof key[kind]);
        ops_destroy(o);
        ops_device_close(d);
    }
}

static void released(void *owner) { ++*(int *)owner; }

/* A matrix of which the rank has columns 1 and 2 of 4, behind a bias. */
static void columns_of_a_matrix_lie_dense_in_the_packed_form(void **state)
{
    (void)state;
    float w[2][4] = {{1, 2, 3, 4}, {5, 6, 7, 8}}, bias[2] = {9, 10}, form[32];
    const store_tensor matrix = {.name = "w", .view = {DTYPE_F32, 2, {2, 4}, w}, .source = {.inode = 3}},
                       vector = {.name = "b", .view = {DTYPE_F32, 1, {2}, bias}, .source = {.inode = 4}};
    weight_recipe whole = recipe_whole(WEIGHT_LINEAR, &matrix), slice = recipe_cols(&whole, 1, 2),
                  b = recipe_whole(WEIGHT_VECTOR, &vector);
    ops_device *d;
    ops *o;
    weight *made;
    block *one, *two;
    uint64_t key[2][2];
    size_t bytes[2];
    ok(ops_cpu_device.open(0, &d, &err));
    ok(d->kind->create(&(ops_config){.arithmetic = DTYPE_F32, .threads = 1, .err = &err, .device = d}, &o));
    ok(ops_block_create(o, "whole", &one));
    ok(ops_prepare(o, one, &whole, &b, &made));
    ok(ops_block_create(o, "slice", &two));
    ok(ops_prepare(o, two, &slice, &b, &made));
    d->kind->block_key(o, one, key[0], &bytes[0]);
    d->kind->block_key(o, two, key[1], &bytes[1]);
    assert_int_equal(bytes[0], 64);      /* two float32 of bias */
    assert_int_equal(bytes[1], 64 + 64); /* and 2 x 2 of the matrix */
    assert_memory_not_equal(key[0], key[1], sizeof key[0]);
    memset(form, 0xff, sizeof form);
    ok(d->kind->block_export(o, two, form));
    const float expected[32] = {9, 10, [16] = 2, 3, 6, 7};
    assert_memory_equal(form, expected, sizeof form);
    for (int again = 0; again < 2; again++) { /* the other form is kept under another key, and found again */
        float y[2], ones[2] = {1, 1};
        act in, out;
        ok(ops_reserve(o, 1 << 20));
        ok(ops_create(o, ACT_LINEAR, shape_rows(1, 0, 1, 2), &in));
        ok(ops_create(o, ACT_LINEAR, shape_rows(1, 0, 1, 2), &out));
        ok(ops_upload(o, &(tensor){.type = DTYPE_F32, .dims = 1, .shape = {2}, .data = ones}, in));
        ok(ops_block_begin(o, two));
        ok(ops_product(o, in, made, &(epilogue){0}, out));
        ok(ops_block_end(o, two));
        ok(ops_download(o, out, &(tensor){.type = DTYPE_F32, .dims = 1, .shape = {2}, .data = y}));
        assert_true(y[0] == 2 + 3 + 9 && y[1] == 6 + 7 + 10);
        ops_release(o, 0);
        ops_rest(o);
    }
    ops_destroy(o);
    ops_device_close(d);
}

static void the_cpu_exports_and_adopts_a_block(void **state)
{
    (void)state;
    filters f;
    ops_device *d;
    float first[PIXELS * OUT], again[PIXELS * OUT];
    uint64_t key[2];
    size_t bytes;
    int back = 0;
    ops_loan *loan[2];
    make_filters(&f, 1);
    ok(ops_cpu_device.open(0, &d, &err));
    backend a = open_backend(d, &f);
    d->kind->block_key(a.o, a.b, key, &bytes);
    assert_int_equal(bytes, 256 + 64); /* 3·2·9 float32, rounded up to 64 bytes, and 3 */
    unsigned char *saved = aligned_alloc(64, bytes);
    assert_non_null(saved);
    ok(d->kind->block_export(a.o, a.b, saved)); /* not begun: made for this */
    const ops_lent lent = {.bytes = saved, .count = bytes, .release = released, .owner = &back};
    result(&a, first);
    ops_destroy(a.o);
    ops_device_close(d); /* nothing is kept any more */
    f.w[0] += 100;
    ok(ops_cpu_device.open(0, &d, &err));
    d->kind->kept_budget(d, 1); /* what is lent does not count */
    ok(d->kind->kept_adopt(d, key, &lent, &loan[0], &err));
    assert_int_equal(back, 0);
    ok(d->kind->kept_adopt(d, key, &lent, &loan[1], &err)); /* the first is used, the second goes back at once */
    assert_int_equal(back, 1);
    d->kind->kept_reclaim(d, loan[1]);
    a = open_backend(d, &f);
    result(&a, again);
    assert_memory_equal(first, again, sizeof first);
    saved[3] ^= 0x80; /* a sign: in place, not a copy */
    result(&a, again);
    assert_memory_not_equal(first, again, sizeof first);
    saved[3] ^= 0x80;
    d->kind->kept_reclaim(d, loan[0]);
    assert_int_equal(back, 1); /* the backend uses it */
    result(&a, again);
    assert_memory_equal(first, again, sizeof first);
    ops_rest(a.o);
    assert_int_equal(back, 2);
    result(&a, again); /* made from the filters, which have changed */
    assert_memory_not_equal(first, again, sizeof first);
    d->kind->kept_reclaim(d, NULL);
    ops_destroy(a.o);
    ops_device_close(d);
    free(saved);
}

/* Where forms were to be lent, those that are not take memory of the weights' budget, and none beyond it. */
static void a_form_that_was_not_lent_is_held_to_the_budget(void **state)
{
    (void)state;
    filters f;
    ops_device *d;
    float out[PIXELS * OUT];
    make_filters(&f, 1);
    ok(ops_cpu_device.open(0, &d, &err));
    for (size_t budget = 319; budget <= 320; budget++) { /* its bytes: 256 + 64 */
        backend a = open_backend_with(d, &f, true);
        d->kind->weights_budget(a.o, budget);
        if (budget == 320)
            result(&a, out);
        else
            assert_int_equal(ops_block_begin(a.o, a.b), FLUX1_ERR_LIMIT);
        ops_destroy(a.o);
    }
    ops_device_close(d);
}

extern const kept_memory cpu_kept_memory; /* ops/cpu/cpu.h, whose names are too many for this file */

/* malloc would keep large ones from the second time on, since others lie behind them. */
static void freed_weights_leave_the_process(void **state)
{
    (void)state;
    enum { COUNT = 16, BYTES = 4 << 20 };
    uint64_t data[COUNT];
    for (int round = 0; round < 3; round++) {
        const uint64_t before = limits_resident();
        for (int i = 0; i < COUNT; i++) {
            assert_true(cpu_kept_memory.take(NULL, BYTES, &data[i]));
            assert_int_equal(data[i] % ARENA_ALIGN, 0);
            memset((void *)(uintptr_t)data[i], 1, BYTES);
        }
        void *behind = malloc(1000);
        const uint64_t filled = limits_resident();
        for (int i = 0; i < COUNT; i++)
            cpu_kept_memory.give_back(NULL, data[i], BYTES);
        assert_true(filled >= before + COUNT * (uint64_t)BYTES * 9 / 10);
#if !defined(__SANITIZE_ADDRESS__) /* it keeps what is freed, to find uses of it */
        assert_true(limits_resident() <= before + BYTES);
#endif
        free(behind);
    }
}

/* Two ranks of a process that use the same form have it in memory once: the first counts it. */
static void a_form_of_two_ranks_counts_once(void **state)
{
    (void)state;
    filters f;
    ops_device *d;
    float out[PIXELS * OUT];
    make_filters(&f, 1);
    ok(ops_cpu_device.open(0, &d, &err));
    backend a = open_backend_with(d, &f, true), b = open_backend_with(d, &f, true);
    d->kind->weights_budget(a.o, 320);
    d->kind->weights_budget(b.o, 0);
    result(&a, out);
    result(&b, out);
    ops_rest(b.o); /* which does not count it */
    assert_int_equal(ops_block_begin(b.o, b.b), FLUX1_OK);
    ok(ops_block_end(b.o, b.b));
    ops_rest(a.o);
    ops_rest(b.o);
    assert_int_equal(ops_block_begin(b.o, b.b), FLUX1_ERR_LIMIT); /* nobody else has it */
    ops_destroy(a.o);
    ops_destroy(b.o);
    ops_device_close(d);
}

/* Beside a form in memory, two blocks of mapped weights are: one in use, and the next, which is read. That of a store
 * without files was never to be in a file: the plan counts it elsewhere. */
static void two_mapped_blocks_fit_beside_a_form_that_was_not_lent(void **state)
{
    (void)state;
    static float w[8 * 4];
    filters f;
    ops_device *d;
    make_filters(&f, 1);
    const store_tensor matrix = {.name = "w", .view = {DTYPE_F32, 2, {8, 4}, w}, .source = {.inode = 5}};
    const weight_recipe all = recipe_whole(WEIGHT_LINEAR, &matrix);
    ok(ops_cpu_device.open(0, &d, &err));
    for (int i = 0; i < 3; i++) { /* 320 bytes of the form, then 64 and 48 of the matrix, with nothing mapped between */
        backend a = open_backend_with(d, &f, true);
        block *b[2];
        weight *made;
        for (int k = 0; k < 2; k++) {
            const weight_recipe rows = recipe_rows(&all, 4 * k, 4 - k);
            ok(ops_block_create(a.o, "rows", &b[k]));
            ok(ops_prepare(a.o, b[k], &rows, NULL, &made));
        }
        a.b->filed = i < 2;
        d->kind->weights_budget(a.o, 320 + 64 + 48 - (i > 0));
        assert_int_equal(ops_block_begin(a.o, b[0]), i == 1 ? FLUX1_ERR_LIMIT : FLUX1_OK);
        if (i == 1)
            assert_non_null(strstr(err.message, "filters: its prepared weights (320 bytes)"));
        ops_destroy(a.o);
    }
    ops_device_close(d);
}

/* ---- keys across processes ---- */

/* Where the content of the files is known, their names and times do not count. */
static void a_key_is_of_the_content_once_it_is_known(void **state)
{
    (void)state;
    float x[4] = {0};
    content_hash same = {.hash = {1, 2}}, changed = {.hash = {1, 3}}, first = {.hash = {4, 2}};
    atomic_init(&same.known, true), atomic_init(&changed.known, true), atomic_init(&first.known, true);
    store_tensor a = {.name = "w", .view = {DTYPE_F32, 2, {2, 2}, x}, .source = {.inode = 3, .size = 9}, .offset = 8},
                 b = a, c = a, d = a, e = a;
    a.content = b.content = d.content = &same, c.content = &changed, e.content = &first;
    b.source.inode = 4, d.offset = 12;
    uint64_t key[5][2];
    const store_tensor *all[] = {&a, &b, &c, &d, &e};
    for (int i = 0; i < 5; i++) {
        weight_recipe r = recipe_whole(WEIGHT_LINEAR, all[i]);
        key_of(&r, 5, key[i]);
    }
    assert_memory_equal(key[0], key[1], sizeof key[0]);
    assert_memory_not_equal(key[0], key[2], sizeof key[0]);
    assert_memory_not_equal(key[0], key[3], sizeof key[0]);
    assert_memory_not_equal(key[0], key[4], sizeof key[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unused_blocks_go_by_age_when_memory_is_wanted),
        cmocka_unit_test(unused_blocks_are_held_to_the_budget),
        cmocka_unit_test(of_several_budgets_the_least_counts),
        cmocka_unit_test(a_block_that_was_not_filled_is_nobodys),
        cmocka_unit_test(the_second_of_two_finds_it_whole_or_fills_it),
        cmocka_unit_test(a_key_is_of_all_that_the_bytes_are_made_of),
        cmocka_unit_test(a_key_is_of_the_file_in_its_state),
        cmocka_unit_test(a_key_is_of_all_of_a_scale),
        cmocka_unit_test(a_key_of_computed_values_is_of_what_they_are_made_of),
        cmocka_unit_test(the_cpu_finds_what_another_backend_prepared),
        cmocka_unit_test(the_cpu_exports_and_adopts_a_block),
        cmocka_unit_test(a_form_that_was_not_lent_is_held_to_the_budget),
        cmocka_unit_test(a_form_of_two_ranks_counts_once),
        cmocka_unit_test(freed_weights_leave_the_process),
        cmocka_unit_test(two_mapped_blocks_fit_beside_a_form_that_was_not_lent),
        cmocka_unit_test(forms_of_int8_are_not_taken_for_each_other),
        cmocka_unit_test(columns_of_a_matrix_lie_dense_in_the_packed_form),
        cmocka_unit_test(a_key_is_of_the_content_once_it_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
