#include "weights/adapter_change.h"

#include "base/checked.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PEFT_TERMS 5 /* of the series for OFT, unless a configuration says otherwise */

const char *adapter_kind_name(adapter_kind kind)
{
    static const char *const names[] = {
#define NAME(id, name) name,
        ADAPTER_KIND_MAP(NAME)
#undef NAME
    };
    return names[kind];
}

/* ---- finding an entry's tensors ---- */

typedef struct entry {
    const store *s;
    const char *name; /* its first `base` bytes are the entry's */
    size_t base;
    adapter_role role; /* of the tensor of this name */
    const char *pair;  /* the ending of its other one, of a pair */
} entry;

static const store_tensor *find_ending(const entry *e, const char *ending)
{
    char name[2 * NAME_BYTES_MAX];
    const int n = snprintf(name, sizeof name, "%.*s%s", (int)e->base, e->name, ending);
    return n < (int)sizeof name ? store_find(e->s, name) : NULL;
}

static const store_tensor *find(const entry *e, adapter_role role)
{
    const char *ending;
    const store_tensor *t = NULL;
    for (size_t i = 0; !t && (ending = adapter_ending(role, i)); i++)
        t = find_ending(e, ending);
    return t;
}

static flux1_status lacks(const store_tensor *t, size_t base, const char *ending, flux1_error *err)
{
    return error_set(err, FLUX1_ERR_FORMAT, "%s: tensor \"%s\" is there without \"%.*s%s\"; fetch the file again",
                     t->file, t->name, (int)base, t->name, ending);
}

static flux1_status need(const entry *e, const store_tensor *head, adapter_role role, const store_tensor **out,
                         flux1_error *err)
{
    *out = find(e, role);
    return *out ? FLUX1_OK : lacks(head, e->base, adapter_ending(role, 0), err);
}

/* ---- numbers and shapes ---- */

bool adapter_number(const tensor *t, float *out)
{
    static const dtype whole[] = {DTYPE_I64, DTYPE_I32, DTYPE_I16, DTYPE_I8};
    const size_t bytes = (size_t)dtype_describe(t->type)->block_bytes;
    const unsigned char *byte = t->data;
    if (tensor_elements(t) != 1)
        return false;
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        if (t->type != whole[i])
            continue;
        uint64_t n = byte[bytes - 1] & 0x80 ? UINT64_MAX : 0;
        for (size_t k = bytes; k-- > 0;)
            n = n << 8 | byte[k];
        *out = (float)(int64_t)n;
        return true;
    }
    return tensor_decodes(t) && tensor_decode(t, 0, 1, out, NULL) == FLUX1_OK;
}

static flux1_status unfit(const store_tensor *a, const store_tensor *b, flux1_error *err)
{
    char first[200], second[200];
    return error_set(err, FLUX1_ERR_FORMAT, "%s: tensor \"%s\" is %s and \"%s\" is %s; these do not fit each other",
                     a->file, a->name, tensor_shape_text(a->view.dims, a->view.shape, first, sizeof first), b->name,
                     tensor_shape_text(b->view.dims, b->view.shape, second, sizeof second));
}

/* As a matrix [rows, cols]; a convolution's of 1x1 is one, and where `vector`, [n] is [n, 1]. */
static flux1_status matrix(const store_tensor *t, bool vector, int64_t *rows, int64_t *cols, flux1_error *err)
{
    const tensor *v = &t->view;
    char text[200];
    int dims = v->dims;
    while (dims > 2 && v->shape[dims - 1] == 1)
        dims--;
    const bool fits = dims == 2 || (vector && dims == 1);
    if (!fits || v->shape[0] < 1 || (dims == 2 && v->shape[1] < 1) || dtype_describe(v->type)->block_elements != 1 ||
        !tensor_decodes(v))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: tensor \"%s\" is %s %s; it should be a %s of floats", t->file,
                         t->name, dtype_describe(v->type)->name,
                         tensor_shape_text(v->dims, v->shape, text, sizeof text),
                         vector ? "matrix or a vector" : "matrix");
    *rows = v->shape[0];
    *cols = dims == 2 ? v->shape[1] : 1;
    return FLUX1_OK;
}

