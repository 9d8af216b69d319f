/* Convolutions of channels-last planes. In bf16: cuDNN, with bias and residual in a pass behind it. Otherwise (float32,
 * channel counts that cuDNN refuses, rows of a neighbour's image): patches laid out as rows, a piece at a time, and a
 * product. 1×1 is a linear layer over pixels. */
#include "ops/cuda/graphs.h"
#include "ops/cuda/notes.h"

#include "base/checked.h"

#define PATCHES ((size_t)64 << 20) /* bytes of patches at a time */

/* One convolution: shapes, operands. */
typedef struct conv {
    const cuda_weight *w;
    cuda_view in, top, bottom, residual, out;
    int64_t batch, height, width, out_height, out_width;
    int stride;
} conv;

/* Bias and residual behind what lies in out already. */
static flux1_status finish(cuda_ops *o, const conv *c)
{
    cuda_element_args e = {.in = c->out,
                           .out = c->out,
                           .residual = c->residual,
                           .bias = (const float *)(uintptr_t)c->w->bias,
                           .batch = c->batch};
    return e.bias || e.residual.data ? cuda_launch_elements(o, CUDA_KERNEL_epilogue, &e) : FLUX1_OK;
}

/* The bare convolution, for which cuDNN has finished kernels; bias and residual are a pass of ours. Fused behind it
 * they are a kernel that cuDNN compiles at its first use, 0.4 s a shape (docs/performance.md). */
static flux1_status through_cudnn(cuda_ops *o, const conv *c, bool *done)
{
    dnn_convolution_shape s = {.batch = c->batch,
                               .height = c->height,
                               .width = c->width,
                               .in = c->in.cols,
                               .out_height = c->out_height,
                               .out_width = c->out_width,
                               .out = c->out.cols,
                               .kernel = c->w->head.kernel,
                               .stride = c->stride,
                               .in_ld = c->in.ld,
                               .out_ld = c->out.ld};
    const int64_t numbers[] = {DNN_X, DNN_W, DNN_Y};
    void *const pointers[] = {c->in.data, (void *)(uintptr_t)c->w->data, c->out.data};
    TRY(cuda_graph_convolution(o, &s, 3, numbers, pointers, done));
    return *done ? finish(o, c) : FLUX1_OK;
}

/* What the descriptors say: bf16, planes one behind the other, first pixels at multiples of 16 bytes. Which channel
 * counts go is cuDNN's own answer. */
static bool suits(const cuda_view *v)
{
    return !v->data || (v->bf16 && (uintptr_t)v->data % 16 == 0 && v->batch_stride == v->rows * v->ld);
}

static bool suits_cudnn(const cuda_ops *o, const conv *c)
{
    return o->bf16 && c->w->bf16 && suits(&c->in) && suits(&c->out) && suits(&c->residual) && !c->top.data &&
           !c->bottom.data;
}

/* Output pixels [first, first + count) of all batches, without bias and residual, to `out`. */
static flux1_status patch_product(cuda_ops *o, const conv *c, CUdeviceptr patches, int64_t first, int64_t count,
                                  const cuda_view *out)
{
    cuda_im2col_args a = {.in = c->in,
                          .top = c->top,
                          .bottom = c->bottom,
                          .patches = (void *)(uintptr_t)patches,
                          .first = first,
                          .count = count,
                          .height = c->height,
                          .width = c->width,
                          .out_height = c->out_height,
                          .out_width = c->out_width,
                          .channels = c->in.cols,
                          .kernel = c->w->head.kernel,
                          .stride = c->stride};
    cuda_view rows = {.data = a.patches,
                      .ld = c->w->head.cols,
                      .batch_stride = count * c->w->head.cols,
                      .rows = count,
                      .cols = c->w->head.cols,
                      .bf16 = c->in.bf16};
    int64_t elements = count * c->w->head.cols,
            blocks = i64_min(i64_ceil_div(elements, 8 * CUDA_ROW_THREADS), 16 * (int64_t)o->device->multiprocessors);
    TRY(cuda_launch(o, CUDA_KERNEL_im2col, blocks, 1, 1, CUDA_ROW_THREADS, &a));
    return cuda_plain_product(o, &rows, c->w, out);
}

static int64_t pixels_at_a_time(int64_t pixels, int64_t cols, size_t element)
{
    int64_t most = (int64_t)(PATCHES / ((size_t)i64_max(1, cols) * element));
    return i64_min(i64_max(1, most), pixels);
}

static cuda_view pixels_of(cuda_view v, int64_t first, int64_t count)
{
    v.data = (char *)v.data + (size_t)(first * v.ld) * (v.bf16 ? 2 : 4);
    v.rows = count;
    v.batch_stride = count * v.ld;
    v.wide = cuda_is_wide(&v);
    return v;
}

