/* Each parallel form gives on every mesh what the plain operation gives on one rank of ops/ref: rows, heads and
 * features that do not divide, ranks that hold nothing, batches, parts, and windows in larger buffers. Outputs begin as
 * NaN, and what lies outside of a window must stay as it was. TEST_DEVICE: another device than ref and cpu, shared by
 * the ranks and one each. TEST_PROCESSES: the ranks are spread over the processes that mpirun has started. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#ifdef TEST_DEVICE
#include "ops/cuda_emulator/install.h"
#endif
#include "mesh/mesh.h"
#include "support/processes_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RANKS_MAX 6
#define ARENA ((size_t)1 << 22)
#define OUTSIDE 42.0f /* in cells outside of a window */

enum { WIDTH = 12, DIM = 4, FEATURES = 10, STEPS = 3, STEP = 1, BEFORE = 2, AFTER = 3 };

static const char *const SHAPES[] = {"1x1", "1x2", "2x1", "2x2", "3x1", "1x3", "2x3"};

/* own: a device for each rank, joined by links */
typedef struct kind_of_place {
    const char *device;
    bool own, bf16;
} kind_of_place;
#ifdef TEST_DEVICE
static const kind_of_place PLACES[] = {
    {TEST_DEVICE, false, false}, {TEST_DEVICE, true, false}, {TEST_DEVICE, true, true}};
#elif defined(TEST_PROCESSES)
static const kind_of_place PLACES[] = {{"cpu", false, false}};
#else
static const kind_of_place PLACES[] = {{"ref", false, false}, {"cpu", false, false}, {"cpu", false, true}};
#endif

/* One form on one mesh. Each rank keeps what it holds of the result, at the cells' places in the whole picture. */
typedef struct trial trial;
typedef flux1_status form(trial *t, mesh *m, block *b);
struct trial {
    form *run;
    act_part part;
    int variant;
    int64_t batch, rows[2], heads;
    bool window;    /* operands lie within larger buffers */
    int64_t *cells; /* [ranks]: of the whole result, from the ranks that have some of it */
    float *kept[RANKS_MAX];
    bool *have[RANKS_MAX];
};

/* ---- values ---- */

/* In [−1, 1), of a cell of the whole picture; exact in bf16, so that inputs are the same in both arithmetics. */
static float noise(int seed, int64_t a, int64_t b, int64_t c)
{
    uint64_t x = (uint64_t)(seed + 1) * 0x9e3779b97f4a7c15ull ^ (uint64_t)(a * 1000003 + b * 1009 + c + 17) << 7;
    for (int i = 0; i < 3; i++) {
        x ^= x >> 29;
        x *= 0xbf58476d1ce4e5b9ull;
    }
    return (float)(int64_t)(x >> 57) / 64 - 1;
}

/* Cells of one part, or of a whole without parts; `seed` −1: NaN, −2: OUTSIDE. */
static flux1_status fill(mesh *m, act a, int seed, int64_t first_row, int64_t first_col)
{
    int64_t shape[3] = {act_batch(a), act_rows(a), a.cols};
    tensor host;
    TRY(tensor_create(DTYPE_F32, 3, shape, &host, m->err));
    float *to = host.data;
    for (int64_t b = 0; b < shape[0]; b++)
        for (int64_t r = 0; r < shape[1]; r++)
            for (int64_t c = 0; c < shape[2]; c++)
                *to++ = seed == -1 ? NAN : seed == -2 ? OUTSIDE : noise(seed, b, first_row + r, first_col + c);
    flux1_status st = ops_upload(m->o, &host, a);
    tensor_free(&host);
    return st;
}

/* Buffers that are made with room around the window have OUTSIDE there. */
static flux1_status create(trial *t, mesh *m, act_role role, act_shape s, act *out)
{
    act_shape larger = s;
    if (t->window) {
        larger.rows[PART_TEXT] += BEFORE;
        larger.rows[PART_IMAGE] += AFTER;
        larger.cols *= 2;
    }
    TRY(ops_create(m->o, role, larger, out));
    if (!t->window)
        return FLUX1_OK;
    TRY(fill(m, *out, -2, 0, 0));
    *out = act_slice(act_columns(*out, s.cols, s.cols), BEFORE, s.rows[PART_TEXT] + s.rows[PART_IMAGE]);
    return FLUX1_OK;
}

/* Of what `create` made, one part. */
static act part(const trial *t, act a, act_part p)
{
    if (p == PART_WHOLE)
        return a;
    act of = act_of(a, p);
    if (!t->window)
        return of;
    return p == PART_TEXT ? act_slice(of, BEFORE, of.rows - BEFORE) : act_slice(of, 0, of.rows - AFTER);
}

/* An operand with rows of both parts, filled from their places in the picture; `seed` −1: an output. */
static flux1_status operand(trial *t, mesh *m, act_role role, const cut rows[2], cut cols, int seed, act *out)
{
    TRY(create(t, m, role, shape_rows(t->batch, rows[0].count, rows[1].count, cols.count), out));
    for (act_part p = PART_TEXT; p <= PART_IMAGE; p++)
        TRY(fill(m, part(t, *out, p), seed, rows[p].begin + p * 1000, cols.begin));
    return FLUX1_OK;
}

