/* Recipes to device memory. The host's part of a copy (reading the mapped file, changing type and order) is spread over
 * threads, into two pinned buffers in turn; the copies have a stream of their own. */
#include "ops/cuda/cuda.h"

#include "base/checked.h"
#include "base/half.h"
#include "base/pool.h"

#include <stdlib.h>
#include <string.h>

#define STAGING ((size_t)32 << 20)

struct cuda_upload {
    bool ready;
    CUstream stream;
    unsigned char *staging[2];
    CUevent staged[2]; /* the buffer has been read */
    int turn, threads;
    pool *workers;
    CUdeviceptr
        plain; /* a coarse weight on its way to e4m3, and behind it CUDA_ALIGN bytes for its largest magnitude */
    size_t plain_bytes;
    float *rows; /* a decoded row each worker: row_floats each */
    size_t row_floats;
};

flux1_status cuda_upload_create(cuda_ops *o, int threads)
{
    o->upload = calloc(1, sizeof *o->upload);
    if (!o->upload)
        return error_oom(o->head.err, sizeof *o->upload, "the weights' copies");
    o->upload->threads = threads > 1 ? threads : 1;
    return FLUX1_OK;
}

/* Everything that a copy needs but for memory of a weight's size; what was made before an error stays. */
static flux1_status make_ready(cuda_ops *o)
{
    struct cuda_upload *u = o->upload;
    if (u->ready)
        return FLUX1_OK;
    if (!u->stream)
        TRY(cuda_check(&o->head, o->lib->cuStreamCreate(&u->stream, CU_STREAM_NON_BLOCKING), "cannot make a stream"));
    for (int i = 0; i < 2; i++) {
        if (!u->staging[i])
            TRY(cuda_check(&o->head, o->lib->cuMemHostAlloc((void **)&u->staging[i], STAGING, 0),
                           "cannot take pinned memory"));
        if (!u->staged[i])
            TRY(cuda_check(&o->head, o->lib->cuEventCreate(&u->staged[i], CU_EVENT_DISABLE_TIMING),
                           "cannot make an event"));
    }
    if (!u->workers)
        TRY(pool_create(u->threads, &u->workers, o->head.err));
    u->ready = true;
    return FLUX1_OK;
}

void cuda_upload_rest(cuda_ops *o)
{
    struct cuda_upload *u = o->upload;
    if (!u || !u->stream)
        return;
    o->lib->cuStreamSynchronize(u->stream);
    cuda_device_release(o->device, u->plain);
    u->plain = 0;
    u->plain_bytes = 0;
}

void cuda_upload_free(cuda_ops *o)
{
    struct cuda_upload *u = o->upload;
    if (!u)
        return;
    cuda_upload_rest(o);
    for (int i = 0; i < 2; i++) {
        if (u->staging[i])
            o->lib->cuMemFreeHost(u->staging[i]);
        if (u->staged[i])
            o->lib->cuEventDestroy(u->staged[i]);
    }
    if (u->stream)
        o->lib->cuStreamDestroy(u->stream);
    pool_destroy(u->workers);
    free(u->rows);
    free(u);
    o->upload = NULL;
}

flux1_status cuda_upload_wait(cuda_ops *o)
{
    return o->upload->stream
               ? cuda_check(&o->head, o->lib->cuStreamSynchronize(o->upload->stream), "the GPU reports a failure")
               : FLUX1_OK;
}

flux1_status cuda_upload_after(cuda_ops *o, CUevent event)
{
    TRY(make_ready(o));
    return cuda_check(&o->head, o->lib->cuStreamWaitEvent(o->upload->stream, event, 0), "cannot wait for an event");
}

flux1_status cuda_upload_record(cuda_ops *o, CUevent event)
{
    TRY(make_ready(o));
    return cuda_check(&o->head, o->lib->cuEventRecord(event, o->upload->stream), "cannot record an event");
}

/* ---- the host's part ---- */

/* Lines [first, first + count) on their way into pinned memory: rows of a weight's values, or of a piece that stays
 * packed (or the factors of its scale). */
typedef struct fill_job {
    const weight_recipe *recipe;
    bool bf16;
    const recipe_piece *packed; /* NULL: values */
    bool factors;
    size_t line_bytes;
    int64_t first, count, chunk;
    unsigned char *out;
    float *rows;
    size_t row_floats;
    flux1_error *err;
    atomic_int status;
} fill_job;

