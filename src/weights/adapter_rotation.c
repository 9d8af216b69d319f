#include "weights/adapter_rotation.h"

#include "base/checked.h"
#include "weights/adapter_product.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEP = 32 }; /* rows that an inverse eliminates at once */

struct adapter_rotation {
    adapter_rotation_form form;
    float matrix[]; /* [stages, blocks, width, width] */
};

/* ---- B − Bᵀ ---- */

static flux1_status read_block(const adapter_rotation_form *f, const tensor *blocks, int64_t block, float *m,
                               flux1_error *err)
{
    const int64_t n = f->width;
    int64_t at = block * (f->triangle ? n * (n - 1) / 2 : n * n);
    if (!f->triangle)
        TRY(tensor_decode(blocks, at, n * n, m, err));
    for (int64_t i = 0; f->triangle && i + 1 < n; at += n - ++i)
        TRY(tensor_decode(blocks, at, n - 1 - i, m + i * n + i + 1, err));
    for (int64_t i = 0; i < n; i++) {
        m[i * n + i] = 0;
        for (int64_t j = i + 1; j < n; j++) {
            m[i * n + j] -= f->triangle ? 0 : m[j * n + i];
            m[j * n + i] = -m[i * n + j];
        }
    }
    return FLUX1_OK;
}

static double squares(const float *m, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (double)m[i] * (double)m[i];
    return sum;
}

/* `count` blocks become S. LyCORIS adds 1e-8 to the norm. */
static void scale_blocks(const adapter_rotation_form *f, float *m, int64_t count)
{
    const int64_t all = count * f->width * f->width;
    const double norm = f->limit < 0 ? 0 : sqrt(squares(m, all));
    const double factor = f->limit >= 0 && norm > f->limit ? f->limit / (norm + 1e-8) : 1;
    for (int64_t i = 0; i < all; i++)
        m[i] *= (float)(factor * (double)f->skew);
}

/* ---- orthogonal matrices ---- */

/* m[n][n], rows `ld` apart, becomes its inverse, by Gauss and Jordan in place. */
static void invert_small(float *m, int64_t ld, int64_t n)
{
    for (int64_t k = 0; k < n; k++) {
        float *own = m + k * ld;
        const float inverse = 1 / own[k];
        own[k] = 1;
        for (int64_t j = 0; j < n; j++)
            own[j] *= inverse;
        for (int64_t i = 0; i < n; i++) {
            float *other = m + i * ld;
            const float f = other[k];
            if (i == k)
                continue;
            other[k] = 0;
            for (int64_t j = 0; j < n; j++)
                other[j] -= f * own[j];
        }
    }
}

/* The same, STEP rows at a time: rows R of the step become P⁻¹·R, where P is their part on the diagonal and counts as I
 * behind it; from others L·R is taken, where L, their part in the step's columns, counts as 0 behind it.
 * work: 3 · STEP · n */
static void invert(float *m, int64_t n, float *work)
{
    float *rows = work, *columns = work + STEP * n;
    for (int64_t k = 0, step; k < n; k += step) {
        step = i64_min(STEP, n - k);
        float *own = m + k * n, *old = work + 2 * STEP * n;
        const int64_t below = k + step;
        invert_small(own + k, n, step);
        memcpy(old, own, (size_t)(step * n) * sizeof *m);
        for (int64_t i = 0; i < step; i++) {
            memset(old + i * n + k, 0, (size_t)step * sizeof *m);
            old[i * n + k + i] = 1;
        }
        memset(rows, 0, (size_t)(step * n) * sizeof *m);
        adapter_product_add((adapter_matrix){own + k, n}, (adapter_matrix){old, n}, step, step, n, rows, n);
        memcpy(own, rows, (size_t)(step * n) * sizeof *m);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < step && (i < k || i >= below); j++) {
                columns[i * step + j] = -m[i * n + k + j];
                m[i * n + k + j] = 0;
            }
        adapter_product_add((adapter_matrix){columns, step}, (adapter_matrix){rows, n}, k, step, n, m, n);
        adapter_product_add((adapter_matrix){columns + below * step, step}, (adapter_matrix){rows, n}, n - below, step,
                            n, m + below * n, n);
    }
}