static flux1_status untouched(trial *t, mesh *m, act a)
{
    act whole = act_whole(a.buffer);
    tensor host;
    int64_t shape[3] = {act_batch(whole), act_rows(whole), whole.cols}, first = act_first_row(a);
    if (!t->window)
        return FLUX1_OK;
    TRY(tensor_create(DTYPE_F32, 3, shape, &host, m->err));
    flux1_status st = ops_download(m->o, whole, &host);
    const float *at = host.data;
    for (int64_t b = 0; st == FLUX1_OK && b < shape[0]; b++)
        for (int64_t r = 0; r < shape[1]; r++)
            for (int64_t c = 0; c < shape[2]; c++, at++) {
                bool inside = r >= first && r < first + act_rows(a) && c >= a.col && c < a.col + a.cols;
                if (!inside && *at != OUTSIDE)
                    st = error_set(m->err, FLUX1_ERR_INTERNAL, "rank %d: cell %d, %d, %d outside of the window is %g",
                                   m->rank, (int)b, (int)r, (int)c, (double)*at);
            }
    tensor_free(&host);
    return st;
}

/* Cells of the result, [batch][all rows][all_cols] in the picture. */
static void keep_cells(trial *t, mesh *m, const float *from, const int64_t shape[3], int64_t first_row,
                       int64_t first_col, int64_t all_rows, int64_t all_cols)
{
    for (int64_t b = 0; b < shape[0]; b++)
        for (int64_t r = 0; r < shape[1]; r++)
            for (int64_t c = 0; c < shape[2]; c++) {
                int64_t cell = (b * all_rows + first_row + r) * all_cols + first_col + c;
                t->kept[m->rank][cell] = *from++;
                t->have[m->rank][cell] = true;
            }
    t->cells[m->rank] = t->batch * all_rows * all_cols;
}

static flux1_status keep(trial *t, mesh *m, act a, int64_t first_row, int64_t first_col, int64_t all_rows,
                         int64_t all_cols)
{
    int64_t shape[3] = {act_batch(a), act_rows(a), a.cols};
    tensor host;
    TRY(tensor_create(DTYPE_F32, 3, shape, &host, m->err));
    flux1_status st = ops_download(m->o, a, &host);
    if (st == FLUX1_OK)
        keep_cells(t, m, host.data, shape, first_row, first_col, all_rows, all_cols);
    tensor_free(&host);
    return st;
}

/* The rows of the parts that the trial names. */
static flux1_status keep_parts(trial *t, mesh *m, act a, const cut rows[2], cut cols, int64_t all_cols)
{
    TRY(untouched(t, m, a));
    for (act_part p = PART_TEXT; p <= PART_IMAGE; p++)
        if (t->part == PART_WHOLE || t->part == p)
            TRY(keep(t, m, part(t, a, p), rows[p].begin + (p == PART_IMAGE ? t->rows[0] : 0), cols.begin,
                     t->rows[0] + t->rows[1], all_cols));
    return FLUX1_OK;
}

/* ---- weights: the same file for all ranks ---- */

enum {
    W_VECTOR,
    W_BIAS,
    W_PROJECTION,
    W_UP,
    W_DOWN,
    W_TABLE,
    W_CONV3,
    W_CONV1,
    W_TEXT_PROJECTION,
    W_TEXT_UP,
    W_TEXT_DOWN,
    W_QKV,
    W_COUNT
}; /* W_TEXT_: the prompt's in a joint block */
static struct {
    int dims;
    int64_t shape[4];
} const weight_shapes[W_COUNT] = {
    [W_VECTOR] = {1, {WIDTH}},
    [W_BIAS] = {1, {WIDTH}},
    [W_PROJECTION] = {2, {WIDTH, 5 * DIM}},
    [W_UP] = {2, {FEATURES, WIDTH}},
    [W_DOWN] = {2, {WIDTH, FEATURES}},
    [W_TABLE] = {2, {13, WIDTH}},
    [W_CONV3] = {4, {6, 4, 3, 3}},
    [W_CONV1] = {4, {6, 4, 1, 1}},
    [W_TEXT_PROJECTION] = {2, {WIDTH, 5 * DIM}},
    [W_TEXT_UP] = {2, {FEATURES, WIDTH}},
    [W_TEXT_DOWN] = {2, {WIDTH, FEATURES}},
    [W_QKV] = {2, {9 * DIM, WIDTH}},
};
static store_tensor weights[W_COUNT];

static int make_weights(void **state)
{
    (void)state;
    for (int i = 0; i < W_COUNT; i++) {
        weights[i] = (store_tensor){.name = "w", .file = "memory", .store = (uint64_t)i + 1};
        assert_int_equal(
            tensor_create(DTYPE_F32, weight_shapes[i].dims, weight_shapes[i].shape, &weights[i].view, NULL), FLUX1_OK);
        for (int64_t n = 0; n < tensor_elements(&weights[i].view); n++)
            ((float *)weights[i].view.data)[n] = noise(100 + i, n, 0, 0);
    }
    return 0;
}

static int free_weights(void **state)
{
    (void)state;
    for (int i = 0; i < W_COUNT; i++)
        tensor_free(&weights[i].view);
    return 0;
}

typedef enum slice { SLICE_NONE, SLICE_COLUMN, SLICE_ROW } slice;

static flux1_status prepare(mesh *m, block *b, int i, weight_role role, slice how, int64_t unit, int bias, weight **out)
{
    weight_recipe r = recipe_whole(role, &weights[i]), v = {0};
    bool with = bias >= 0 && !(how == SLICE_ROW && m->tp_rank > 0);
    if (role == WEIGHT_CONV)
        r.kernel = (int)weight_shapes[i].shape[2];
    if (with)
        v = recipe_whole(WEIGHT_VECTOR, &weights[bias]);
    if (with && v.rows > r.rows)
        v = recipe_rows(&v, 0, r.rows);
    if (how == SLICE_COLUMN) {
        r = mesh_column_slice(m, &r, unit);
        if (with)
            v = mesh_column_slice(m, &v, unit);
    }
    if (how == SLICE_ROW)
        r = mesh_row_slice(m, &r, unit);
    return ops_prepare(m->o, b, &r, with ? &v : NULL, out);
}

