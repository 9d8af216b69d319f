#include "weights/adapter_change.h"

#include "base/checked.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* ---- shapes ---- */

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

static flux1_status read_pair(const entry *e, const store_tensor *down, const char *up_ending, adapter_change *c,
                              flux1_error *err)
{
    const store_tensor *up = find_ending(e, up_ending), *mid = find(e, ADAPTER_MID);
    if (!up)
        return lacks(down, e->base, up_ending, err);
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

static flux1_status read_difference(const store_tensor *t, adapter_role role, adapter_change *c, flux1_error *err)
{
    TRY(whole(t, true, &c->x, err));
    c->kind = role == ADAPTER_NORM || role == ADAPTER_NORM_BIAS ? ADAPTER_KIND_NORM : ADAPTER_KIND_DIFFERENCE;
    c->of_bias = role == ADAPTER_DIFF_BIAS || role == ADAPTER_NORM_BIAS;
    c->rows = c->x.rows;
    c->cols = c->x.cols;
    return FLUX1_OK;
}

/* A [1, cols] is for columns; [rows] and [rows, 1] are for rows. */
static flux1_status read_magnitude(const entry *e, adapter_change *c, flux1_error *err)
{
    c->magnitude = c->of_bias ? NULL : find(e, ADAPTER_MAGNITUDE);
    if (!c->magnitude)
        return FLUX1_OK;
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

/* The tensor that leads the entry in which this role is another's; NULL if it is missing. */
static const store_tensor *leader(const entry *e, adapter_role role, const char **ending)
{
    const bool any = role == ADAPTER_MAGNITUDE;
    const store_tensor *t = NULL;
    *ending = ".lora_down.weight";
    if (any || (role >= ADAPTER_HADA_1A && role <= ADAPTER_HADA_T2))
        t = find(e, ADAPTER_HADA_1A), *ending = adapter_ending(ADAPTER_HADA_1A, 0);
    if (!t && (any || (role >= ADAPTER_LOKR_1 && role <= ADAPTER_LOKR_T2))) {
        t = find(e, ADAPTER_LOKR_1), *ending = adapter_ending(ADAPTER_LOKR_1, 0);
        t = t ? t : find(e, ADAPTER_LOKR_1A);
    }
    if (!t && any)
        t = find(e, ADAPTER_DIFF);
    if (!t && (any || role == ADAPTER_MID || role == ADAPTER_UP_BIAS)) {
        const char *down;
        for (size_t i = 0; !t && (down = adapter_down_ending(i)); i++)
            t = find_ending(e, down);
        *ending = adapter_down_ending(0);
    }
    return t;
}

bool adapter_change_led(const store *s, const char *name, size_t base)
{
    const char *ending;
    return leader(&(entry){s, name, base}, ADAPTER_MAGNITUDE, &ending) != NULL;
}

/* A tensor that leads nothing should have one that does. */
static flux1_status check_part(const entry *e, const store_tensor *t, const adapter_key *key, flux1_error *err)
{
    const char *ending = key->pair;
    if (key->role == ADAPTER_NONE || key->role == ADAPTER_ALPHA || key->role == ADAPTER_OTHER)
        return FLUX1_OK;
    const store_tensor *other = key->role == ADAPTER_UP ? find_ending(e, ending) : leader(e, key->role, &ending);
    return other ? FLUX1_OK : lacks(t, e->base, ending, err);
}

flux1_status adapter_change_read(const store *s, const store_tensor *head, const adapter_key *key, bool *leads,
                                 adapter_change *out, flux1_error *err)
{
    const entry e = {s, head->name, key->base};
    const adapter_role role = key->role;
    *out = (adapter_change){.head = head, .scale = 1};
    *leads = true;
    if (role == ADAPTER_DOWN)
        TRY(read_pair(&e, head, key->pair, out, err));
    else if (role == ADAPTER_HADA_1A)
        TRY(read_loha(&e, head, out, err));
    else if (role == ADAPTER_LOKR_1 || (role == ADAPTER_LOKR_1A && !find(&e, ADAPTER_LOKR_1)))
        TRY(read_lokr(&e, head, out, err));
    else if (role >= ADAPTER_DIFF && role <= ADAPTER_NORM_BIAS)
        TRY(read_difference(head, role, out, err));
    else {
        *leads = false;
        return check_part(&e, head, key, err);
    }
    return read_magnitude(&e, out, err);
}

bool adapter_change_beside(const adapter_change *c) { return c->kind == ADAPTER_KIND_LORA; }

size_t adapter_change_tensors(const adapter_change *c, const store_tensor **out)
{
    const store_tensor *const all[ADAPTER_CHANGE_TENSORS] = {c->x.a,    c->x.core, c->x.b,  c->y.a,
                                                             c->y.core, c->y.b,    c->bias, c->magnitude};
    size_t count = 0;
    for (size_t i = 0; i < ADAPTER_CHANGE_TENSORS; i++)
        if (all[i])
            out[count++] = all[i];
    return count;
}

/* ---- values ---- */

/* x += f · y, which do not overlap */
static void add_scaled(float *restrict x, float f, const float *restrict y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] += f * y[i];
}

/* a's rows [row, row + rows), or columns where it is across: out[rows][a_rank]. line: [rows] */
static flux1_status left_rows(const adapter_factor *f, int64_t row, int64_t rows, float *line, float *out,
                              flux1_error *err)
{
    if (!f->across)
        return tensor_decode(&f->a->view, row * f->a_rank, rows * f->a_rank, out, err);
    for (int64_t k = 0; k < f->a_rank; k++) {
        TRY(tensor_decode(&f->a->view, k * f->rows + row, rows, line, err));
        for (int64_t i = 0; i < rows; i++)
            out[i * f->a_rank + k] = line[i];
    }
    return FLUX1_OK;
}

/* out[rows][cols] = left[rows][inner] · columns [col, col + cols) of right, a tensor of `ld` columns. line: [cols] */
static flux1_status multiply(const float *left, int64_t rows, int64_t inner, const tensor *right, int64_t ld,
                             int64_t col, int64_t cols, float *line, float *out, flux1_error *err)
{
    memset(out, 0, (size_t)(rows * cols) * sizeof *out);
    for (int64_t k = 0; k < inner; k++) {
        TRY(tensor_decode(right, k * ld + col, cols, line, err));
        for (int64_t i = 0; i < rows; i++)
            add_scaled(out + i * cols, left[i * inner + k], line, cols);
    }
    return FLUX1_OK;
}

static flux1_status product_rows(const adapter_factor *f, int64_t row, int64_t rows, int64_t col, int64_t cols,
                                 float *out, flux1_error *err)
{
    const size_t widest = (size_t)(i64_max(cols, i64_max(rows, f->rank)));
    float *left = malloc(((size_t)rows * (size_t)(f->a_rank + f->rank) + widest) * sizeof *left);
    flux1_status st = FLUX1_OK;
    if (!left)
        return error_oom(err, 0, "an adapter's rows");
    float *with_core = left + rows * f->a_rank, *line = with_core + rows * f->rank;
    TRY_CLEANUP(left_rows(f, row, rows, line, left, err));
    if (f->core)
        TRY_CLEANUP(multiply(left, rows, f->a_rank, &f->core->view, f->rank, 0, f->rank, line, with_core, err));
    st = multiply(f->core ? with_core : left, rows, f->rank, &f->b->view, f->cols, col, cols, line, out, err);
cleanup:
    free(left);
    return st;
}

static flux1_status factor_rows(const adapter_factor *f, int64_t row, int64_t rows, int64_t col, int64_t cols,
                                float *out, flux1_error *err)
{
    if (f->b)
        return product_rows(f, row, rows, col, cols, out, err);
    for (int64_t i = 0; i < rows; i++)
        TRY(tensor_decode(&f->a->view, (row + i) * f->cols + col, cols, out + i * cols, err));
    return FLUX1_OK;
}

static flux1_status hadamard(const adapter_change *c, int64_t row, int64_t rows, int64_t col, int64_t cols, float *out,
                             flux1_error *err)
{
    float *y = malloc((size_t)(rows * cols) * sizeof *y);
    if (!y)
        return error_oom(err, (size_t)(rows * cols) * sizeof *y, "an adapter's rows");
    flux1_status st = factor_rows(&c->x, row, rows, col, cols, out, err);
    if (st == FLUX1_OK)
        st = factor_rows(&c->y, row, rows, col, cols, y, err);
    for (int64_t i = 0; st == FLUX1_OK && i < rows * cols; i++)
        out[i] *= y[i];
    free(y);
    return st;
}

/* Row r is row r / y.rows of x with each element times row r % y.rows of y. */
static flux1_status kronecker(const adapter_change *c, int64_t row, int64_t rows, int64_t col, int64_t cols, float *out,
                              flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    const int64_t high = c->y.rows, wide = c->y.cols;
    float *x = malloc((size_t)(c->x.cols + wide) * sizeof *x), *y = x + c->x.cols;
    if (!x)
        return error_oom(err, (size_t)(c->x.cols + wide) * sizeof *x, "an adapter's rows");
    for (int64_t r = row; r < row + rows; r++, out += cols) {
        if (r == row || r % high == 0)
            TRY_CLEANUP(factor_rows(&c->x, r / high, 1, 0, c->x.cols, x, err));
        TRY_CLEANUP(factor_rows(&c->y, r % high, 1, 0, wide, y, err));
        for (int64_t i = 0; i < cols; i++)
            out[i] = x[(col + i) / wide] * y[(col + i) % wide];
    }
cleanup:
    free(x);
    return st;
}

flux1_status adapter_change_rows(const adapter_change *c, int64_t row, int64_t rows, int64_t col, int64_t cols,
                                 float *out, flux1_error *err)
{
    static flux1_status (*const by_form[])(const adapter_change *, int64_t, int64_t, int64_t, int64_t, float *,
                                           flux1_error *) = {
        [ADAPTER_HADAMARD] = hadamard, [ADAPTER_KRONECKER] = kronecker};
    flux1_status st = by_form[c->form] ? by_form[c->form](c, row, rows, col, cols, out, err)
                                       : factor_rows(&c->x, row, rows, col, cols, out, err);
    for (int64_t i = 0; st == FLUX1_OK && i < rows * cols; i++)
        out[i] *= c->scale;
    return st == FLUX1_OK ? st : error_prefix(err, "%s: tensor \"%s\"", c->head->file, c->head->name);
}