/* S becomes (I + S)(I − S)⁻¹ = 2(I − S)⁻¹ − I. No pivots are looked for: where S is skew every remaining part of I − S
 * has a symmetric part of at least I, so none is less than 1. work: 3 · STEP · n */
static void cayley(float *m, int64_t n, float *work)
{
    for (int64_t i = 0; i < n * n; i++)
        m[i] = -m[i];
    for (int64_t i = 0; i < n; i++)
        m[i * n + i] += 1;
    invert(m, n, work);
    for (int64_t i = 0; i < n * n; i++)
        m[i] *= 2;
    for (int64_t i = 0; i < n; i++)
        m[i * n + i] -= 1;
}

/* S becomes I + 2S + … + 2Sᵖ⁻¹ + Sᵖ, PEFT's sum of `terms` terms: 3 and 4 are the same, and 2 ends with 2S.
 * (_cayley_batch) work: 2 · n · n */
static void series(float *m, int64_t n, int terms, float *work)
{
    const int last = terms > 2 ? (terms > 4 ? terms - 1 : 3) : terms > 1;
    const size_t bytes = (size_t)(n * n) * sizeof *m;
    float *next = work + n * n;
    memcpy(work, m, bytes);
    memset(m, 0, bytes);
    for (int64_t i = 0; i < n; i++)
        m[i * n + i] = last == 0 || terms > 2 ? 1 : 2;
    for (int power = last; power-- > 0;) {
        memset(next, 0, bytes);
        adapter_product_add((adapter_matrix){m, n}, (adapter_matrix){work, n}, n, n, n, next, n);
        for (int64_t i = 0; i < n; i++)
            next[i * n + i] += power ? 2 : 1;
        memcpy(m, next, bytes);
    }
}

static flux1_status fill(adapter_rotation *r, const tensor *blocks, flux1_error *err)
{
    const adapter_rotation_form *f = &r->form;
    const int64_t count = f->stages * f->blocks, n = f->width;
    const size_t room = (size_t)(f->terms ? 2 * n : 3 * STEP) * (size_t)n * sizeof(float);
    float *work = malloc(room);
    if (!work)
        return error_oom(err, room, "an adapter's rotation");
    flux1_status st = FLUX1_OK;
    for (int64_t b = 0; st == FLUX1_OK && b < count; b++) {
        st = read_block(f, blocks, b, r->matrix + b * n * n, err);
        if (f->each)
            scale_blocks(f, r->matrix + b * n * n, 1);
    }
    if (st == FLUX1_OK && !f->each)
        scale_blocks(f, r->matrix, count);
    for (int64_t b = 0; st == FLUX1_OK && b < count; b++)
        if (f->terms)
            series(r->matrix + b * n * n, n, f->terms, work);
        else
            cayley(r->matrix + b * n * n, n, work);
    free(work);
    return st;
}

flux1_status adapter_rotation_make(const adapter_rotation_form *form, const tensor *blocks, adapter_rotation **out,
                                   flux1_error *err)
{
    size_t count = (size_t)form->stages, bytes;
    *out = NULL;
    if (!size_mul(count, (size_t)form->blocks, &count) || !size_mul(count, (size_t)form->width, &count) ||
        !size_mul(count, (size_t)form->width, &count) || !size_mul(count, sizeof(float), &bytes) ||
        !size_add(bytes, sizeof(adapter_rotation), &bytes))
        return error_oom(err, SIZE_MAX, "an adapter's rotation");
    adapter_rotation *r = malloc(bytes);
    if (!r)
        return error_oom(err, bytes, "an adapter's rotation");
    r->form = *form;
    const flux1_status st = fill(r, blocks, err);
    if (st == FLUX1_OK)
        *out = r;
    else
        free(r);
    return st;
}