/* ---- the forms ---- */

static cut all_of(int64_t n) { return (cut){0, n}; }

/* rows: this rank's of the residual; span: within a block. */
static void cuts(const trial *t, const mesh *m, cut rows[2], cut span[2])
{
    for (act_part p = PART_TEXT; p <= PART_IMAGE; p++) {
        rows[p] = mesh_rows(m, t->rows[p]);
        span[p] = mesh_span(m, t->rows[p]);
    }
}

static flux1_status table_of(trial *t, mesh *m, int seed, act *out)
{
    trial one = *t;
    one.batch = 1;
    const cut rows[2] = {{0, 0}, {0, STEPS * t->batch}};
    return operand(&one, m, ACT_TABLE, rows, all_of(WIDTH), seed, out);
}

/* variant: the kind of norm; 3: a gather, 4: one between roles */
static flux1_status enter_form(trial *t, mesh *m, block *b)
{
    cut rows[2], span[2];
    act x, full, shift, scale;
    norm n = {.kind = (norm_kind)t->variant, .eps = 1e-6f};
    weight *w;
    cuts(t, m, rows, span);
    TRY(prepare(m, b, W_VECTOR, WEIGHT_VECTOR, SLICE_NONE, 1, -1, &w));
    TRY(ops_block_begin(m->o, b));
    TRY(operand(t, m, ACT_RESIDUAL, rows, all_of(WIDTH), 1, &x));
    TRY(operand(t, m, t->variant == 3 ? ACT_RESIDUAL : ACT_LINEAR, span, all_of(WIDTH), -1, &full));
    TRY(table_of(t, m, 2, &shift));
    TRY(table_of(t, m, 3, &scale));
    n.shift = n.kind == NORM_LAYER ? part(t, shift, PART_IMAGE) : (act){0};
    n.scale = n.kind == NORM_LAYER ? part(t, scale, PART_IMAGE) : (act){0};
    n.w = n.kind == NORM_RMS ? w : NULL;
    act from = part(t, x, t->part), to = part(t, full, t->part);
    TRY(t->variant >= 3 ? mesh_gather(m, from, to) : mesh_enter(m, &n, from, to));
    return keep_parts(t, m, full, span, all_of(WIDTH), WIDTH);
}

/* ---- leaves, and the enter that may come with them: what is kept of it depends on the variant ---- */

enum { KEEP_X, KEEP_NEXT, KEEP_MINE, LEAVE_VARIANTS };

/* alike: one norm for both parts. *out: NULL where only x is kept. */
static flux1_status next_of(trial *t, mesh *m, int variant, bool alike, mesh_next *next, const mesh_next **out)
{
    cut rows[2], span[2];
    act shift, scale;
    *out = variant == KEEP_X ? NULL : next;
    *next = (mesh_next){.slot = 3, .mine = variant == KEEP_MINE};
    cuts(t, m, rows, span);
    TRY(operand(t, m, ACT_LINEAR, span, all_of(WIDTH), -1, &next->full));
    for (act_part p = PART_TEXT; p <= PART_IMAGE; p++) {
        TRY(table_of(t, m, 20 + (alike ? 0 : p), &shift));
        TRY(table_of(t, m, 22 + (alike ? 0 : p), &scale));
        next->n[p] = (norm){
            .kind = NORM_LAYER, .shift = part(t, shift, PART_IMAGE), .scale = part(t, scale, PART_IMAGE), .eps = 1e-6f};
    }
    return FLUX1_OK;
}

static flux1_status keep_left(trial *t, mesh *m, act x, const mesh_next *next)
{
    cut rows[2], span[2];
    cuts(t, m, rows, span);
    if (!next)
        return keep_parts(t, m, x, rows, all_of(WIDTH), WIDTH);
    TRY(untouched(t, m, next->full));
    for (act_part p = PART_TEXT; p <= PART_IMAGE; p++) {
        const cut *kept = next->mine ? &rows[p] : &span[p];
        if (t->part == PART_WHOLE || t->part == p)
            TRY(keep(t, m, act_slice(part(t, next->full, p), 0, kept->count),
                     kept->begin + (p == PART_IMAGE ? t->rows[0] : 0), 0, t->rows[0] + t->rows[1], WIDTH));
    }
    return FLUX1_OK;
}

/* On one rank the next block is entered by itself, elsewhere with the leave. */
static flux1_status leave_form(trial *t, mesh *m, block *b)
{
    cut rows[2], span[2], heads = cut_of(5, m->tp, m->tp_rank);
    act x, in, gate;
    linear_weight w = {0};
    mesh_next then;
    const mesh_next *next;
    cuts(t, m, rows, span);
    TRY(prepare(m, b, W_PROJECTION, WEIGHT_LINEAR, SLICE_ROW, DIM, W_BIAS, &w.w));
    TRY(ops_block_begin(m->o, b));
    TRY(operand(t, m, ACT_LINEAR, span, (cut){heads.begin * DIM, heads.count * DIM}, 1, &in));
    TRY(operand(t, m, ACT_RESIDUAL, rows, all_of(WIDTH), 2, &x));
    TRY(table_of(t, m, 3, &gate));
    gate = t->variant == LEAVE_VARIANTS ? (act){0} : part(t, gate, PART_IMAGE);
    TRY(next_of(t, m, t->variant % LEAVE_VARIANTS, true, &then, &next));
    mesh_next of_part = then;
    of_part.full = part(t, then.full, t->part);
    act mine = part(t, x, t->part);
    TRY(mesh_leave(m, part(t, in, t->part), &w, gate, mine, next && m->ranks > 1 ? &of_part : NULL));
    if (next && m->ranks == 1)
        TRY(mesh_enter_next(m, mine, &of_part));
    return keep_left(t, m, x, next);
}