static flux1_status whole(const store_tensor *t, bool vector, adapter_factor *out, flux1_error *err)
{
    *out = (adapter_factor){.a = t};
    return matrix(t, vector, &out->rows, &out->cols, err);
}

/* a·b, with a core between them if it is not NULL; across: aᵀ, if there is one. */
static flux1_status product(const store_tensor *a, const store_tensor *core, const store_tensor *b, bool across,
                            adapter_factor *out, flux1_error *err)
{
    int64_t rows, cols, upper, lower;
    *out = (adapter_factor){.a = a, .core = core, .b = b, .across = across && core};
    TRY(matrix(a, false, &rows, &cols, err));
    TRY(matrix(b, false, &out->rank, &out->cols, err));
    out->rows = out->across ? cols : rows;
    out->a_rank = out->across ? rows : cols;
    if (out->rank > ADAPTER_RANK_MAX || out->a_rank > ADAPTER_RANK_MAX || (!core && out->rank != out->a_rank))
        return error_set(err, FLUX1_ERR_FORMAT,
                         "%s: tensors \"%s\" and \"%s\" have the ranks %" PRId64 " and %" PRId64
                         "; they should be equal, and at most %d",
                         a->file, b->name, a->name, out->rank, out->a_rank, ADAPTER_RANK_MAX);
    if (!core)
        return FLUX1_OK;
    TRY(matrix(core, false, &upper, &lower, err));
    if (upper != out->a_rank)
        return unfit(core, a, err);
    return lower == out->rank ? FLUX1_OK : unfit(core, b, err);
}

/* ---- the kinds ---- */

static flux1_status read_pair(const entry *e, const store_tensor *down, adapter_change *c, flux1_error *err)
{
    const store_tensor *up = find_ending(e, e->pair), *mid = find(e, ADAPTER_MID);
    if (!up)
        return lacks(down, e->base, e->pair, err);
    TRY(product(up, mid, down, false, &c->x, err));
    c->kind = mid ? ADAPTER_KIND_TUCKER : ADAPTER_KIND_LORA;
    c->rank = c->x.rank;
    c->rows = c->x.rows;
    c->cols = c->x.cols;
    c->bias = find(e, ADAPTER_UP_BIAS);
    if (c->bias && (tensor_elements(&c->bias->view) != c->rows || !tensor_decodes(&c->bias->view)))
        return unfit(c->bias, up, err);
    return FLUX1_OK;
}

static flux1_status read_loha(const entry *e, const store_tensor *a, adapter_change *c, flux1_error *err)
{
    const store_tensor *b, *a2, *b2;
    TRY(need(e, a, ADAPTER_HADA_1B, &b, err));
    TRY(need(e, a, ADAPTER_HADA_2A, &a2, err));
    TRY(need(e, a, ADAPTER_HADA_2B, &b2, err));
    TRY(product(a, find(e, ADAPTER_HADA_T1), b, true, &c->x, err));
    TRY(product(a2, find(e, ADAPTER_HADA_T2), b2, true, &c->y, err));
    if (c->x.rows != c->y.rows)
        return unfit(a, a2, err);
    if (c->x.cols != c->y.cols)
        return unfit(b, b2, err);
    c->kind = ADAPTER_KIND_LOHA;
    c->form = ADAPTER_HADAMARD;
    c->rank = c->x.rank;
    c->rows = c->x.rows;
    c->cols = c->x.cols;
    return FLUX1_OK;
}

