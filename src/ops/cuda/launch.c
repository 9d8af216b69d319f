/* What every operation begins with, what it sees of its activations, and how it is enqueued. */
#include "ops/cuda/cuda.h"

#include "base/checked.h"

flux1_status cuda_check(const ops *o, CUresult r, const char *what)
{
    return cuda_device_check(((const cuda_ops *)o)->device, r, what, o->err);
}

flux1_status cuda_begin(const ops *o, const char *operation, const weight *w)
{
    if (o->cancel && atomic_load_explicit(o->cancel, memory_order_relaxed))
        return error_set(o->err, FLUX1_ERR_CANCELLED, "cancelled");
    if (w && !w->owner->held)
        return error_set(o->err, FLUX1_ERR_INTERNAL, "%s uses a weight of block \"%s\" outside its bracket", operation,
                         w->owner->name);
    return cuda_device_current(((const cuda_ops *)o)->device, o->err);
}

flux1_status cuda_fits(const ops *o, bool ok, const char *operation)
{
    return ok ? FLUX1_OK : error_set(o->err, FLUX1_ERR_INTERNAL, "%s: shapes do not fit", operation);
}

flux1_status cuda_library_failed(const cuda_ops *o, const char *sentence)
{
    size_t left, all;
    TRY(cuda_check(&o->head, o->lib->cuMemGetInfo(&left, &all), sentence)); /* the device's own failure comes first */
    return error_set(o->head.err, FLUX1_ERR_INTERNAL, "device %s: %s (%s)", o->device->head.info.id, sentence,
                     o->device->versions);
}

/* ---- views ---- */

cuda_view cuda_view_of(act a)
{
    if (!act_present(a))
        return (cuda_view){0};
    cuda_buffer *f = (cuda_buffer *)a.buffer;
    const act_shape *s = &f->head.shape;
    for (int p = 0; p < 2; p++) /* it is about to be written: whatever reads e4m3 does not come here */
        f->e4m3[p] = f->e4m3[p] && a.part == 1 - p;
    size_t element = f->bf16 ? 2 : 4;
    cuda_view v = {.ld = s->cols,
                   .batch_stride = (s->rows[0] + s->rows[1]) * s->cols,
                   .rows = act_rows(a),
                   .cols = a.cols,
                   .bf16 = f->bf16};
    v.data = (void *)(uintptr_t)(f->data + (CUdeviceptr)(act_first_row(a) * s->cols + a.col) * element);
    v.wide = cuda_is_wide(&v);
    return v;
}

cuda_view cuda_dense_view(CUdeviceptr p, int64_t rows, int64_t cols, bool bf16)
{
    cuda_view v = {.data = (void *)(uintptr_t)p,
                   .ld = cols,
                   .batch_stride = rows * cols,
                   .rows = rows,
                   .cols = cols,
                   .bf16 = bf16};
    v.wide = cuda_is_wide(&v);
    return v;
}

int cuda_is_wide(const cuda_view *v)
{
    size_t element = v->bf16 ? 2 : 4;
    return (uintptr_t)v->data % 16 == 0 && (size_t)v->ld * element % 16 == 0 &&
           (size_t)v->batch_stride * element % 16 == 0 && v->cols % 8 == 0;
}

cuda_table_view cuda_table_of(const cuda_ops *o, act t, int64_t batch)
{
    if (!act_present(t))
        return (cuda_table_view){0};
    cuda_view v = cuda_view_of(t);
    return (cuda_table_view){.data = v.data, .ld = v.ld, .batch = batch, .step = (const int32_t *)(uintptr_t)o->step};
}

/* ---- launches ---- */

flux1_status cuda_launch_on(cuda_ops *o, CUstream stream, cuda_kernel k, int64_t grid_x, int64_t grid_y, int64_t grid_z,
                            int threads, const void *args)
{
    static const char *const names[] = {
#define NAME(name, type) "cannot launch the kernel " #name,
        CUDA_KERNELS(NAME)
#undef NAME
    };
    if (grid_x <= 0 || grid_y <= 0 || grid_z <= 0)
        return FLUX1_OK;
    if (grid_x > INT32_MAX || grid_y > 65535 || grid_z > 65535)
        return error_set(o->head.err, FLUX1_ERR_LIMIT, "%s: more blocks than a GPU takes; ask for a smaller picture",
                         names[k]);
    void *parameters[] = {(void *)(uintptr_t)args};
    return cuda_check(&o->head,
                      o->lib->cuLaunchKernel(o->device->kernel[k], (unsigned)grid_x, (unsigned)grid_y, (unsigned)grid_z,
                                             (unsigned)threads, 1, 1, 0, stream, parameters, NULL),
                      names[k]);
}

flux1_status cuda_launch(cuda_ops *o, cuda_kernel k, int64_t grid_x, int64_t grid_y, int64_t grid_z, int threads,
                         const void *args)
{
    return cuda_launch_on(o, o->stream, k, grid_x, grid_y, grid_z, threads, args);
}

flux1_status cuda_launch_elements(cuda_ops *o, cuda_kernel k, cuda_element_args *a)
{
    enum { ELEMENTS_A_THREAD = 8, BLOCKS_A_PROCESSOR = 16 };
    const cuda_view *v = a->out.data ? &a->out : &a->in;
    int64_t elements = a->batch * v->rows * v->cols;
    int64_t blocks = i64_min(i64_ceil_div(elements, ELEMENTS_A_THREAD * CUDA_ROW_THREADS),
                             (int64_t)o->device->multiprocessors * BLOCKS_A_PROCESSOR);
    return elements ? cuda_launch(o, k, blocks, 1, 1, CUDA_ROW_THREADS, a) : FLUX1_OK;
}