static const unsigned char *piece_row(const recipe_piece *p, int64_t row)
{
    const tensor *t = &p->source->view;
    return (const unsigned char *)t->data +
           (size_t)((p->source_row + row - p->row) * tensor_row_elements(t) + p->source_col) *
               (size_t)dtype_describe(t->type)->block_bytes;
}

/* Copies the row as it lies in the file, if all of it has the type that is wanted; false otherwise. */
static bool copy_row(const fill_job *j, int64_t row, unsigned char *out)
{
    const dtype type = j->bf16 ? DTYPE_BF16 : DTYPE_F32;
    const size_t element = j->bf16 ? 2 : 4;
    int64_t copied = 0;
    for (int i = 0; i < j->recipe->count; i++) {
        const recipe_piece *p = &j->recipe->piece[i];
        if (row < p->row || row >= p->row + p->rows)
            continue;
        if (p->source->view.type != type)
            return false;
        memcpy(out + (size_t)p->col * element, piece_row(p, row), (size_t)p->cols * element);
        copied += p->cols;
    }
    return copied == j->recipe->cols;
}

/* A filter's row [in, ky, kx] in the order (ky, kx, in). */
static int64_t filter_source(const weight_recipe *r, int64_t i)
{
    int64_t taps = (int64_t)r->kernel * r->kernel, channels = r->cols / taps;
    return i % channels * taps + i / channels;
}

static flux1_status decode_row(const fill_job *j, int64_t row, float *line, unsigned char *out, flux1_error *err)
{
    const weight_recipe *r = j->recipe;
    bool permuted = r->role == WEIGHT_CONV && r->kernel > 1;
    TRY(recipe_decode(r, row, 0, r->cols, line, err));
    for (int64_t i = 0; i < r->cols; i++) {
        float x = line[permuted ? filter_source(r, i) : i];
        if (j->bf16)
            ((uint16_t *)(void *)out)[i] = bf16_from_f32(x);
        else
            ((float *)(void *)out)[i] = x;
    }
    return FLUX1_OK;
}

static flux1_status fill_line(const fill_job *j, int64_t line, int worker, unsigned char *out, flux1_error *err)
{
    if (j->packed) {
        cuda_packed_line(j->packed, j->factors, line, out);
        return FLUX1_OK;
    }
    const weight_recipe *r = j->recipe;
    bool plain = r->role != WEIGHT_CONV || r->kernel == 1;
    if (plain && copy_row(j, line, out))
        return FLUX1_OK;
    return decode_row(j, line, j->rows + (size_t)worker * j->row_floats, out, err);
}

static void fill_lines(void *arg, int64_t index, int worker)
{
    fill_job *j = arg;
    int64_t last = i64_min(j->count, (index + 1) * j->chunk);
    for (int64_t i = index * j->chunk; i < last; i++) {
        flux1_error err = {0};
        int none = FLUX1_OK;
        flux1_status st = fill_line(j, j->first + i, worker, j->out + (size_t)i * j->line_bytes, &err);
        if (st != FLUX1_OK && atomic_compare_exchange_strong(&j->status, &none, (int)st))
            error_set(j->err, st, "%s", err.message);
    }
}

/* ---- copies ---- */

static flux1_status room_for_row(cuda_ops *o, size_t floats)
{
    struct cuda_upload *u = o->upload;
    if (u->rows && u->row_floats >= floats)
        return FLUX1_OK;
    free(u->rows);
    u->row_floats = floats;
    u->rows = malloc((size_t)u->threads * (floats + 1) * sizeof *u->rows);
    return u->rows ? FLUX1_OK
                   : error_oom(o->head.err, (size_t)u->threads * floats * sizeof *u->rows, "a weight's rows");
}

/* The job's lines into the pinned buffer whose turn it is, and on to `to`. */
static flux1_status copy_lines(cuda_ops *o, fill_job *j, CUdeviceptr to)
{
    struct cuda_upload *u = o->upload;
    j->chunk = i64_max(1, i64_ceil_div(j->count, 8 * (int64_t)u->threads));
    j->out = u->staging[u->turn];
    j->rows = u->rows;
    j->row_floats = u->row_floats;
    j->err = o->head.err;
    TRY(cuda_check(&o->head, o->lib->cuEventSynchronize(u->staged[u->turn]), "the GPU reports a failure"));
    pool_run(u->workers, i64_ceil_div(j->count, j->chunk), fill_lines, j);
    if (atomic_load(&j->status) != FLUX1_OK)
        return (flux1_status)atomic_load(&j->status);
    TRY(cuda_check(&o->head,
                   o->lib->cuMemcpyHtoDAsync(to + (CUdeviceptr)((size_t)j->first * j->line_bytes), j->out,
                                             (size_t)j->count * j->line_bytes, u->stream),
                   "cannot copy to the GPU"));
    TRY(cuda_check(&o->head, o->lib->cuEventRecord(u->staged[u->turn], u->stream), "cannot record an event"));
    u->turn ^= 1;
    return FLUX1_OK;
}