/* A factor of LoKr: whole, or of two, with or without a core. */
static flux1_status read_lokr_factor(const entry *e, const store_tensor *head, adapter_role full, adapter_role left,
                                     adapter_role right, const store_tensor *core, adapter_factor *out,
                                     flux1_error *err)
{
    const store_tensor *t = find(e, full), *a = find(e, left), *b;
    if (t)
        return whole(t, false, out, err);
    if (!a)
        return lacks(head, e->base, adapter_ending(full, 0), err);
    TRY(need(e, head, right, &b, err));
    return product(a, core, b, true, out, err);
}

static flux1_status read_lokr(const entry *e, const store_tensor *head, adapter_change *c, flux1_error *err)
{
    TRY(read_lokr_factor(e, head, ADAPTER_LOKR_1, ADAPTER_LOKR_1A, ADAPTER_LOKR_1B, NULL, &c->x, err));
    TRY(read_lokr_factor(e, head, ADAPTER_LOKR_2, ADAPTER_LOKR_2A, ADAPTER_LOKR_2B, find(e, ADAPTER_LOKR_T2), &c->y,
                         err));
    if (!i64_mul(c->x.rows, c->y.rows, &c->rows) || !i64_mul(c->x.cols, c->y.cols, &c->cols))
        return unfit(c->x.a, c->y.a, err);
    c->kind = ADAPTER_KIND_LOKR;
    c->form = ADAPTER_KRONECKER;
    c->rank = c->y.b ? c->y.rank : c->x.rank; /* 0: of two whole factors, whose alpha means nothing */
    return FLUX1_OK;
}

static flux1_status read_difference(const entry *e, const store_tensor *t, adapter_change *c, flux1_error *err)
{
    TRY(whole(t, true, &c->x, err));
    c->kind = e->role == ADAPTER_NORM || e->role == ADAPTER_NORM_BIAS ? ADAPTER_KIND_NORM : ADAPTER_KIND_DIFFERENCE;
    c->of_bias = e->role == ADAPTER_DIFF_BIAS || e->role == ADAPTER_NORM_BIAS || e->role == ADAPTER_VALUE_BIAS;
    c->rows = c->x.rows;
    c->cols = c->x.cols;
    return FLUX1_OK;
}

/* ---- the kinds that are made of the weight too ---- */

static flux1_status read_value(const entry *e, const store_tensor *t, adapter_change *c, flux1_error *err)
{
    TRY(read_difference(e, t, c, err));
    c->kind = ADAPTER_KIND_VALUE;
    c->form = ADAPTER_REPLACED;
    return FLUX1_OK;
}

static bool is_floats(const tensor *v) { return dtype_describe(v->type)->block_elements == 1 && tensor_decodes(v); }

/* Blocks [blocks, width, width], or [stages, blocks, width, width] where `stages`. */
static flux1_status read_blocks(const store_tensor *t, bool stages, adapter_rotation_form *f, flux1_error *err)
{
    const tensor *v = &t->view;
    char text[200];
    const int first = stages ? 1 : 0;
    const bool fits = v->dims == 3 + first && is_floats(v) && v->shape[first] > 0 && v->shape[first + 1] > 0 &&
                      v->shape[first + 1] == v->shape[first + 2] && v->shape[first + 1] <= ADAPTER_RANK_MAX &&
                      (!stages || (v->shape[0] > 0 && v->shape[0] <= ADAPTER_STAGES_MAX));
    if (!fits)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: tensor \"%s\" is %s %s; it should be square blocks of floats",
                         t->file, t->name, dtype_describe(v->type)->name,
                         tensor_shape_text(v->dims, v->shape, text, sizeof text));
    f->stages = stages ? (int)v->shape[0] : 1;
    f->blocks = v->shape[first];
    f->width = v->shape[first + 1];
    f->limit = -1;
    return FLUX1_OK;
}