static flux1_status mlp_form(trial *t, mesh *m, block *b)
{
    cut rows[2], span[2];
    act x, in, gate;
    linear_weight up = {0}, down = {0};
    cuts(t, m, rows, span);
    TRY(prepare(m, b, W_UP, WEIGHT_LINEAR, SLICE_COLUMN, 1, W_BIAS, &up.w));
    TRY(prepare(m, b, W_DOWN, WEIGHT_LINEAR, SLICE_ROW, 1, W_BIAS, &down.w));
    TRY(ops_block_begin(m->o, b));
    TRY(operand(t, m, ACT_LINEAR, span, all_of(WIDTH), 1, &in));
    TRY(operand(t, m, ACT_RESIDUAL, rows, all_of(WIDTH), 2, &x));
    TRY(table_of(t, m, 3, &gate));
    TRY(mesh_mlp(m, part(t, in, t->part), &up, ACTIVATION_GELU_TANH, &down, part(t, gate, PART_IMAGE),
                 part(t, x, t->part)));
    return keep_parts(t, m, x, rows, all_of(WIDTH), WIDTH);
}

/* The joint forms, where each part has its own weights and tables; on one rank the plain forms, part by part. */

static flux1_status joint_gates(trial *t, mesh *m, act gate[2])
{
    act table[2];
    for (act_part p = PART_TEXT; p <= PART_IMAGE; p++) {
        TRY(table_of(t, m, 10 + p, &table[p]));
        gate[p] = part(t, table[p], PART_IMAGE);
    }
    return FLUX1_OK;
}

static flux1_status joint_enter_form(trial *t, mesh *m, block *b)
{
    cut rows[2], span[2];
    act x, full, shift, scale;
    norm n[2];
    (void)b;
    cuts(t, m, rows, span);
    TRY(operand(t, m, ACT_RESIDUAL, rows, all_of(WIDTH), 1, &x));
    TRY(operand(t, m, ACT_LINEAR, span, all_of(WIDTH), -1, &full));
    for (act_part p = PART_TEXT; p <= PART_IMAGE; p++) {
        TRY(table_of(t, m, 2 + p, &shift));
        TRY(table_of(t, m, 4 + p, &scale));
        n[p] = (norm){
            .kind = NORM_LAYER, .shift = part(t, shift, PART_IMAGE), .scale = part(t, scale, PART_IMAGE), .eps = 1e-6f};
    }
    for (act_part p = PART_TEXT; m->ranks == 1 && p <= PART_IMAGE; p++)
        TRY(mesh_enter(m, &n[p], part(t, x, p), part(t, full, p)));
    if (m->ranks > 1)
        TRY(mesh_joint_enter(m, n, x, full));
    return keep_parts(t, m, full, span, all_of(WIDTH), WIDTH);
}

static flux1_status joint_leave_form(trial *t, mesh *m, block *b)
{
    cut rows[2], span[2], heads = cut_of(5, m->tp, m->tp_rank);
    act x, in, gate[2];
    linear_weight text = {0}, image = {0};
    mesh_next then;
    const mesh_next *next;
    const linear_weight *const w[] = {&text, &image};
    cuts(t, m, rows, span);
    TRY(prepare(m, b, W_TEXT_PROJECTION, WEIGHT_LINEAR, SLICE_ROW, DIM, W_BIAS, &text.w));
    TRY(prepare(m, b, W_PROJECTION, WEIGHT_LINEAR, SLICE_ROW, DIM, -1, &image.w));
    TRY(ops_block_begin(m->o, b));
    TRY(operand(t, m, ACT_LINEAR, span, (cut){heads.begin * DIM, heads.count * DIM}, 1, &in));
    TRY(operand(t, m, ACT_RESIDUAL, rows, all_of(WIDTH), 2, &x));
    TRY(joint_gates(t, m, gate));
    TRY(next_of(t, m, t->variant, false, &then, &next));
    if (m->ranks > 1) {
        TRY(mesh_joint_leave(m, in, w, gate, x, next));
    } else {
        for (act_part p = PART_TEXT; p <= PART_IMAGE; p++)
            TRY(mesh_leave(m, part(t, in, p), w[p], gate[p], part(t, x, p), NULL));
        if (next)
            TRY(mesh_enter_next(m, x, next));
    }
    return keep_left(t, m, x, next);
}

