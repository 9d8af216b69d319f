/* The values: decoded, merged with adapters, encoded and written, some rows at a time on every thread. Memory is two
 * buffers per thread; the source is mapped, and its pages are given back when they were read. */
#include "tools/convert.h"

#include "base/checked.h"
#include "base/file_map.h"
#include "base/half.h"
#include "base/pool.h"
#include "tensor/encode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK 65536 /* elements, at least a row */

/* One tensor being written. */
typedef struct writing {
    convert_job *j;
    const convert_tensor *t;
    int64_t rows;         /* per chunk */
    size_t row_bytes;     /* as written */
    float *values;        /* per worker: a chunk */
    unsigned char *bytes; /* per worker: an encoded chunk */
    size_t worker_values, worker_bytes;
    atomic_int failed;
    atomic_uint largest; /* bits of the largest magnitude, of a scaled tensor */
} writing;

static void fail(writing *w, const flux1_error *one)
{
    if (atomic_exchange(&w->failed, 1) == 0)
        *w->j->err = *one;
}

static bool stopped(const writing *w)
{
    return atomic_load_explicit(&w->failed, memory_order_relaxed) ||
           atomic_load_explicit(&w->j->context->cancel, memory_order_relaxed);
}

/* ---- values ---- */

static flux1_status read_rows(const writing *w, int64_t row, int64_t rows, float *values, flux1_error *err)
{
    return recipe_decode_rows(&w->t->from, row, rows, 0, w->t->cols, values, err);
}

/* The largest magnitude; FLUX1_ERR_NUMERIC for NaN and infinity. */
static flux1_status measure(const writing *w, const float *values, int64_t count, float *largest, flux1_error *err)
{
    uint32_t most = 0; /* magnitudes compare like their bits */
    for (int64_t i = 0; i < count; i++) {
        const uint32_t size = f32_bits(values[i]) & 0x7fffffffu;
        most = size > most ? size : most;
    }
    *largest = f32_from_bits(most);
    if (isfinite(*largest))
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_NUMERIC, "%s: NaN or infinity in tensor \"%s\"; it cannot be converted",
                     w->t->slice[0].item->file, w->t->slice[0].item->name);
}

static flux1_status check_limit(const writing *w, float largest, flux1_error *err)
{
    float limit;
    dtype_encoder_of(w->t->type, &limit);
    if (w->t->scaled || largest <= limit)
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_LIMIT,
                     "%s: tensor \"%s\" has the value %g, but %s holds at most %g; choose another type for it",
                     w->t->slice[0].item->file, w->t->slice[0].item->name, (double)largest,
                     dtype_describe(w->t->type)->name, (double)limit);
}

/* Divided by the scale, within the type's range in spite of rounding. */
static void divide(const writing *w, float *values, int64_t count)
{
    const float scale = w->t->scale, limit = w->t->type == DTYPE_F8_E5M2 ? E5M2_MAX : E4M3_MAX;
    for (int64_t i = 0; i < count; i++) {
        const float v = values[i] / scale;
        values[i] = v > limit ? limit : v < -limit ? -limit : v;
    }
}

/* ---- the workers ---- */

static flux1_status convert_rows(writing *w, int64_t row, int64_t rows, int worker, flux1_error *err)
{
    const convert_tensor *t = w->t;
    float *values = w->values + (size_t)worker * w->worker_values, largest;
    unsigned char *bytes = w->bytes + (size_t)worker * w->worker_bytes;
    const int64_t count = rows * t->cols;
    TRY(read_rows(w, row, rows, values, err));
    TRY(measure(w, values, count, &largest, err));
    TRY(check_limit(w, largest, err));
    if (t->scaled)
        divide(w, values, count);
    dtype_encoder_of(t->type, NULL)(values, count / dtype_describe(t->type)->block_elements, bytes);
    return tensor_file_put(&w->j->file, t->index, (size_t)row * w->row_bytes, bytes, (size_t)rows * w->row_bytes, err);
}

/* The stored bytes of rows, piece by piece. */
static flux1_status copy_rows(const writing *w, int64_t row, int64_t rows, flux1_error *err)
{
    for (int i = 0; i < w->t->from.count; i++) {
        const recipe_piece *p = &w->t->from.piece[i];
        const int64_t begin = i64_max(row, p->row), end = i64_min(row + rows, p->row + p->rows);
        if (begin >= end)
            continue;
        const unsigned char *at =
            (const unsigned char *)p->source->view.data + (size_t)(p->source_row + begin - p->row) * w->row_bytes;
        TRY(tensor_file_put(&w->j->file, w->t->index, (size_t)begin * w->row_bytes, at,
                            (size_t)(end - begin) * w->row_bytes, err));
    }
    return FLUX1_OK;
}

/* A piece's tensor in the model's file. */
static const store_tensor *stored(const convert_tensor *t, const recipe_piece *p)
{
    for (int i = 0; i < t->slices; i++)
        if (t->with[i] && adapter_merged_tensor(t->with[i]) == p->source)
            return t->slice[i].item;
    return p->source;
}