/* Stages put elements together that are farther and farther apart: all must be there. */
static flux1_status check_stages(const store_tensor *t, const adapter_rotation_form *f, int64_t elements,
                                 flux1_error *err)
{
    int64_t stretch = f->width;
    bool fits = f->width % 2 == 0;
    for (int i = 1; fits && i < f->stages; i++)
        fits = i64_mul(stretch, 2, &stretch) && stretch <= elements;
    if (fits && elements % stretch == 0)
        return FLUX1_OK;
    return error_set(
        err, FLUX1_ERR_FORMAT,
        "%s: tensor \"%s\" has %d stages of %" PRId64 " blocks of %" PRId64
        "; blocks should be of even size and their number a multiple of 2 to the power of the stages but one",
        t->file, t->name, f->stages, f->blocks, f->width);
}

static flux1_status read_factors(const store_tensor *factors, const store_tensor *head, int64_t count,
                                 adapter_change *c, flux1_error *err)
{
    c->factors = factors;
    return !factors || (tensor_elements(&factors->view) == count && is_floats(&factors->view))
               ? FLUX1_OK
               : unfit(factors, head, err);
}

/* Each output of LyCORIS' OFT is made of the transpose, so it turns the other way than BOFT's. */
static flux1_status read_oft(const entry *e, const store_tensor *blocks, adapter_change *c, flux1_error *err)
{
    adapter_rotation_form *f = &c->rotation;
    const bool stages = e->role == ADAPTER_OFT_BLOCKS && blocks->view.dims == 4;
    TRY(read_blocks(blocks, stages, f, err));
    if (!i64_mul(f->blocks, f->width, &c->rows))
        return unfit(blocks, blocks, err);
    f->of_rows = true;
    f->skew = stages ? 1 : -1;
    f->granule = stages ? 1 : 0;
    if (stages)
        TRY(check_stages(blocks, f, c->rows, err));
    c->kind = stages ? ADAPTER_KIND_BOFT : ADAPTER_KIND_OFT;
    c->form = ADAPTER_ROTATED;
    c->x.a = blocks;
    return e->role == ADAPTER_OFT_PARTS ? FLUX1_OK
                                        : read_factors(find(e, ADAPTER_OFT_RESCALE), blocks, c->rows, c, err);
}

/* n·(n − 1)/2 elements for each block of n. */
static flux1_status read_oft_triangle(const entry *e, const store_tensor *t, adapter_change *c, flux1_error *err)
{
    adapter_rotation_form *f = &c->rotation;
    int64_t elements;
    (void)e;
    TRY(matrix(t, false, &f->blocks, &elements, err));
    f->width = 2;
    while (f->width < ADAPTER_RANK_MAX && f->width * (f->width - 1) / 2 < elements)
        f->width++;
    if (f->width * (f->width - 1) / 2 != elements || !i64_mul(f->blocks, f->width, &c->cols))
        return error_set(err, FLUX1_ERR_FORMAT,
                         "%s: tensor \"%s\" has %" PRId64
                         " elements for each block of OFT; a block of size n has n·(n − 1)/2 of them",
                         t->file, t->name, elements);
    c->cols = f->blocks > 1 ? c->cols : 0; /* one may be that of all columns */
    f->stages = 1;
    f->triangle = true;
    f->limit = -1;
    f->skew = -1;
    f->terms = PEFT_TERMS;
    c->kind = ADAPTER_KIND_OFT;
    c->form = ADAPTER_ROTATED;
    c->x.a = t;
    return FLUX1_OK;
}

static flux1_status read_boft(const entry *e, const store_tensor *blocks, adapter_change *c, flux1_error *err)
{
    adapter_rotation_form *f = &c->rotation;
    const store_tensor *scale;
    TRY(need(e, blocks, ADAPTER_BOFT_SCALE, &scale, err));
    TRY(read_blocks(blocks, true, f, err));
    if (!i64_mul(f->blocks, f->width, &c->cols))
        return unfit(blocks, blocks, err);
    f->skew = 0.5f;
    f->granule = f->stages > 1 ? f->width / 2 : 0;
    if (f->stages > 1)
        TRY(check_stages(blocks, f, c->cols, err));
    c->kind = ADAPTER_KIND_BOFT;
    c->form = ADAPTER_ROTATED;
    c->x.a = blocks;
    c->rows = tensor_elements(&scale->view);
    return c->rows > 0 ? read_factors(scale, blocks, c->rows, c, err) : unfit(scale, blocks, err);
}