static flux1_status joint_mlp_form(trial *t, mesh *m, block *b)
{
    cut rows[2], span[2];
    act x, in, gate[2];
    linear_weight text_up = {0}, text_down = {0}, image_up = {0}, image_down = {0};
    mesh_next then;
    const mesh_next *next;
    const linear_weight *const up[] = {&text_up, &image_up}, *const down[] = {&text_down, &image_down};
    cuts(t, m, rows, span);
    TRY(prepare(m, b, W_TEXT_UP, WEIGHT_LINEAR, SLICE_COLUMN, 1, -1, &text_up.w));
    TRY(prepare(m, b, W_TEXT_DOWN, WEIGHT_LINEAR, SLICE_ROW, 1, W_BIAS, &text_down.w));
    TRY(prepare(m, b, W_UP, WEIGHT_LINEAR, SLICE_COLUMN, 1, W_BIAS, &image_up.w));
    TRY(prepare(m, b, W_DOWN, WEIGHT_LINEAR, SLICE_ROW, 1, -1, &image_down.w));
    TRY(ops_block_begin(m->o, b));
    TRY(operand(t, m, ACT_LINEAR, span, all_of(WIDTH), 1, &in));
    TRY(operand(t, m, ACT_RESIDUAL, rows, all_of(WIDTH), 2, &x));
    TRY(joint_gates(t, m, gate));
    TRY(next_of(t, m, t->variant, false, &then, &next));
    if (m->ranks > 1) {
        TRY(mesh_joint_mlp(m, in, up, ACTIVATION_GELU_TANH, down, gate, x, next));
    } else {
        for (act_part p = PART_TEXT; p <= PART_IMAGE; p++)
            TRY(mesh_mlp(m, part(t, in, p), up[p], ACTIVATION_GELU_TANH, down[p], gate[p], part(t, x, p)));
        if (next)
            TRY(mesh_enter_next(m, x, next));
    }
    return keep_left(t, m, x, next);
}

/* A row a step and entry of the batch. */
static flux1_status table_form(trial *t, mesh *m, block *b)
{
    const int64_t outputs = weight_shapes[W_TABLE].shape[0];
    trial one = *t;
    act in, table;
    linear_weight w = {0};
    one.batch = 1;
    one.part = PART_IMAGE;
    one.rows[PART_TEXT] = 0;
    one.rows[PART_IMAGE] = STEPS * t->batch;
    const cut rows[2] = {{0, 0}, all_of(one.rows[PART_IMAGE])};
    TRY(prepare(m, b, W_TABLE, WEIGHT_LINEAR, SLICE_COLUMN, 1, -1, &w.w));
    TRY(ops_block_begin(m->o, b));
    TRY(operand(&one, m, ACT_LINEAR, rows, all_of(WIDTH), 1, &in));
    TRY(operand(&one, m, ACT_TABLE, rows, all_of(outputs), -1, &table));
    TRY(mesh_table(m, part(t, in, PART_IMAGE), &w, part(t, table, PART_IMAGE)));
    return keep_parts(&one, m, part(t, table, PART_IMAGE), rows, all_of(outputs), outputs);
}

static flux1_status attention_form(trial *t, mesh *m, block *b)
{
    cut rows[2], span[2], heads = cut_of(t->heads, m->tp, m->tp_rank), cols = {heads.begin * DIM, heads.count * DIM};
    act in[3], out;
    (void)b;
    cuts(t, m, rows, span);
    for (int i = 0; i < 3; i++)
        TRY(operand(t, m, ACT_HEADS, span, cols, i, &in[i]));
    TRY(operand(t, m, ACT_LINEAR, span, cols, -1, &out));
    TRY(mesh_attention(m, in[0], in[1], in[2], &(attention_args){.heads = heads.count, .scale = 0.5f}, t->rows, out));
    return keep_parts(t, m, out, span, cols, t->heads * DIM);
}

/* variant: what is kept of it, the attention or the second product */
static flux1_status single_attention_form(trial *t, mesh *m, block *b)
{
    const cut heads = cut_of(3, m->tp, m->tp_rank), features = cut_of(FEATURES, m->tp, m->tp_rank),
              cols = {heads.begin * DIM, heads.count * DIM};
    cut rows[2], span[2];
    act in, rope, qkv, hidden, out;
    weight_recipe all = {0};
    weight *made, *head_norm;
    linear_weight up = {0};
    cuts(t, m, rows, span);
    TRY(prepare(m, b, W_UP, WEIGHT_LINEAR, SLICE_COLUMN, 1, W_BIAS, &up.w));
    for (int i = 0; i < 3; i++) {
        weight_recipe whole = recipe_whole(WEIGHT_LINEAR, &weights[W_QKV]),
                      one = recipe_rows(&whole, i * 3 * DIM, 3 * DIM), joined;
        one = mesh_column_slice(m, &one, DIM);
        if (i)
            TRY(recipe_stack(&all, &one, &joined, m->err));
        all = i ? joined : one;
    }
    all.role = WEIGHT_QKV;
    all.heads = heads.count;
    TRY(ops_prepare(m->o, b, &all, NULL, &made));
    weight_recipe vector = recipe_whole(WEIGHT_VECTOR, &weights[W_VECTOR]), scales = recipe_rows(&vector, 0, DIM);
    TRY(ops_prepare(m->o, b, &scales, NULL, &head_norm));
    TRY(ops_block_begin(m->o, b));
    TRY(operand(t, m, ACT_LINEAR, span, all_of(WIDTH), 1, &in));
    TRY(operand(t, m, ACT_HEADS, span, (cut){0, 3 * cols.count}, -1, &qkv));
    TRY(operand(t, m, ACT_LINEAR, span, features, -1, &hidden));
    TRY(operand(t, m, ACT_LINEAR, span, cols, -1, &out));
    qkv_weights products = {
        .qkv = {.w = made}, .norm_q = head_norm, .norm_k = head_norm, .heads = heads.count, .eps = 1e-6f};
    trial one = *t;
    one.batch = 1;
    TRY(operand(&one, m, ACT_ROPE, span, all_of(DIM), 2, &rope));
    TRY(mesh_single_attention(m, in, &products, rope, qkv, &up, hidden,
                              &(attention_args){.heads = heads.count, .scale = 0.5f}, t->rows, out));
    return t->variant ? keep_parts(t, m, hidden, span, features, FEATURES) : keep_parts(t, m, out, span, cols, 3 * DIM);
}

