#include "weights/adapter_rotation.h"

#include "base/checked.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct adapter_rotation {
    adapter_rotation_form form;
    float matrix[]; /* [stages, blocks, width, width] */
};

/* x += f · y, which do not overlap */
static void add_scaled(float *restrict x, float f, const float *restrict y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] += f * y[i];
}

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

/* S becomes (I + S)(I − S)⁻¹ = 2(I − S)⁻¹ − I, by Gauss and Jordan in place. No pivots are looked for: where S is skew
 * every remaining part of I − S has a symmetric part of at least I, so none is less than 1. */
static void cayley(float *m, int64_t n)
{
    for (int64_t i = 0; i < n * n; i++)
        m[i] = -m[i];
    for (int64_t i = 0; i < n; i++)
        m[i * n + i] += 1;
    for (int64_t k = 0; k < n; k++) {
        float *own = m + k * n;
        const float inverse = 1 / own[k];
        own[k] = 1;
        for (int64_t j = 0; j < n; j++)
            own[j] *= inverse;
        for (int64_t i = 0; i < n; i++) {
            const float f = m[i * n + k];
            if (i == k || f == 0)
                continue;
            m[i * n + k] = 0;
            add_scaled(m + i * n, -f, own, n);
        }
    }
    for (int64_t i = 0; i < n * n; i++)
        m[i] *= 2;
    for (int64_t i = 0; i < n; i++)
        m[i * n + i] -= 1;
}

/* S becomes I + 2S + … + 2Sᵖ⁻¹ + Sᵖ, PEFT's sum of `terms` terms: 3 and 4 are the same, and 2 ends with 2S.
 * (_cayley_batch) work: n · (n + 1) */
static void series(float *m, int64_t n, int terms, float *work)
{
    const int last = terms > 2 ? (terms > 4 ? terms - 1 : 3) : terms > 1;
    float *line = work + n * n;
    memcpy(work, m, (size_t)(n * n) * sizeof *m);
    memset(m, 0, (size_t)(n * n) * sizeof *m);
    for (int64_t i = 0; i < n; i++)
        m[i * n + i] = last == 0 || terms > 2 ? 1 : 2;
    for (int power = last; power-- > 0;)
        for (int64_t i = 0; i < n; i++) {
            memset(line, 0, (size_t)n * sizeof *line);
            for (int64_t k = 0; k < n; k++)
                add_scaled(line, m[i * n + k], work + k * n, n);
            line[i] += power ? 2 : 1;
            memcpy(m + i * n, line, (size_t)n * sizeof *line);
        }
}

static flux1_status fill(adapter_rotation *r, const tensor *blocks, flux1_error *err)
{
    const adapter_rotation_form *f = &r->form;
    const int64_t count = f->stages * f->blocks, n = f->width;
    float *work = NULL;
    if (f->terms && !(work = malloc((size_t)(n * (n + 1)) * sizeof *work)))
        return error_oom(err, (size_t)(n * (n + 1)) * sizeof *work, "an adapter's rotation");
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
            cayley(r->matrix + b * n * n, n);
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
    if (f->granule == 0)
        return p;
    const int64_t stretch = f->width << stage, half = stretch / (2 * f->granule);
    const int64_t begin = p - p % stretch, part = p % stretch / f->granule;
    return begin + (part % 2 * half + part / 2) * f->granule + p % f->granule;
}

static void turn_block(const adapter_rotation *r, int stage, int64_t block, float *v, float *work)
{
    const adapter_rotation_form *f = &r->form;
    const int64_t n = f->width, shared = f->blocks == 1 && !f->of_rows ? 0 : block;
    const float *matrix = r->matrix + (stage * f->blocks + shared) * n * n;
    float *got = work, *sum = work + n;
    bool any = false;
    for (int64_t i = 0; i < n; i++) {
        got[i] = v[source(f, stage, block * n + i)];
        any = any || got[i] != 0;
    }
    if (!any)
        return;
    memset(sum, 0, (size_t)n * sizeof *sum);
    for (int64_t k = 0; k < n; k++)
        if (got[k] != 0)
            add_scaled(sum, got[k], matrix + k * n, n);
    for (int64_t i = 0; i < n; i++)
        v[source(f, stage, block * n + i)] = sum[i];
}

/* The weight's rows are turned by the last stage's matrix times … times the first's, its columns by the transposes. */
void adapter_rotation_turn(const adapter_rotation *r, float *v, int64_t n, float *work)
{
    const int stages = r->form.stages;
    for (int i = 0; i < stages; i++)
        for (int64_t block = 0; block < n / r->form.width; block++)
            turn_block(r, r->form.of_rows ? stages - 1 - i : i, block, v, work);
}