static bool in_place(const conv *c) { return c->residual.data == c->out.data; }

/* A piece of the result beside the patches, and from there to what it is added to. */
static flux1_status add_patch_product(cuda_ops *o, const conv *c, CUdeviceptr patches, CUdeviceptr result,
                                      int64_t first, int64_t count)
{
    cuda_view out = pixels_of(c->out, first, count);
    cuda_element_args e = {.in = cuda_dense_view(result, count, out.cols, out.bf16),
                           .out = out,
                           .residual = out,
                           .bias = (const float *)(uintptr_t)c->w->bias,
                           .batch = 1};
    TRY(patch_product(o, c, patches, first, count, &e.in));
    return cuda_launch_elements(o, CUDA_KERNEL_epilogue, &e);
}

/* In place the scratch that patches would have is shared with their results. */
static flux1_status through_patches(cuda_ops *o, const conv *c)
{
    size_t mark = o->arena_used, element = c->in.bf16 ? 2 : 4;
    int64_t pixels = c->batch * c->out.rows, most = pixels_at_a_time(pixels, c->w->head.cols, element);
    CUdeviceptr patches, result = 0;
    TRY(cuda_fits(&o->head, c->out.batch_stride == c->out.rows * c->out.ld, "conv"));
    if (in_place(c))
        most = i64_max(1, most * c->w->head.cols / (c->w->head.cols + c->out.cols));
    TRY(cuda_scratch(o, (size_t)(most * c->w->head.cols) * element, &patches));
    if (in_place(c))
        TRY(cuda_scratch(o, (size_t)(most * c->out.cols) * element, &result));
    for (int64_t first = 0; first < pixels; first += most) {
        int64_t count = i64_min(most, pixels - first);
        cuda_view out = pixels_of(c->out, first, count);
        TRY(in_place(c) ? add_patch_product(o, c, patches, result, first, count)
                        : patch_product(o, c, patches, first, count, &out));
    }
    cuda_release(&o->head, mark);
    return in_place(c) ? FLUX1_OK : finish(o, c);
}

static bool rows_like(act a, act b) { return act_rows(a) == act_rows(b) && act_batch(a) == act_batch(b); }

static void note_patches(const cuda_ops *o, const conv *c)
{
    double work = (double)c->batch * (double)c->out.rows * (double)c->out.cols * (double)c->w->head.cols;
    cuda_note_own(o->device, CUDA_NOTE_OWN_CONVOLUTION, work,
                  "cuDNN does not compute a convolution of %lld x %lld, %lld to %lld channels", (long long)c->height,
                  (long long)c->width, (long long)c->in.cols, (long long)c->out.cols);
}

flux1_status cuda_conv(ops *base, act in, act top, act bottom, const weight *w, int stride, act residual, act out)
{
    cuda_ops *o = cuda_self(base);
    const act_shape *s = &in.buffer->shape, *t = &out.buffer->shape;
    bool done = false;
    TRY(cuda_begin(base, "conv", w));
    TRY(cuda_fits(base,
                  w->cols == in.cols * w->kernel * w->kernel && w->rows == out.cols &&
                      t->height == s->height / stride && t->width == s->width / stride && s->batch == t->batch &&
                      (!act_present(residual) || (residual.cols == out.cols && rows_like(residual, out))),
                  "conv"));
    if (act_rows(out) == 0 || act_batch(out) == 0)
        return FLUX1_OK;
    conv c = {.w = cuda_w(w),
              .in = cuda_view_of(in),
              .top = cuda_view_of(top),
              .bottom = cuda_view_of(bottom),
              .residual = cuda_view_of(residual),
              .out = cuda_view_of(out),
              .batch = s->batch,
              .height = s->height,
              .width = s->width,
              .out_height = t->height,
              .out_width = t->width,
              .stride = stride};
    if (in_place(&c))
        return through_patches(o, &c);
    if (w->kernel == 1)
        return ops_product(base, in, w, &(epilogue){.residual = residual}, out);
    if (suits_cudnn(o, &c)) {
        TRY(through_cudnn(o, &c, &done));
        if (!done && o->lib->dnn)
            note_patches(o, &c);
    }
    return done ? FLUX1_OK : through_patches(o, &c);
}

size_t cuda_conv_scratch(const ops_config *c, int64_t pixels, int64_t out_channels, int64_t in_taps)
{
    size_t element = c->arithmetic == DTYPE_BF16 ? 2 : 4;
    return size_round_up((size_t)(pixels_at_a_time(pixels, in_taps, element) * in_taps) * element + 1, CUDA_ALIGN) +
           size_round_up((size_t)out_channels * element + 1, CUDA_ALIGN) + CUDA_ALIGN;
}