/* x = b1·b2, y = a1·a2; older files have the factors of both the other way round. (ComfyUI: weight_adapter/glora.py) */
static flux1_status read_glora(const entry *e, const store_tensor *a1, adapter_change *c, flux1_error *err)
{
    const store_tensor *a2, *b1, *b2;
    int64_t rows[4], cols[4];
    TRY(need(e, a1, ADAPTER_GLORA_A2, &a2, err));
    TRY(need(e, a1, ADAPTER_GLORA_B1, &b1, err));
    TRY(need(e, a1, ADAPTER_GLORA_B2, &b2, err));
    const store_tensor *const all[] = {a1, a2, b1, b2};
    for (int i = 0; i < 4; i++)
        TRY(matrix(all[i], false, &rows[i], &cols[i], err));
    const bool old = cols[0] != rows[1] || cols[2] != rows[3] || cols[0] != cols[2];
    TRY(product(old ? b2 : b1, NULL, old ? b1 : b2, false, &c->x, err));
    TRY(product(old ? a2 : a1, NULL, old ? a1 : a2, false, &c->y, err));
    if (c->y.rows != c->y.cols || c->y.cols != c->x.cols || c->x.rank != c->y.rank)
        return unfit(a1, b2, err);
    c->kind = ADAPTER_KIND_GLORA;
    c->form = ADAPTER_GENERAL;
    c->rank = c->x.rank;
    c->rows = c->x.rows;
    c->cols = c->x.cols;
    return FLUX1_OK;
}

/* LyCORIS' (IA)^3: W·(1 + weight), by rows or, on the input, by columns. */
static flux1_status read_ia3(const entry *e, const store_tensor *place, adapter_change *c, flux1_error *err)
{
    const store_tensor *t = find_ending(e, ".weight");
    float on_input;
    if (!t)
        return lacks(place, e->base, ".weight", err);
    if (!adapter_number(&place->view, &on_input) || (on_input != 0 && on_input != 1))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: tensor \"%s\" should be 0 or 1", place->file, place->name);
    const int64_t count = tensor_elements(&t->view);
    if (count < 1)
        return unfit(t, place, err);
    c->kind = ADAPTER_KIND_IA3;
    c->form = ADAPTER_SCALED;
    c->factors_by_column = on_input == 1;
    c->factors_from = 1;
    *(c->factors_by_column ? &c->cols : &c->rows) = count;
    return read_factors(t, place, count, c, err);
}

/* PEFT's: [1, cols], or [rows, 1], which scales the bias too. */
static flux1_status read_ia3_vector(const entry *e, const store_tensor *t, adapter_change *c, flux1_error *err)
{
    int64_t rows = 0, cols = 0;
    (void)e;
    TRY(matrix(t, false, &rows, &cols, err));
    if (rows != 1 && cols != 1)
        return error_set(err, FLUX1_ERR_FORMAT,
                         "%s: tensor \"%s\" is [%" PRId64 ", %" PRId64 "]; (IA)^3 has one row or one column", t->file,
                         t->name, rows, cols);
    c->kind = ADAPTER_KIND_IA3;
    c->form = ADAPTER_SCALED;
    c->factors_by_column = rows == 1;
    *(c->factors_by_column ? &c->cols : &c->rows) = rows * cols;
    return read_factors(t, t, rows * cols, c, err);
}

