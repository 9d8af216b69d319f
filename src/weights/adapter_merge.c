#include "weights/adapter_merge.h"

#include "base/checked.h"
#include "base/hash.h"
#include "weights/adapter_relative.h"
#include "weights/adapter_values.h"
#include "weights/recipe.h"

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_AT_ONCE = 32, ELEMENTS_AT_ONCE = 1 << 16 };

/* One file's change of the tensor. */
typedef struct share {
    const adapter_file *file;
    const adapter_change *change;
    const adapter_term *term;
    float strength;
    float *factors;             /* DoRA by column: magnitude / norm of each, once they are known */
    adapter_rotation *rotation; /* OFT and BOFT: while elements are asked for that were not yet */
    int users;                  /* of it */
    int64_t served;             /* elements that it was used for */
} share;

struct adapter_merged {
    tensor_values head;
    store_tensor tensor;
    store_sources sources;
    weight_recipe base;
    int64_t rows, cols;
    pthread_mutex_t lock; /* of all `factors` and rotations */
    int count;
    share share[]; /* in the order of the requests' adapters */
};

/* Rows that follow each other in a layer, and in the entry. */
typedef struct row_places {
    int64_t layer, entry, rows;
} row_places;

/* ---- DoRA ---- */

/* W + ΔW of whole rows; delta gets ΔW. */
static flux1_status changed_rows(const weight_recipe *base, const adapter_change *c, row_places at, float *changed,
                                 float *delta, flux1_error *err)
{
    const int64_t cols = base->cols;
    TRY(recipe_decode_rows(base, at.layer, at.rows, 0, cols, changed, err));
    TRY(adapter_change_rows(c, &(adapter_window){at.entry, at.rows, 0, cols}, delta, err));
    for (int64_t i = 0; i < at.rows * cols; i++)
        changed[i] += delta[i];
    return FLUX1_OK;
}

/* The layer's row in the entry, and those that follow it there: `most`, or fewer. */
static row_places place_in_entry(const adapter_term *t, int64_t row, int64_t most)
{
    const int64_t half = t->rows / 2, end = t->swapped && row < half ? half : t->rows,
                  moved = !t->swapped  ? row
                          : row < half ? row + half
                                       : row - half;
    return (row_places){.layer = row, .entry = t->first + moved, .rows = i64_min(end - row, most)};
}

/* Adds the squares of a layer's columns, of W + ΔW. */
static flux1_status add_squares(const adapter_term *t, const adapter_change *c, double *sums, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    const weight_recipe base = recipe_whole(WEIGHT_LINEAR, t->base);
    const int64_t cols = base.cols;
    float *changed = malloc((size_t)(2 * ROWS_AT_ONCE * cols) * sizeof *changed), *delta;
    if (!changed)
        return error_oom(err, 0, "an adapter's norms");
    delta = changed + ROWS_AT_ONCE * cols;
    for (int64_t row = 0; row < t->rows;) {
        const row_places at = place_in_entry(t, row, ROWS_AT_ONCE);
        TRY_CLEANUP(changed_rows(&base, c, at, changed, delta, err));
        for (int64_t i = 0; i < at.rows * cols; i++)
            sums[i % cols] += (double)changed[i] * (double)changed[i];
        row += at.rows;
    }
cleanup:
    free(changed);
    return st;
}

/* LyCORIS adds float32's epsilon to each norm (apply_weight_decompose). */
static float dora_factor(float magnitude, double sum) { return magnitude / ((float)sqrt(sum) + FLT_EPSILON); }

/* A column's norm is over all rows of the entry, those of the other layers of a fused matrix too. */
static flux1_status make_factors(share *s, int64_t cols, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    double *sums = calloc((size_t)cols, sizeof *sums);
    float *factors = malloc((size_t)cols * sizeof *factors);
    if (!sums || !factors)
        st = error_oom(err, 0, "an adapter's norms");
    for (size_t i = 0; st == FLUX1_OK && i < s->file->count; i++)
        if (s->file->term[i].change == s->term->change)
            st = add_squares(&s->file->term[i], s->change, sums, err);
    if (st == FLUX1_OK)
        st = tensor_decode(&s->change->magnitude->view, 0, cols, factors, err);
    for (int64_t i = 0; st == FLUX1_OK && i < cols; i++)
        factors[i] = dora_factor(factors[i], sums[i]);
    free(sums);
    if (st == FLUX1_OK)
        s->factors = factors;
    else
        free(factors);
    return st;
}

