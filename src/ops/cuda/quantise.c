/* Matrices in e4m3: inputs of products (linear.c), which a norm may have made so (norms.c), and weights (upload.c). */
#include "ops/cuda/cuda.h"

flux1_status cuda_quantise(cuda_ops *o, CUstream stream, const cuda_view *in, int64_t batch, CUdeviceptr to,
                           CUdeviceptr scales, CUdeviceptr spare)
{
    cuda_quantise_args a = {.in = *in, .out = (uint8_t *)(uintptr_t)to, .scales = (float *)(uintptr_t)scales};
    int64_t rows = in->cols ? in->rows : 0;
    if (!o->scales_rows) {
        a.largest = (float *)(uintptr_t)spare;
        TRY(cuda_check(&o->head, o->lib->cuMemsetD8Async(spare, 0, sizeof(float), stream), "cannot clear a scale"));
        TRY(cuda_launch_on(o, stream, CUDA_KERNEL_largest, rows, batch, 1, CUDA_NORM_THREADS, &a));
    }
    return cuda_launch_on(o, stream, CUDA_KERNEL_quantise, rows, batch, 1, CUDA_NORM_THREADS, &a);
}

/* ---- activations that are kept in e4m3 ---- */

static bool multiplies_e4m3(const linear_weight *w) { return w->adapter_count == 0 && cuda_w(w->w)->e4m3; }

static bool is_whole_part(act a)
{
    return a.row == 0 && a.col == 0 && a.cols == a.buffer->shape.cols && a.rows == act_of(a, a.part).rows;
}

bool cuda_norm_in_e4m3(const cuda_ops *o, const norm_behind *n)
{
    const cuda_buffer *f = (const cuda_buffer *)n->out.buffer;
    return o->scales_rows && f->scales && n->readers[0] && is_whole_part(n->out) && multiplies_e4m3(n->readers[0]) &&
           (!n->readers[1] || multiplies_e4m3(n->readers[1]));
}

void cuda_set_e4m3(act a)
{
    for (int p = 0; p < 2; p++)
        if (a.part != 1 - p)
            ((cuda_buffer *)a.buffer)->e4m3[p] = true;
}

bool cuda_is_e4m3(act a)
{
    const cuda_buffer *f = (const cuda_buffer *)a.buffer;
    return f->e4m3[a.part == PART_TEXT ? PART_TEXT : PART_IMAGE];
}

cuda_view cuda_e4m3_view(act a)
{
    const cuda_buffer *f = (const cuda_buffer *)a.buffer;
    const act_shape *s = &f->head.shape;
    const int64_t ld = 2 * s->cols;
    cuda_view v = {.data = (void *)(uintptr_t)(f->data + (CUdeviceptr)(act_first_row(a) * ld)),
                   .ld = ld,
                   .batch_stride = (s->rows[0] + s->rows[1]) * ld,
                   .rows = act_rows(a),
                   .cols = a.cols,
                   .bf16 = CUDA_E4M3};
    v.wide = ld % 16 == 0;
    return v;
}

float *cuda_e4m3_scales(act a)
{
    return (float *)(uintptr_t)((const cuda_buffer *)a.buffer)->scales + act_first_row(a);
}

int64_t cuda_e4m3_scales_step(act a) { return a.buffer->shape.rows[0] + a.buffer->shape.rows[1]; }