/* All of `count` lines, as many at a time as the pinned buffer takes. */
static flux1_status copy_all(cuda_ops *o, const fill_job *form, int64_t count, CUdeviceptr to)
{
    if (count == 0 || form->line_bytes == 0)
        return FLUX1_OK;
    if (form->line_bytes > STAGING)
        return error_set(o->head.err, FLUX1_ERR_LIMIT,
                         "device cuda: a weight with rows of %zu bytes; at most %zu are possible", form->line_bytes,
                         STAGING);
    int64_t most = (int64_t)(STAGING / form->line_bytes);
    for (int64_t first = 0; first < count; first += most) {
        fill_job j = *form;
        j.first = first;
        j.count = i64_min(most, count - first);
        TRY(copy_lines(o, &j, to));
    }
    return FLUX1_OK;
}

static flux1_status copy_matrix(cuda_ops *o, const weight_recipe *r, bool bf16, CUdeviceptr to)
{
    const fill_job j = {.recipe = r, .bf16 = bf16, .line_bytes = (size_t)r->cols * (bf16 ? 2 : 4)};
    TRY(room_for_row(o, (size_t)r->cols));
    return copy_all(o, &j, r->rows, to);
}

static flux1_status copy_packed(cuda_ops *o, const cuda_weight *w, CUdeviceptr to)
{
    for (int i = 0; i < w->recipe.count; i++)
        for (int factors = 0; factors < 2; factors++) {
            const cuda_lines lines = cuda_packed_lines(w, i, factors);
            const fill_job j = {.packed = &w->recipe.piece[i], .factors = factors, .line_bytes = lines.bytes};
            TRY(copy_all(o, &j, lines.count, to + lines.at));
        }
    return FLUX1_OK;
}

static flux1_status room_for_plain(cuda_ops *o, size_t bytes)
{
    struct cuda_upload *u = o->upload;
    if (u->plain_bytes >= bytes)
        return FLUX1_OK;
    cuda_upload_rest(o);
    TRY(cuda_device_allocate(o->device, size_round_up(bytes, CUDA_ALIGN) + CUDA_ALIGN, "a weight on its way to fp8",
                             &u->plain, o->head.err));
    u->plain_bytes = bytes;
    return FLUX1_OK;
}

/* To the GPU as it is, and there to e4m3: the copies' stream does both, so that the next weight may take its place. */
static flux1_status copy_quantised(cuda_ops *o, const cuda_weight *w, CUdeviceptr to)
{
    struct cuda_upload *u = o->upload;
    TRY(room_for_plain(o, (size_t)(w->head.rows * w->head.cols) * (w->bf16 ? 2 : 4)));
    TRY(copy_matrix(o, &w->recipe, w->bf16, u->plain));
    cuda_view plain = cuda_dense_view(u->plain, w->head.rows, w->head.cols, w->bf16);
    return cuda_quantise(o, u->stream, &plain, 1, to + w->at, to + w->scales_at,
                         u->plain + size_round_up(u->plain_bytes, CUDA_ALIGN));
}

flux1_status cuda_upload_weight(cuda_ops *o, const cuda_weight *w, CUdeviceptr to)
{
    TRY(cuda_begin(&o->head, "uploading weights", NULL)); /* a cancel is seen between weights */
    TRY(make_ready(o));
    TRY(w->e4m3     ? copy_quantised(o, w, to)
        : w->packed ? copy_packed(o, w, to)
                    : copy_matrix(o, &w->recipe, w->bf16, to + w->at));
    if (w->head.has_bias)
        TRY(copy_matrix(o, &w->bias_recipe, false, to + w->bias_at));
    if (w->head.has_bias && o->bf16)
        TRY(copy_matrix(o, &w->bias_recipe, true, to + w->bias_bf16_at));
    return FLUX1_OK;
}