void adapter_rotation_free(adapter_rotation *r) { free(r); }

/* ---- turning ---- */

/* Where the element lies that stands at p when a stage's are put together: in each stretch those of the second half
 * come between those of the first. */
static int64_t source(const adapter_rotation_form *f, int stage, int64_t p)
{
    const int64_t stretch = f->width << stage, half = stretch / (2 * f->granule);
    const int64_t begin = p - p % stretch, part = p % stretch / f->granule;
    return begin + (part % 2 * half + part / 2) * f->granule + p % f->granule;
}

void adapter_rotation_reach(const adapter_rotation *r, int64_t *first, int64_t *end)
{
    const int64_t stretch = r->form.width << (r->form.stages - 1);
    *first -= *first % stretch;
    *end = i64_ceil_div(*end, stretch) * stretch;
}

static const float *block_at(const adapter_rotation *r, int stage, int64_t block)
{
    const adapter_rotation_form *f = &r->form;
    const int64_t shared = f->blocks == 1 && !f->of_rows ? 0 : block;
    return r->matrix + (stage * f->blocks + shared) * f->width * f->width;
}

/* Elements [at, at + width) of each row, or those that the stage puts there, times the block's matrix. v: [rows][ld] */
static void turn_block(const adapter_rotation *r, int stage, const float *matrix, int64_t at, int64_t rows, float *v,
                       int64_t ld, float *work)
{
    const int64_t n = r->form.width;
    const bool moved = r->form.granule > 0;
    float *got = work, *sum = work + rows * n;
    for (int64_t i = 0; moved && i < n; i++) {
        const int64_t from = source(&r->form, stage, at + i);
        for (int64_t k = 0; k < rows; k++)
            got[k * n + i] = v[k * ld + from];
    }
    memset(sum, 0, (size_t)(rows * n) * sizeof *sum);
    adapter_product_add(moved ? (adapter_matrix){got, n} : (adapter_matrix){v + at, ld}, (adapter_matrix){matrix, n},
                        rows, n, n, sum, n);
    for (int64_t k = 0; !moved && k < rows; k++)
        memcpy(v + k * ld + at, sum + k * n, (size_t)n * sizeof *sum);
    for (int64_t i = 0; moved && i < n; i++) {
        const int64_t to = source(&r->form, stage, at + i);
        for (int64_t k = 0; k < rows; k++)
            v[k * ld + to] = sum[k * n + i];
    }
}

/* The weight's rows are turned by the last stage's matrix times … times the first's, its columns by the transposes. */
void adapter_rotation_turn(const adapter_rotation *r, int64_t first, int64_t end, int64_t rows, float *v, float *work)
{
    const int64_t n = r->form.width;
    const int stages = r->form.stages;
    for (int i = 0; i < stages; i++) {
        const int stage = r->form.of_rows ? stages - 1 - i : i;
        for (int64_t at = first; at < end; at += n)
            turn_block(r, stage, block_at(r, stage, at / n), at - first, rows, v, end - first, work);
    }
}

void adapter_rotation_rows(const adapter_rotation *r, int64_t row, int64_t rows, int64_t first, int64_t end, float *v,
                           float *work)
{
    const int64_t n = r->form.width, ld = end - first;
    const bool plain = r->form.stages == 1 && r->form.granule == 0;
    memset(v, 0, (size_t)(rows * ld) * sizeof *v);
    for (int64_t i = row; i < row + rows; i++, v += ld)
        if (plain)
            memcpy(v + i - i % n - first, block_at(r, 0, i / n) + i % n * n, (size_t)n * sizeof *v);
        else
            v[i - first] = 1;
    if (!plain)
        adapter_rotation_turn(r, first, end, rows, v - rows * ld, work);
}
