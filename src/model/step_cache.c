#include "model/step_cache.h"

#include <math.h>
#include <stdlib.h>

size_t step_cache_bytes(int64_t batch, int64_t rows, int64_t cols)
{
    return 2 * (size_t)(batch * rows * cols) * sizeof(float);
}

static flux1_status create_acts(step_cache *c, mesh *m)
{
    const act_shape shape = shape_rows(c->batch, 0, c->rows, c->cols);
    TRY(ops_create(m->o, ACT_RESIDUAL, shape, &c->before));
    TRY(ops_create(m->o, ACT_RESIDUAL, shape, &c->change));
    return ops_create(m->o, ACT_RESIDUAL, shape, &c->rest);
}

static flux1_status create_host(step_cache *c, const mesh *m)
{
    const size_t bytes = step_cache_bytes(c->batch, c->rows, c->cols) / 2;
    if (ops_counts_only(m->o))
        return FLUX1_OK;
    c->now = malloc(bytes + 1);
    c->then = malloc(bytes + 1);
    c->sums = malloc((size_t)(2 * c->batch) * (size_t)(1 + m->ranks) * sizeof *c->sums);
    return c->now && c->then && c->sums ? FLUX1_OK : error_oom(m->err, 2 * bytes, "the step cache");
}

flux1_status step_cache_create(mesh *m, float threshold, int64_t batch, int64_t rows, int64_t cols, step_cache **out)
{
    step_cache *c = calloc(1, sizeof *c);
    if (!c)
        return error_oom(m->err, sizeof *c, "the step cache");
    *c = (step_cache){.threshold = threshold, .batch = batch, .rows = rows, .cols = cols};
    step_cache_start(c);
    flux1_status st = create_acts(c, m);
    if (st == FLUX1_OK)
        st = create_host(c, m);
    if (st != FLUX1_OK) {
        step_cache_destroy(c);
        return st;
    }
    *out = c;
    return FLUX1_OK;
}

void step_cache_destroy(step_cache *c)
{
    if (!c)
        return;
    free(c->now);
    free(c->then);
    free(c->sums);
    free(c);
}

void step_cache_start(step_cache *c)
{
    c->computed = c->counted = -1;
    c->reused = 0;
}

flux1_status step_cache_begin(const step_cache *c, mesh *m, act image) { return ops_cast(m->o, image, c->before); }

flux1_status step_cache_change(const step_cache *c, mesh *m, act image)
{
    TRY(ops_add(m->o, image, -1, (act){0}, c->before, c->change));
    return ops_cast(m->o, image, c->before);
}

/* Of each entry: Σ|now − then| and Σ|then| of this rank's rows. Without anything to compare with, infinity: also in a
 * step that is made again, whose other ranks may not have been as far. */
static void add_up(const step_cache *c, int64_t step, float *sums)
{
    const bool known = c->computed >= 0 && c->computed != step;
    for (int64_t b = 0; b < c->batch; b++) {
        const int64_t first = b * c->rows * c->cols, end = first + c->rows * c->cols;
        double difference = 0, size = 0;
        for (int64_t i = first; known && i < end; i++) {
            difference += fabs((double)c->now[i] - c->then[i]);
            size += fabs((double)c->then[i]);
        }
        sums[2 * b] = known ? (float)difference : INFINITY;
        sums[2 * b + 1] = (float)size;
    }
}

/* Of all ranks' sums. A NaN is computed, and then found. */
static bool near_enough(const step_cache *c, const float *sums, int ranks)
{
    for (int64_t b = 0; b < c->batch; b++) {
        double difference = 0, size = 0;
        for (int r = 0; r < ranks; r++) {
            difference += (double)sums[2 * (r * c->batch + b)];
            size += (double)sums[2 * (r * c->batch + b) + 1];
        }
        if (!(difference <= (double)c->threshold * size))
            return false;
    }
    return true;
}

flux1_status step_cache_decide(step_cache *c, mesh *m, bool *reuse)
{
    ops *o = m->o;
    tensor host = {.type = DTYPE_F32, .dims = 3, .shape = {c->batch, c->rows, c->cols}, .data = c->now};
    float *all = c->sums ? c->sums + 2 * c->batch : NULL;
    *reuse = false;
    TRY(ops_download(o, c->change, &host));
    if (!ops_counts_only(o))
        add_up(c, o->step, c->sums);
    TRY(mesh_share(m, c->sums, 2 * c->batch, all));
    if (ops_counts_only(o))
        return FLUX1_OK;
    *reuse = near_enough(c, all, m->ranks);
    if (!*reuse)
        c->computed = -1; /* until step_cache_kept */
    if (*reuse && c->counted != o->step) {
        c->counted = o->step;
        c->reused++;
    }
    return FLUX1_OK;
}

flux1_status step_cache_apply(const step_cache *c, mesh *m, act image)
{
    return ops_add(m->o, c->before, 1, (act){0}, c->rest, image);
}

flux1_status step_cache_keep(const step_cache *c, mesh *m, act image)
{
    return ops_add(m->o, image, -1, (act){0}, c->before, c->rest);
}

void step_cache_kept(step_cache *c, const mesh *m)
{
    float *now = c->now;
    c->now = c->then;
    c->then = now;
    c->computed = m->o->step;
}