static flux1_status find_factors(const adapter_merged *m, const share *s, flux1_error *err)
{
    adapter_merged *own = (adapter_merged *)m; /* a cache of what m's constant members say */
    share *mine = (share *)s;
    pthread_mutex_lock(&own->lock);
    flux1_status st = mine->factors ? FLUX1_OK : make_factors(mine, m->cols, err);
    pthread_mutex_unlock(&own->lock);
    return st;
}

/* out += strength · (m·V/‖V‖ − W) of columns [w->col, w->col + w->cols); work: 2 · rows · m->cols */
static flux1_status add_normalised(const adapter_merged *m, const share *s, row_places at, const adapter_window *w,
                                   float *work, float *out, flux1_error *err)
{
    float *changed = work, *delta = work + at.rows * m->cols, magnitude;
    TRY(changed_rows(&m->base, s->change, at, changed, delta, err));
    if (s->change->by_column)
        TRY(find_factors(m, s, err));
    for (int64_t r = 0; r < at.rows; r++, changed += m->cols, delta += m->cols, out += w->cols) {
        float factor = 0;
        double sum = 0;
        for (int64_t i = 0; i < m->cols && !s->change->by_column; i++)
            sum += (double)changed[i] * (double)changed[i];
        if (!s->change->by_column) {
            TRY(tensor_decode(&s->change->magnitude->view, at.entry + r, 1, &magnitude, err));
            factor = dora_factor(magnitude, sum);
        }
        for (int64_t i = w->col; i < w->col + w->cols; i++) {
            const float scaled = (s->change->by_column ? s->factors[i] : factor) * changed[i];
            out[i - w->col] += s->strength * (scaled - (changed[i] - delta[i]));
        }
    }
    return FLUX1_OK;
}

/* ---- rotations ---- */

/* A rotation is as large as the file's blocks, and making it takes long: it is there until each element was computed
 * with it once. */
static flux1_status take_rotation(const adapter_merged *m, share *s, flux1_error *err)
{
    adapter_merged *own = (adapter_merged *)m; /* a cache of what m's constant members say */
    flux1_status st = FLUX1_OK;
    pthread_mutex_lock(&own->lock);
    if (!s->rotation)
        st = adapter_rotation_make(&s->change->rotation, &s->change->x.a->view, &s->rotation, err);
    s->users += st == FLUX1_OK;
    pthread_mutex_unlock(&own->lock);
    return st;
}

static void leave_rotation(const adapter_merged *m, share *s, int64_t served)
{
    adapter_merged *own = (adapter_merged *)m;
    pthread_mutex_lock(&own->lock);
    s->served += served;
    if (--s->users == 0 && s->served >= m->rows * m->cols) {
        adapter_rotation_free(s->rotation);
        s->rotation = NULL;
        s->served = 0;
    }
    pthread_mutex_unlock(&own->lock);
}

/* ΔW of the entry's window, to out[rows·cols]. */
static flux1_status relative_rows(const adapter_merged *m, const share *s, int64_t layer_row, const adapter_window *w,
                                  float *out, flux1_error *err)
{
    const bool rotates = s->change->form == ADAPTER_ROTATED;
    if (rotates)
        TRY(take_rotation(m, (share *)s, err));
    const flux1_status st = adapter_relative_rows(s->file, s->term, s->rotation, layer_row, w, out, err);
    if (rotates)
        leave_rotation(m, (share *)s, w->rows * w->cols);
    return st;
}

/* ---- values ---- */

/* Adds a file's share to a window of the layer. work: 2 · rows · m->cols. */
static flux1_status add_share(const adapter_merged *m, const share *s, const adapter_window *layer, float *work,
                              float *out, flux1_error *err)
{
    for (int64_t row = layer->row, end = row + layer->rows; row < end;) {
        const row_places at = place_in_entry(s->term, row, end - row);
        const adapter_window w = {at.entry, at.rows, layer->col, layer->cols};
        const int64_t count = w.rows * w.cols;
        row += at.rows;
        if (s->change->magnitude) {
            TRY(add_normalised(m, s, at, &w, work, out, err));
        } else {
            TRY(adapter_change_relative(s->change) ? relative_rows(m, s, at.layer, &w, work, err)
                                                   : adapter_change_rows(s->change, &w, work, err));
            for (int64_t i = 0; i < count; i++)
                out[i] += s->strength * work[i];
        }
        out += count;
    }
    return FLUX1_OK;
}