/* On the odd ranks, or the only one. */
static flux1_status collect_form(trial *t, mesh *m, block *b)
{
    cut rows[2], span[2];
    act x;
    int64_t shape[3] = {t->batch, t->rows[PART_IMAGE], WIDTH};
    bool mine = m->ranks == 1 || m->rank % 2;
    tensor host;
    (void)b;
    cuts(t, m, rows, span);
    TRY(tensor_create(DTYPE_F32, 3, shape, &host, m->err));
    flux1_status st;
    TRY_CLEANUP(operand(t, m, ACT_RESIDUAL, rows, all_of(WIDTH), 1, &x));
    TRY_CLEANUP(mesh_collect(m, part(t, x, PART_IMAGE), t->rows[PART_IMAGE], mine ? &host : NULL));
    if (mine)
        keep_cells(t, m, host.data, shape, 0, 0, t->rows[PART_IMAGE], WIDTH);
cleanup:
    tensor_free(&host);
    return st;
}

/* ---- planes: rows[PART_IMAGE] latent rows, 3 wide ---- */

enum { PLANE_WIDTH = 3, CHANNELS = 4, OUT_CHANNELS = 6 };

/* `times` as high and wide as the latent plane. */
static flux1_status plane(trial *t, mesh *m, const plane_cut *p, int64_t times, int64_t channels, int seed, act *out)
{
    int64_t width = PLANE_WIDTH * times;
    TRY(ops_create(m->o, ACT_PLANE, shape_plane(t->batch, p->mine.count * times, width, channels), out));
    return fill(m, *out, seed, p->mine.begin * times * width, 0);
}

static flux1_status keep_plane(trial *t, mesh *m, const plane_cut *p, int64_t times, act a)
{
    int64_t each = times * times * PLANE_WIDTH;
    return keep(t, m, a, p->mine.begin * each, 0, p->total * each, a.cols);
}

/* variant: 0: 3×3, 1: 1×1, 2: 3×3 with stride 2 */
static flux1_status conv_form(trial *t, mesh *m, block *b)
{
    plane_cut p = mesh_plane_cut(m, t->rows[PART_IMAGE]);
    act in, residual, out;
    weight *w;
    int stride = t->variant == 2 ? 2 : 1;
    TRY(prepare(m, b, t->variant == 1 ? W_CONV1 : W_CONV3, WEIGHT_CONV, SLICE_NONE, 1, W_BIAS, &w));
    TRY(ops_block_begin(m->o, b));
    TRY(plane(t, m, &p, 2, CHANNELS, 1, &in));
    TRY(plane(t, m, &p, 2 / stride, OUT_CHANNELS, 2, &residual));
    TRY(plane(t, m, &p, 2 / stride, OUT_CHANNELS, -1, &out));
    TRY(mesh_conv(m, &p, in, w, stride, residual, out));
    return keep_plane(t, m, &p, 2 / stride, out);
}

/* variant 1: with a residual */
static flux1_status norm_conv_form(trial *t, mesh *m, block *b)
{
    plane_cut p = mesh_plane_cut(m, t->rows[PART_IMAGE]);
    act in, residual = {0}, out;
    weight *w, *scale;
    TRY(prepare(m, b, W_CONV3, WEIGHT_CONV, SLICE_NONE, 1, W_BIAS, &w));
    weight_recipe vector = recipe_whole(WEIGHT_VECTOR, &weights[W_VECTOR]), part = recipe_rows(&vector, 0, CHANNELS);
    TRY(ops_prepare(m->o, b, &part, NULL, &scale));
    TRY(ops_block_begin(m->o, b));
    TRY(plane(t, m, &p, 2, CHANNELS, 1, &in));
    if (t->variant)
        TRY(plane(t, m, &p, 2, OUT_CHANNELS, 2, &residual));
    TRY(plane(t, m, &p, 2, OUT_CHANNELS, -1, &out));
    TRY(mesh_norm_conv(m, &p, in, &(norm_before){.groups = 2, .w = scale, .eps = 1e-6f, .silu = true}, w, residual,
                       out));
    return keep_plane(t, m, &p, 2, out);
}

static flux1_status group_norm_form(trial *t, mesh *m, block *b)
{
    plane_cut p = mesh_plane_cut(m, t->rows[PART_IMAGE]);
    act in, out;
    weight *w;
    TRY(prepare(m, b, W_VECTOR, WEIGHT_VECTOR, SLICE_NONE, 1, W_BIAS, &w));
    TRY(ops_block_begin(m->o, b));
    TRY(plane(t, m, &p, 2, WIDTH, 1, &in));
    TRY(plane(t, m, &p, 2, WIDTH, -1, &out));
    TRY(mesh_group_norm(m, in, 3, w, 1e-6f, true, out));
    return keep_plane(t, m, &p, 2, out);
}