/* The kinds for which LyCORIS or PEFT have magnitudes; PEFT has none beside biases of its pairs. */
static flux1_status check_decomposes(const adapter_change *c, flux1_error *err)
{
    const bool kind = c->kind == ADAPTER_KIND_LORA || c->kind == ADAPTER_KIND_TUCKER || c->kind == ADAPTER_KIND_LOHA ||
                      c->kind == ADAPTER_KIND_LOKR;
    return kind && !c->bias
               ? FLUX1_OK
               : error_set(err, FLUX1_ERR_UNSUPPORTED,
                           "%s: it has DoRA's magnitudes over %s%s (tensor \"%s\"), which neither LyCORIS nor PEFT "
                           "defines; merge it with the program that made it, and open the merged model",
                           c->magnitude->file, adapter_kind_name(c->kind), kind ? " with biases" : "",
                           c->magnitude->name);
}

/* A [1, cols] is for columns; [rows] and [rows, 1] are for rows. */
static flux1_status read_magnitude(const entry *e, adapter_change *c, flux1_error *err)
{
    c->magnitude = c->of_bias ? NULL : find(e, ADAPTER_MAGNITUDE);
    if (!c->magnitude)
        return FLUX1_OK;
    TRY(check_decomposes(c, err));
    const tensor *v = &c->magnitude->view;
    const int64_t n = tensor_elements(v);
    c->by_column = v->dims >= 2 && v->shape[0] == 1 && n == c->cols && c->rows != 1;
    if ((!c->by_column && n != c->rows) || !tensor_decodes(v))
        return unfit(c->magnitude, c->head, err);
    c->kind = c->kind == ADAPTER_KIND_LORA ? ADAPTER_KIND_DORA : c->kind;
    for (int64_t i = 0; i < n; i++) {
        float x;
        TRY(tensor_decode(v, i, 1, &x, err));
        if (!isfinite(x))
            return error_set(err, FLUX1_ERR_FORMAT, "%s: tensor \"%s\" has a NaN or infinity; fetch the file again",
                             c->magnitude->file, c->magnitude->name);
    }
    return FLUX1_OK;
}

/* ---- entries ---- */

/* Which tensor leads an entry of a kind, and which others belong to it. Where two may, the first that is there does. */
static const struct {
    adapter_role head, first, last;
    flux1_status (*read)(const entry *e, const store_tensor *head, adapter_change *c, flux1_error *err);
} kinds[] = {{ADAPTER_HADA_1A, ADAPTER_HADA_1A, ADAPTER_HADA_T2, read_loha},
             {ADAPTER_LOKR_1, ADAPTER_LOKR_1, ADAPTER_LOKR_T2, read_lokr},
             {ADAPTER_LOKR_1A, ADAPTER_LOKR_1, ADAPTER_LOKR_T2, read_lokr},
             {ADAPTER_OFT_BLOCKS, ADAPTER_OFT_BLOCKS, ADAPTER_OFT_RESCALE, read_oft},
             {ADAPTER_OFT_PARTS, ADAPTER_OFT_PARTS, ADAPTER_OFT_PARTS, read_oft},
             {ADAPTER_OFT_TRIANGLE, ADAPTER_OFT_TRIANGLE, ADAPTER_OFT_TRIANGLE, read_oft_triangle},
             {ADAPTER_BOFT_BLOCKS, ADAPTER_BOFT_BLOCKS, ADAPTER_BOFT_SCALE, read_boft},
             {ADAPTER_GLORA_A1, ADAPTER_GLORA_A1, ADAPTER_GLORA_B2, read_glora},
             {ADAPTER_IA3_PLACE, ADAPTER_IA3_PLACE, ADAPTER_IA3_WEIGHT, read_ia3},
             {ADAPTER_IA3_VECTOR, ADAPTER_IA3_VECTOR, ADAPTER_IA3_VECTOR, read_ia3_vector},
             {ADAPTER_DIFF, ADAPTER_DIFF, ADAPTER_DIFF, read_difference},
             {ADAPTER_DIFF_BIAS, ADAPTER_DIFF_BIAS, ADAPTER_DIFF_BIAS, read_difference},
             {ADAPTER_NORM, ADAPTER_NORM, ADAPTER_NORM, read_difference},
             {ADAPTER_NORM_BIAS, ADAPTER_NORM_BIAS, ADAPTER_NORM_BIAS, read_difference},
             {ADAPTER_VALUE, ADAPTER_VALUE, ADAPTER_VALUE, read_value},
             {ADAPTER_VALUE_BIAS, ADAPTER_VALUE_BIAS, ADAPTER_VALUE_BIAS, read_value}};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* The tensor that leads the entry in which this role is another's; NULL if it is missing, *ending is then its. */