static flux1_status merge_rows(const adapter_merged *m, const adapter_window *layer, float *work, float *out,
                               flux1_error *err)
{
    TRY(recipe_decode_rows(&m->base, layer->row, layer->rows, layer->col, layer->cols, out, err));
    for (int i = 0; i < m->count; i++)
        TRY(add_share(m, &m->share[i], layer, work, out, err));
    return FLUX1_OK;
}

/* Whole rows together where the elements are that, otherwise part of one row. */
static flux1_status merged_decode(const tensor_values *v, int64_t first, int64_t count, float *out, flux1_error *err)
{
    const adapter_merged *m = (const adapter_merged *)v;
    const int64_t most = i64_max(ROWS_AT_ONCE, ELEMENTS_AT_ONCE / m->cols);
    const int64_t at_once = i64_min(most, i64_max(1, count / m->cols));
    float *work = malloc((size_t)(2 * at_once * m->cols) * sizeof *work);
    flux1_status st = FLUX1_OK;
    if (!work)
        return error_oom(err, (size_t)(2 * at_once * m->cols) * sizeof *work, "merging adapters");
    while (st == FLUX1_OK && count > 0) {
        const int64_t row = first / m->cols, col = first % m->cols;
        const bool whole = col == 0 && count >= m->cols;
        const int64_t rows = whole ? i64_min(at_once, count / m->cols) : 1;
        const int64_t cols = whole ? m->cols : i64_min(count, m->cols - col);
        st = merge_rows(m, &(adapter_window){row, rows, col, cols}, work, out, err);
        first += rows * cols;
        count -= rows * cols;
        out += rows * cols;
    }
    free(work);
    return st;
}

/* ---- identity ---- */

/* Adds tensors to the list; counts only where it is NULL. */
static void list_source(store_sources *s, const store_tensor *t)
{
    if (s->tensor)
        s->tensor[s->count] = t;
    s->count++;
}

/* The model's tensor, then each share's: the entry's own, and the layers whose columns or rows count. */
static void list_sources(adapter_merged *m, const store_tensor *base)
{
    m->sources.count = 0;
    list_source(&m->sources, base);
    for (int i = 0; i < m->count; i++) {
        const share *s = &m->share[i];
        const store_tensor *own[ADAPTER_CHANGE_TENSORS];
        const size_t count = adapter_change_tensors(s->change, own);
        for (size_t k = 0; k < count; k++)
            list_source(&m->sources, own[k]);
        const bool others = s->change->by_column || adapter_change_mixes_rows(s->change);
        for (size_t k = 0; others && k < s->file->count; k++)
            if (s->file->term[k].change == s->term->change)
                list_source(&m->sources, s->file->term[k].base);
    }
}

static uint64_t bits(float x)
{
    uint32_t out;
    memcpy(&out, &x, sizeof out);
    return out;
}

static void add_identity(adapter_merged *m, const share *s)
{
    const adapter_change *c = s->change;
    const adapter_rotation_form *f = &c->rotation;
    const uint64_t numbers[] = {m->sources.hash,   bits(s->strength),  bits(c->scale),        c->form,
                                c->kind,           c->by_column,       s->term->swapped,      (uint64_t)s->term->first,
                                (uint64_t)c->rows, (uint64_t)f->terms, bits((float)f->limit), c->factors_by_column};
    m->sources.hash = hash_bytes(numbers, sizeof numbers);
}

/* ---- making ---- */

static size_t ends_with(const char *name, const char *ending)
{
    const size_t n = strlen(name), e = strlen(ending);
    return n > e && strcmp(name + n - e, ending) == 0 ? n - e : 0;
}

/* The file's terms for the tensor of this name, up to two; returns their number. */
static int terms_of(const adapter_file *f, model_part part, const char *name, adapter_merge_what what,
                    const adapter_term *out[2])
{
    char layer[NAME_BYTES_MAX];
    const size_t weight = ends_with(name, ".weight"), length = weight ? weight : ends_with(name, ".bias");
    int count = 0;
    if (length == 0 || length >= sizeof layer)
        return 0;
    memcpy(layer, name, length);
    layer[length] = '\0';
    if (weight && what == ADAPTER_MERGE_ALL && (out[count] = adapter_find(f, part, layer, ADAPTER_BESIDE)))
        count++;
    if ((out[count] = adapter_find(f, part, layer, weight ? ADAPTER_WEIGHT : ADAPTER_BIAS)))
        count++;
    return count;
}