static flux1_status plane_attention_form(trial *t, mesh *m, block *b)
{
    plane_cut p = mesh_plane_cut(m, t->rows[PART_IMAGE]);
    act in[3], out;
    (void)b;
    for (int i = 0; i < 4; i++) {
        act *a = i < 3 ? &in[i] : &out;
        TRY(ops_create(m->o, i < 3 ? ACT_HEADS : ACT_LINEAR,
                       shape_rows(t->batch, 0, p.mine.count * PLANE_WIDTH, CHANNELS), a));
        TRY(fill(m, *a, i < 3 ? i : -1, p.mine.begin * PLANE_WIDTH, 0));
    }
    TRY(mesh_plane_attention(m, &p, PLANE_WIDTH, in[0], in[1], in[2], &(attention_args){.heads = 1, .scale = 0.5f},
                             out));
    return keep_plane(t, m, &p, 1, out);
}

static flux1_status plane_collect_form(trial *t, mesh *m, block *b)
{
    plane_cut p = mesh_plane_cut(m, t->rows[PART_IMAGE]);
    act x;
    int64_t shape[3] = {t->batch, p.total * 4 * PLANE_WIDTH, CHANNELS};
    bool mine = m->ranks == 1 || m->rank % 2;
    tensor host;
    (void)b;
    TRY(tensor_create(DTYPE_F32, 3, shape, &host, m->err));
    flux1_status st;
    TRY_CLEANUP(plane(t, m, &p, 2, CHANNELS, 1, &x));
    TRY_CLEANUP(mesh_plane_collect(m, &p, x, shape[1], mine ? &host : NULL));
    if (mine)
        keep_cells(t, m, host.data, shape, 0, 0, shape[1], CHANNELS);
cleanup:
    tensor_free(&host);
    return st;
}

/* ---- running them ---- */

static const struct {
    const char *name;
    form *run;
    int variants;
    bool parts; /* also on the prompt's rows and on the image's alone */
} FORMS[] = {
    {"enter and gather", enter_form, 5, true},
    {"leave", leave_form, LEAVE_VARIANTS + 1, true}, /* the last: without a gate */
    {"mlp", mlp_form, 1, true},
    {"joint enter", joint_enter_form, 1, false},
    {"joint leave", joint_leave_form, LEAVE_VARIANTS, false},
    {"joint mlp", joint_mlp_form, LEAVE_VARIANTS, false},
    {"table", table_form, 1, false},
    {"attention", attention_form, 1, false},
    {"single attention", single_attention_form, 2, false},
    {"collect", collect_form, 1, false},
    {"conv", conv_form, 3, false},
    {"norm_conv", norm_conv_form, 2, false},
    {"group_norm", group_norm_form, 1, false},
    {"plane_attention", plane_attention_form, 1, false},
    {"plane_collect", plane_collect_form, 1, false},
};
enum { FORM_COUNT = sizeof FORMS / sizeof FORMS[0], CELLS_MAX = 1 << 13 };

typedef struct place {
    mesh_config shape;
    mesh_device device;
    ops_device *own[RANKS_MAX];
    mesh_session *session;
    flux1_error err;
} place;

static void place_open(const kind_of_place *k, const char *shape, processes *over, place *p)
{
    size_t bytes[RANKS_MAX];
    int ordinal;
    *p = (place){0};
    assert_int_equal(mesh_parse(shape, NULL, NULL, &p->shape, &p->err), FLUX1_OK);
    if (ops_device_find(k->device, &p->device.kind, &ordinal, &p->err) != FLUX1_OK ||
        p->device.kind->open(ordinal, &p->device.device, &p->err) != FLUX1_OK)
        fail_msg("%s", p->err.message);
    for (int r = 0; r < mesh_ranks(&p->shape); r++) {
        bytes[r] = ARENA;
        if (!k->own)
            continue;
        assert_int_equal(p->device.kind->open(r, &p->own[r], &p->err), FLUX1_OK);
        p->device.own = p->own;
    }
    p->device.processes = over;
    p->device.config = (ops_config){.arithmetic = k->bf16 ? DTYPE_BF16 : DTYPE_F32, .threads = 2};
    if (mesh_open(&p->shape, &p->device, &p->session, &p->err) != FLUX1_OK ||
        mesh_reserve(p->session, bytes, &p->err) != FLUX1_OK)
        fail_msg("%s", p->err.message);
}

static void place_close(place *p)
{
    mesh_close(p->session);
    for (int r = 0; r < RANKS_MAX; r++)
        ops_device_close(p->own[r]);
    ops_device_close(p->device.device);
}

static flux1_status trial_body(void *arg, mesh *m)
{
    trial *t = arg;
    block *b;
    size_t mark = ops_mark(m->o);
    TRY(ops_block_create(m->o, "weights", &b));
    TRY(ops_step_set(m->o, STEP));
    TRY(t->run(t, m, b));
    if (b->held)
        TRY(ops_block_end(m->o, b));
    ops_block_destroy(m->o, b);
    ops_release(m->o, mark);
    return FLUX1_OK;
}

static float kept[2][RANKS_MAX][CELLS_MAX];
static bool have[2][RANKS_MAX][CELLS_MAX];
static int64_t kept_cells[2][RANKS_MAX];

static void run_trial(place *p, trial *t, int side, const char *where)
{
    t->cells = kept_cells[side];
    for (int r = 0; r < RANKS_MAX; r++) {
        t->cells[r] = 0;
        t->kept[r] = kept[side][r];
        t->have[r] = have[side][r];
        memset(have[side][r], 0, sizeof have[side][r]);
    }
    flux1_status st = p->device.processes ? run_order(p->session, trial_body, t, &p->err)
                                          : mesh_run(p->session, trial_body, t, &p->err);
    if (st != FLUX1_OK)
        fail_msg("%s: %s", where, p->err.message);
}

