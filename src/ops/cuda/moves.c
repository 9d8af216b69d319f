/* Host tensors, copies, and what ranks exchange. */
#include "ops/cuda/cuda.h"

#include "base/checked.h"

/* ---- host tensors, copies ---- */

static flux1_status copy_views(cuda_ops *o, const cuda_view *in, int64_t first, const cuda_view *out, int64_t batch)
{
    cuda_element_args a = {.in = *in, .out = *out, .first = first, .batch = batch};
    return cuda_launch_elements(o, CUDA_KERNEL_copy, &a);
}

static cuda_view row_range(cuda_view v, int64_t batch, int64_t first, int64_t rows)
{
    v.data = (char *)v.data + (size_t)(batch * v.batch_stride + first * v.ld) * (v.bf16 ? 2 : 4);
    v.rows = rows;
    v.wide = cuda_is_wide(&v);
    return v;
}

typedef enum direction { TO_DEVICE, TO_HOST } direction;

/* Part of a line of columns at a time where one row is larger than the buffer, otherwise as many rows as fit. */
static flux1_status move_rows(cuda_ops *o, direction way, float *host, const cuda_view *v, int64_t batch, int64_t first,
                              int64_t rows)
{
    cuda_view far = row_range(*v, batch, first, rows), near = cuda_dense_view(o->bounce, rows, v->cols, false);
    size_t bytes = (size_t)(rows * v->cols) * sizeof(float);
    if (way == TO_DEVICE) {
        TRY(cuda_check(&o->head, o->lib->cuMemcpyHtoDAsync(o->bounce, host, bytes, o->stream),
                       "cannot copy to the GPU"));
        return copy_views(o, &near, 0, &far, 1);
    }
    TRY(copy_views(o, &far, 0, &near, 1));
    TRY(cuda_check(&o->head, o->lib->cuMemcpyDtoHAsync(host, o->bounce, bytes, o->stream), "cannot copy from the GPU"));
    return cuda_check(&o->head, o->lib->cuStreamSynchronize(o->stream), "the GPU reports a failure");
}

static flux1_status move_host(ops *base, direction way, const tensor *host, act a, const char *operation)
{
    cuda_ops *o = cuda_self(base);
    dtype type = a.buffer->role == ACT_IDS ? DTYPE_I32 : DTYPE_F32;
    TRY(cuda_begin(base, operation, NULL));
    TRY(cuda_fits(base, host->type == type && tensor_elements(host) == act_batch(a) * act_rows(a) * a.cols, operation));
    cuda_view v = cuda_view_of(a);
    if (v.rows == 0 || v.cols == 0)
        return FLUX1_OK;
    int64_t most = (int64_t)(CUDA_BOUNCE / sizeof(float)) / v.cols;
    TRY(cuda_fits(base, most > 0, operation));
    for (int64_t b = 0; b < act_batch(a); b++)
        for (int64_t r = 0; r < v.rows; r += most)
            TRY(move_rows(o, way, (float *)host->data + (b * v.rows + r) * v.cols, &v, b, r,
                          i64_min(most, v.rows - r)));
    return FLUX1_OK;
}

flux1_status cuda_upload(ops *o, const tensor *host, act out) { return move_host(o, TO_DEVICE, host, out, "upload"); }
flux1_status cuda_download(ops *o, act in, tensor *host) { return move_host(o, TO_HOST, host, in, "download"); }

flux1_status cuda_copy_rows(ops *o, act in, int64_t first, act out)
{
    cuda_view from = cuda_view_of(in), to = cuda_view_of(out);
    TRY(cuda_begin(o, "copy_rows", NULL));
    TRY(cuda_fits(o,
                  in.cols == out.cols && act_batch(in) == act_batch(out) && first >= 0 &&
                      first + act_rows(out) <= act_rows(in),
                  "copy_rows"));
    return copy_views(cuda_self(o), &from, first, &to, act_batch(out));
}

flux1_status cuda_cast(ops *o, act in, act out) { return cuda_copy_rows(o, in, 0, out); }

/* ---- what ranks exchange: packed on the device; where no link moves it from there, at the mirror's own offset, then
 * copied to the host ---- */

flux1_status cuda_exchange(ops *base, size_t bytes, void **out)
{
    cuda_ops *o = cuda_self(base);
    size_t offset = 0;
    TRY(cuda_arena_take(o, bytes, &offset));
    if (o->linked) {
        *out = (void *)(uintptr_t)(o->arena + offset);
        return FLUX1_OK;
    }
    if (!o->mirror) {
        TRY(cuda_begin(base, "exchange", NULL));
        TRY(cuda_check(base, o->lib->cuMemHostAlloc(&o->mirror, o->arena_size, 0),
                       "cannot take pinned memory for what the ranks exchange"));
    }
    o->eager = true; /* the bytes pass through the host, which a graph's replay does not */
    *out = (char *)o->mirror + offset;
    return FLUX1_OK;
}

size_t cuda_pack_bytes(ops *o, act a, int64_t rows)
{
    (void)o;
    return (size_t)(act_batch(a) * rows * a.cols) * (((const cuda_buffer *)a.buffer)->bf16 ? 2 : 4);
}

static CUdeviceptr behind(const cuda_ops *o, const void *bytes)
{
    return o->linked ? (CUdeviceptr)(uintptr_t)bytes
                     : o->arena + (CUdeviceptr)((const char *)bytes - (const char *)o->mirror);
}

flux1_status cuda_pack(ops *base, act in, int64_t first, int64_t rows, void *bytes)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_begin(base, "pack", NULL));
    TRY(cuda_fits(base, first >= 0 && first + rows <= act_rows(in), "pack"));
    cuda_view from = cuda_view_of(in), to = cuda_dense_view(behind(o, bytes), rows, in.cols, from.bf16);
    TRY(copy_views(o, &from, first, &to, act_batch(in)));
    if (o->linked)
        return FLUX1_OK;
    TRY(cuda_check(base, o->lib->cuMemcpyDtoHAsync(bytes, behind(o, bytes), cuda_pack_bytes(base, in, rows), o->stream),
                   "cannot copy from the GPU"));
    return cuda_check(base, o->lib->cuStreamSynchronize(o->stream), "the GPU reports a failure");
}

flux1_status cuda_unpack(ops *base, const void *bytes, act out, int64_t first, int64_t rows)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_begin(base, "unpack", NULL));
    TRY(cuda_fits(base, first >= 0 && first + rows <= act_rows(out), "unpack"));
    cuda_view to = row_range(cuda_view_of(out), 0, first, rows),
              from = cuda_dense_view(behind(o, bytes), rows, out.cols, to.bf16);
    if (o->linked)
        return copy_views(o, &from, 0, &to, act_batch(out));
    TRY(cuda_check(base,
                   o->lib->cuMemcpyHtoDAsync(behind(o, bytes), bytes, cuda_pack_bytes(base, out, rows), o->stream),
                   "cannot copy to the GPU"));
    TRY(copy_views(o, &from, 0, &to, act_batch(out)));
    return cuda_check(base, o->lib->cuStreamSynchronize(o->stream),
                      "the GPU reports a failure"); /* the host memory is the caller's again */
}