static flux1_status fill(adapter_merged *m, const store_tensor *base, flux1_error *err)
{
    m->head.decode = merged_decode;
    m->base = recipe_whole(base->view.dims == 1 ? WEIGHT_VECTOR : WEIGHT_LINEAR, base);
    m->rows = m->base.rows;
    m->cols = m->base.cols;
    m->tensor = *base;
    m->tensor.half[0] = m->tensor.half[1] = NULL;
    m->tensor.view.type = DTYPE_COMPUTED;
    m->tensor.view.scale = NULL;
    m->tensor.view.data = &m->head;
    list_sources(m, base);
    m->sources.tensor = calloc(m->sources.count, sizeof *m->sources.tensor);
    if (!m->sources.tensor)
        return error_oom(err, 0, "merging adapters");
    list_sources(m, base);
    for (int i = 0; i < m->count; i++)
        add_identity(m, &m->share[i]);
    m->tensor.computed_from = &m->sources;
    return FLUX1_OK;
}

flux1_status adapter_merge(const adapter_use *uses, int count, model_part part, const store_tensor *base,
                           adapter_merge_what what, adapter_merged **out, flux1_error *err)
{
    const adapter_term *found[2];
    adapter_merged *m;
    *out = NULL;
    if (!(m = calloc(1, sizeof *m + 2 * (size_t)count * sizeof *m->share)))
        return error_oom(err, sizeof *m, "merging adapters");
    for (int i = 0; i < count; i++) {
        const int terms = uses[i].scale != 0 ? terms_of(uses[i].file, part, base->name, what, found) : 0;
        for (int k = 0; k < terms; k++)
            m->share[m->count++] = (share){.file = uses[i].file,
                                           .change = &uses[i].file->change[found[k]->change],
                                           .term = found[k],
                                           .strength = uses[i].scale};
    }
    if (m->count == 0) {
        free(m);
        return FLUX1_OK;
    }
    pthread_mutex_init(&m->lock, NULL);
    flux1_status st = fill(m, base, err);
    if (st == FLUX1_OK)
        *out = m;
    else
        adapter_merged_free(m);
    return st;
}

const store_tensor *adapter_merged_tensor(const adapter_merged *m) { return &m->tensor; }

void adapter_merged_free(adapter_merged *m)
{
    if (!m)
        return;
    for (int i = 0; i < m->count; i++) {
        free(m->share[i].factors);
        adapter_rotation_free(m->share[i].rotation);
    }
    free(m->sources.tensor);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* ---- of a model ---- */

static flux1_status add_merged(adapter_merges *l, adapter_merged *m, flux1_error *err)
{
    if (l->count == l->room) {
        const size_t room = 2 * l->room + 16;
        adapter_merged **more = realloc(l->merged, room * sizeof(adapter_merged *));
        if (!more)
            return error_oom(err, room * sizeof(adapter_merged *), "a model's layers");
        l->merged = more;
        l->room = room;
    }
    l->merged[l->count++] = m;
    return FLUX1_OK;
}

flux1_status adapter_merges_take(adapter_merges *l, const adapter_use *uses, int count, model_part part,
                                 adapter_merge_what what, const store_tensor **t, flux1_error *err)
{
    adapter_merged *m = NULL;
    for (size_t i = 0; i < l->count && !m; i++)
        if (l->merged[i]->sources.tensor[0] == *t)
            m = l->merged[i];
    if (!m) {
        TRY(adapter_merge(uses, count, part, *t, what, &m, err));
        if (!m)
            return FLUX1_OK;
        const flux1_status st = add_merged(l, m, err);
        if (st != FLUX1_OK) {
            adapter_merged_free(m);
            return st;
        }
    }
    *t = &m->tensor;
    return FLUX1_OK;
}

void adapter_merges_free(adapter_merges *l)
{
    for (size_t i = 0; i < l->count; i++)
        adapter_merged_free(l->merged[i]);
    free(l->merged);
    *l = (adapter_merges){0};
}
