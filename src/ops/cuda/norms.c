/* Norms of rows, alone or behind a linear layer: arguments checked, kernels of our own launched. */
#include "ops/cuda/cuda.h"

#include "base/checked.h"

static bool rows_like(act a, act b) { return act_rows(a) == act_rows(b) && act_batch(a) == act_batch(b); }
static const float *floats(CUdeviceptr p) { return (const float *)(uintptr_t)p; }

static flux1_status norm_args(cuda_ops *o, act in, const norm_behind *n, cuda_norm_args *a)
{
    TRY(cuda_begin(&o->head, "layer_norm", n->w));
    TRY(cuda_fits(&o->head, in.cols == n->out.cols && rows_like(in, n->out) && (!n->w || n->w->rows == in.cols),
                  "layer_norm"));
    *a = (cuda_norm_args){.in = cuda_view_of(in),
                          .out = cuda_view_of(n->out),
                          .shift = cuda_table_of(o, n->shift, act_batch(n->out)),
                          .scale = cuda_table_of(o, n->scale, act_batch(n->out)),
                          .eps = n->eps};
    if (cuda_norm_in_e4m3(o, n)) {
        a->out = cuda_e4m3_view(n->out);
        a->scales = cuda_e4m3_scales(n->out);
        a->scales_stride = cuda_e4m3_scales_step(n->out);
        cuda_set_e4m3(n->out);
    }
    if (n->w) {
        a->w = floats(cuda_w(n->w)->data);
        a->b = floats(cuda_w(n->w)->bias);
    }
    return FLUX1_OK;
}

/* As many blocks as fit at once, each for several rows. */
static flux1_status launch_rows(cuda_ops *o, cuda_kernel k, int blocks_a_processor, act in, const void *args)
{
    int64_t batch = act_batch(in), most = (int64_t)o->device->multiprocessors * blocks_a_processor,
            blocks = i64_min(act_rows(in), i64_max(1, most / i64_max(1, batch)));
    return cuda_launch(o, k, in.cols ? blocks : 0, batch, 1, CUDA_NORM_THREADS, args);
}

static flux1_status layer_norm(cuda_ops *o, act in, const norm_behind *n)
{
    cuda_norm_args a;
    TRY(norm_args(o, in, n, &a));
    return launch_rows(o, CUDA_KERNEL_layer_norm, CUDA_LAYER_NORM_BLOCKS, in, &a);
}

flux1_status cuda_layer_norm(ops *base, act in, const weight *w, act shift, act scale, float eps, act out)
{
    const norm_behind n = {.w = w, .shift = shift, .scale = scale, .eps = eps, .out = out};
    return layer_norm(cuda_self(base), in, &n);
}

flux1_status cuda_norm_alone(cuda_ops *o, act out, const norm_behind *norm)
{
    if (norm->slot >= 0)
        TRY(cuda_finite(&o->head, out, norm->slot));
    return layer_norm(o, out, norm);
}

flux1_status cuda_finish_norm(cuda_ops *o, const cuda_element_args *e, const norm_behind *norm, act out)
{
    cuda_exit_args a = {.epilogue = *e};
    TRY(norm_args(o, out, norm, &a.norm));
    if (norm->slot >= 0)
        TRY(cuda_flag(o, norm->slot, &a.epilogue.flag));
    return launch_rows(o, CUDA_KERNEL_epilogue_norm, CUDA_EPILOGUE_NORM_BLOCKS, out, &a);
}

flux1_status cuda_rms_norm(ops *base, act in, const weight *w, float eps, act out)
{
    TRY(cuda_begin(base, "rms_norm", w));
    TRY(cuda_fits(base, in.cols == out.cols && rows_like(in, out) && w->rows == in.cols, "rms_norm"));
    cuda_norm_args a = {.in = cuda_view_of(in), .out = cuda_view_of(out), .w = floats(cuda_w(w)->data), .eps = eps};
    return cuda_launch(cuda_self(base), CUDA_KERNEL_rms_norm, a.in.cols ? act_rows(in) : 0, act_batch(in), 1,
                       CUDA_NORM_THREADS, &a);
}