static const store_tensor *leader(const entry *e, adapter_role role, const char **ending)
{
    const bool any = role == ADAPTER_MAGNITUDE;
    const store_tensor *t = NULL;
    *ending = NULL;
    for (size_t i = 0; i < KINDS && !t; i++) {
        if (!any && (role < kinds[i].first || role > kinds[i].last))
            continue;
        t = find(e, kinds[i].head);
        *ending = *ending || any ? *ending : adapter_ending(kinds[i].head, 0);
    }
    if (!t && (any || role == ADAPTER_MID || role == ADAPTER_UP_BIAS)) {
        const char *down;
        for (size_t i = 0; !t && (down = adapter_down_ending(i)); i++)
            t = find_ending(e, down);
        *ending = adapter_down_ending(0);
    }
    return t;
}

bool adapter_change_led(const store *s, const char *name, const adapter_key *key)
{
    const char *ending;
    const adapter_role role = key->role == ADAPTER_ALPHA ? ADAPTER_MAGNITUDE : key->role;
    return leader(&(entry){.s = s, .name = name, .base = key->base}, role, &ending) != NULL;
}

/* A tensor that leads nothing should have one that does. */
static flux1_status check_part(const entry *e, const store_tensor *t, flux1_error *err)
{
    const char *ending = e->pair;
    if (e->role == ADAPTER_NONE || e->role == ADAPTER_ALPHA || e->role == ADAPTER_OTHER ||
        e->role == ADAPTER_IA3_WEIGHT)
        return FLUX1_OK;
    const store_tensor *other = e->role == ADAPTER_UP ? find_ending(e, ending) : leader(e, e->role, &ending);
    return other ? FLUX1_OK : lacks(t, e->base, ending, err);
}

flux1_status adapter_change_read(const store *s, const store_tensor *head, const adapter_key *key, bool *leads,
                                 adapter_change *out, flux1_error *err)
{
    const entry e = {s, head->name, key->base, key->role, key->pair};
    *out = (adapter_change){.head = head, .scale = 1};
    *leads = true;
    if (key->role == ADAPTER_DOWN) {
        TRY(read_pair(&e, head, out, err));
        return read_magnitude(&e, out, err);
    }
    for (size_t i = 0; i < KINDS; i++)
        if (kinds[i].head == key->role && (key->role != ADAPTER_LOKR_1A || !find(&e, ADAPTER_LOKR_1))) {
            TRY(kinds[i].read(&e, head, out, err));
            return read_magnitude(&e, out, err);
        }
    *leads = false;
    return check_part(&e, head, err);
}

bool adapter_change_beside(const adapter_change *c) { return c->kind == ADAPTER_KIND_LORA; }

bool adapter_change_relative(const adapter_change *c) { return c->form >= ADAPTER_GENERAL; }

bool adapter_change_mixes_rows(const adapter_change *c) { return c->rotation.of_rows; }

size_t adapter_change_tensors(const adapter_change *c, const store_tensor **out)
{
    const store_tensor *const all[ADAPTER_CHANGE_TENSORS] = {c->x.a, c->x.core, c->x.b,       c->y.a,    c->y.core,
                                                             c->y.b, c->bias,   c->magnitude, c->factors};
    size_t count = 0;
    for (size_t i = 0; i < ADAPTER_CHANGE_TENSORS; i++)
        if (all[i])
            out[count++] = all[i];
    return count;
}