/* The source's pages of some rows are not needed any more. */
static void release(const writing *w, int64_t row, int64_t rows)
{
    for (int i = 0; i < w->t->from.count; i++) {
        const recipe_piece *p = &w->t->from.piece[i];
        const tensor *source = &stored(w->t, p)->view;
        const dtype_info *info = dtype_describe(source->type);
        const int64_t begin = i64_max(row, p->row) - p->row + p->source_row,
                      end = i64_min(row + rows, p->row + p->rows) - p->row + p->source_row;
        if (begin >= end)
            continue;
        const size_t from = (size_t)(begin * w->t->cols / info->block_elements) * (size_t)info->block_bytes,
                     to = (size_t)(end * w->t->cols / info->block_elements) * (size_t)info->block_bytes;
        file_map_wont_need((const unsigned char *)source->data + from, to - from);
    }
}

static void write_chunk(void *arg, int64_t index, int worker)
{
    writing *w = arg;
    flux1_error err = {0};
    const int64_t row = index * w->rows, rows = i64_min(w->rows, w->t->rows - row);
    if (stopped(w))
        return;
    if ((w->t->copied ? copy_rows(w, row, rows, &err) : convert_rows(w, row, rows, worker, &err)) != FLUX1_OK)
        fail(w, &err);
    release(w, row, rows);
}

/* First pass over a scaled tensor. */
static void measure_chunk(void *arg, int64_t index, int worker)
{
    writing *w = arg;
    flux1_error err = {0};
    const int64_t row = index * w->rows, rows = i64_min(w->rows, w->t->rows - row);
    float *values = w->values + (size_t)worker * w->worker_values, largest = 0;
    if (stopped(w))
        return;
    if (read_rows(w, row, rows, values, &err) != FLUX1_OK ||
        measure(w, values, rows * w->t->cols, &largest, &err) != FLUX1_OK)
        fail(w, &err);
    release(w, row, rows);
    unsigned before = atomic_load(&w->largest), own = f32_bits(largest);
    while (before < own && !atomic_compare_exchange_weak(&w->largest, &before, own))
        ;
}

/* ---- tensor by tensor ---- */

static flux1_status state(const writing *w)
{
    if (atomic_load(&w->failed))
        return w->j->err->status;
    return atomic_load(&w->j->context->cancel) ? error_set(w->j->err, FLUX1_ERR_CANCELLED, "cancelled") : FLUX1_OK;
}

static flux1_status write_scale(writing *w, convert_tensor *t, pool *workers, int64_t chunks)
{
    if (!t->copied) {
        pool_run(workers, chunks, measure_chunk, w);
        TRY(state(w));
        const float largest = f32_from_bits(atomic_load(&w->largest));
        t->scale = largest > 0 ? largest / (t->type == DTYPE_F8_E5M2 ? E5M2_MAX : E4M3_MAX) : 1;
        if (t->scale == 0) /* of the smallest subnormal floats */
            t->scale = 0x1p-126f;
    }
    return tensor_file_put(&w->j->file, t->scale_index, 0, &t->scale, sizeof t->scale, w->j->err);
}

static int64_t chunk_rows(const convert_tensor *t) { return t->cols > 0 && t->cols < CHUNK ? CHUNK / t->cols : 1; }

static flux1_status write_tensor(writing *w, convert_tensor *t, pool *workers)
{
    const dtype_info *info = dtype_describe(t->type);
    if (t->rows == 0 || t->cols == 0)
        return FLUX1_OK;
    w->t = t;
    w->rows = chunk_rows(t);
    w->row_bytes = (size_t)(t->cols / info->block_elements) * (size_t)info->block_bytes;
    atomic_store(&w->largest, 0);
    const int64_t chunks = i64_ceil_div(t->rows, w->rows);
    if (t->scaled)
        TRY(write_scale(w, t, workers, chunks));
    pool_run(workers, chunks, write_chunk, w);
    release(w, 0, t->rows); /* also the pages that two chunks share */
    return state(w);
}

/* Buffers for the largest chunk of any tensor; an encoded element has at most 4 bytes. */
static flux1_status make_buffers(writing *w, int threads)
{
    int64_t chunk = 1;
    for (size_t i = 0; i < w->j->count; i++) {
        const convert_tensor *t = &w->j->tensor[i];
        chunk = i64_max(chunk, t->copied ? 1 : chunk_rows(t) * t->cols);
    }
    size_t values, bytes;
    w->worker_values = (size_t)chunk;
    w->worker_bytes = 4 * (size_t)chunk;
    if (!size_mul(w->worker_values, (size_t)threads * sizeof *w->values, &values) ||
        !size_mul(w->worker_bytes, (size_t)threads, &bytes) || !(w->values = malloc(values)) ||
        !(w->bytes = malloc(bytes)))
        return error_oom(w->j->err, w->worker_values * (size_t)threads * sizeof *w->values, "the rows being converted");
    return FLUX1_OK;
}

static flux1_status write_all(writing *w, pool *workers)
{
    convert_job *j = w->j;
    size_t done = 0;
    for (size_t i = 0; i < j->count; i++) {
        convert_tensor *t = &j->tensor[i];
        TRY(write_tensor(w, t, workers));
        done += j->file.tensor[t->index].bytes;
        if (j->progress)
            j->progress(j->user, (double)done / (double)j->file.bytes);
    }
    return FLUX1_OK;
}

flux1_status convert_write(convert_job *j)
{
    flux1_status st;
    pool *workers = NULL;
    writing w = {.j = j};
    TRY_CLEANUP(pool_create(j->context->device.config.threads, &workers, j->err));
    TRY_CLEANUP(make_buffers(&w, pool_threads(workers)));
    TRY_CLEANUP(write_all(&w, workers));
cleanup:
    pool_destroy(workers);
    free(w.values);
    free(w.bytes);
    return st;
}