/* What any rank has is as expected, and together they have all of it (of other processes nothing is known). */
static void compare(const trial *want, const trial *got, int ranks, double limit, const char *where)
{
    double error = 0, norm2 = 0;
    const int64_t cells = want->cells[0];
    assert_true(cells > 0 && cells <= CELLS_MAX);
    for (int r = 0; r < ranks; r++)
        assert_true(got->cells[r] == cells || got->cells[r] == 0);
    for (int64_t i = 0; i < cells; i++) {
        bool some = false;
        for (int r = 0; r < ranks; r++) {
            if (!got->have[r][i])
                continue;
            double off = (double)got->kept[r][i] - (double)want->kept[0][i];
            if (isnan(off))
                fail_msg("%s: cell %d of rank %d is %g, not %g", where, (int)i, r, (double)got->kept[r][i],
                         (double)want->kept[0][i]);
            error += off * off;
            norm2 += (double)want->kept[0][i] * (double)want->kept[0][i];
            some = true;
        }
        if (test_processes ? some && !want->have[0][i] : some != want->have[0][i])
            fail_msg("%s: cell %d is %s", where, (int)i, some ? "nobody's" : "missing");
    }
    if (sqrt(error) > limit * sqrt(norm2))
        fail_msg("%s: relative error %g", where, sqrt(error / norm2));
}

static void on_place(const kind_of_place *k, const char *shape, place *one, int f)
{
    static const struct {
        int64_t rows[2], heads;
    } sizes[] = {{{7, 13}, 5}, {{1, 2}, 2}};
    place p;
    place_open(k, shape, test_processes, &p);
    for (int i = 0; i < FORMS[f].variants * 2 * 2 * 2 * 3; i++) { /* size, batch, window, part */
        int rest = i / FORMS[f].variants;
        char where[128];
        trial t = {.run = FORMS[f].run,
                   .variant = i % FORMS[f].variants,
                   .heads = sizes[rest & 1].heads,
                   .rows = {sizes[rest & 1].rows[0], sizes[rest & 1].rows[1]},
                   .batch = rest & 2 ? 3 : 1,
                   .window = rest & 4,
                   .part = (act_part)(rest / 8 - 1)};
        if (t.part != PART_WHOLE && !FORMS[f].parts)
            break;
        trial want = t;
        snprintf(where, sizeof where, "%s%s%s %s: %s, variant %d, part %d, %d + %d rows, batch %d%s", k->device,
                 k->own ? " linked" : "", k->bf16 ? " bf16" : "", shape, FORMS[f].name, t.variant, t.part,
                 (int)t.rows[0], (int)t.rows[1], (int)t.batch, t.window ? ", windows" : "");
        run_trial(one, &want, 0, where);
        run_trial(&p, &t, 1, where);
        compare(&want, &t, mesh_ranks(&p.shape), k->bf16 ? 2e-2 : 1e-5, where);
    }
    place_close(&p);
}

static bool fits(const char *shape)
{
    mesh_config c;
    assert_int_equal(mesh_parse(shape, NULL, NULL, &c, NULL), FLUX1_OK);
    return enough_ranks(&c);
}

static void a_form_gives_what_the_plain_operation_gives(void **state)
{
    const kind_of_place reference = {"ref", false, false};
    int f = *(const int *)*state;
    place one;
    place_open(&reference, "1x1", NULL, &one);
    for (size_t k = 0; k < sizeof PLACES / sizeof PLACES[0]; k++)
        for (size_t s = 0; s < sizeof SHAPES / sizeof SHAPES[0]; s++)
            if (fits(SHAPES[s]))
                on_place(&PLACES[k], SHAPES[s], &one, f);
    place_close(&one);
}

/* Rank 0 has 3, the last none, those between have more; and then nobody has any. */
static flux1_status lowest_body(void *arg, mesh *m)
{
    int value = m->rank == 0 ? 3 : m->rank == m->ranks - 1 ? -1 : 100 + m->rank, none = -1;
    (void)arg;
    TRY(mesh_lowest(m, &value));
    TRY(mesh_lowest(m, &none));
    return value == 3 && none == -1 ? FLUX1_OK
                                    : error_set(m->err, FLUX1_ERR_INTERNAL, "rank %d: %d, %d", m->rank, value, none);
}

static void all_ranks_have_the_lowest_value(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof PLACES / sizeof PLACES[0]; k++)
        for (size_t s = 0; s < sizeof SHAPES / sizeof SHAPES[0]; s++) {
            place p;
            if (!fits(SHAPES[s]))
                continue;
            place_open(&PLACES[k], SHAPES[s], test_processes, &p);
            if (run_order(p.session, lowest_body, NULL, &p.err) != FLUX1_OK)
                fail_msg("%s: %s", SHAPES[s], p.err.message);
            place_close(&p);
        }
}

int main(void)
{
    static int index[FORM_COUNT];
    struct CMUnitTest tests[FORM_COUNT + 1] = {cmocka_unit_test(all_ranks_have_the_lowest_value)};
#ifdef TEST_DEVICE
    cuda_emulator_devices(RANKS_MAX);
#endif
#ifdef TEST_PROCESSES
    test_processes = processes_start("1");
#endif
    for (int f = 0; f < FORM_COUNT; f++) {
        index[f] = f;
        tests[f + 1] =
            (struct CMUnitTest)cmocka_unit_test_prestate(a_form_gives_what_the_plain_operation_gives, &index[f]);
        tests[f + 1].name = FORMS[f].name;
    }
    int failed = cmocka_run_group_tests(tests, make_weights, free_weights);
    if (test_processes)
        processes_exit(test_processes, failed);
    return failed;
}
