/* Linear layers through cuBLASLt. Row-major out[m][n] = in[m][k]·W[n][k]ᵀ is the column-major D(n×m) = Aᵀ·B with A = W
 * (k×n) and B = in (k×m), so nothing is transposed and windows are leading dimensions; by a matrix [k][n] it is A·B.
 * Bias, and GELU behind it, are cuBLASLt's epilogue; what it has not (gate, residual, other activations) is one pass of
 * the `epilogue` kernel. Coarse weights in fp8 are e4m3 with scales, and so is their input, by the norm before it or
 * quantised here. What cuBLASLt refuses (leading dimensions it cannot align, k = 0) goes to the kernel `gemm`. */
#include "ops/cuda/cuda.h"
#include "ops/cuda/linear_plans.h"
#include "ops/cuda/notes.h"

#include "base/checked.h"

/* What a product multiplies by: [n][k], rows of ld elements; `across`: [k][n]. type: 0, 1 or CUDA_E4M3, as a view's. */
typedef struct right_side {
    const void *data;
    int64_t n, k, ld;
    bool across;
    int32_t type;
} right_side;

static size_t element_bytes(int32_t bf16) { return bf16 == CUDA_E4M3 ? 1 : bf16 ? 2 : 4; }
static int32_t weight_type(const cuda_weight *w) { return w->e4m3 ? CUDA_E4M3 : w->bf16; }

static int32_t alignment(const cuda_view *in, const cuda_view *out, const right_side *w)
{
    size_t in_size = element_bytes(in->bf16), out_size = element_bytes(out->bf16);
    uintptr_t all = (uintptr_t)in->data | (uintptr_t)out->data | (uintptr_t)w->data |
                    (uintptr_t)((size_t)in->ld * in_size) | (uintptr_t)((size_t)out->ld * out_size) |
                    (uintptr_t)((size_t)in->batch_stride * in_size) |
                    (uintptr_t)((size_t)out->batch_stride * out_size) | (uintptr_t)((size_t)w->ld * in_size) | 256;
    return (int32_t)(all & -all);
}

static flux1_status run_own(cuda_ops *o, const cuda_view *in, const right_side *w, const cuda_operands *x,
                            const cuda_view *out)
{
    cuda_gemm_args a = {.in = *in,
                        .out = *out,
                        .w = w->data,
                        .n = w->n,
                        .k = w->k,
                        .w_bf16 = w->type,
                        .in_scales = x->in_scales,
                        .w_scales = x->w_scales,
                        .scales_a_row = o->scales_rows};
    enum { TALLEST_GRID = 65535 }; /* the kernel shares its tiles over any grid */
    return cuda_launch(o, CUDA_KERNEL_gemm, i64_ceil_div(a.n, CUDA_GEMM_TILE),
                       i64_min(TALLEST_GRID, i64_ceil_div(in->rows, CUDA_GEMM_TILE)), 1, 256, &a);
}

static cuda_input_type input_type_of(const cuda_ops *o, const cuda_view *in)
{
    return in->bf16 != CUDA_E4M3 ? (in->bf16 ? CUDA_INPUT_BF16 : CUDA_INPUT_F32)
           : o->scales_rows      ? CUDA_INPUT_E4M3_ROWS
                                 : CUDA_INPUT_E4M3_WHOLE;
}

/* Through cuBLASLt with as much of *t behind the product as it does; *done is false if it does not do the product at
 * all. */
static flux1_status run_library(cuda_ops *o, const cuda_view *in, const cuda_view *out, const right_side *w,
                                const cuda_operands *x, cuda_tail *t, bool *done)
{
    cuda_product_shape key = {.m = in->rows,
                              .n = w->n,
                              .k = w->k,
                              .ld_in = in->ld,
                              .ld_w = w->ld,
                              .ld_out = out->ld,
                              .across = w->across,
                              .type_in = input_type_of(o, in),
                              .bf16_out = out->bf16,
                              .align = alignment(in, out, w)};
    for (int32_t behind = *t;; behind--) { /* less behind it may be possible */
        key.tail = behind;
        TRY(cuda_plan_run(o, &key, x, done));
        *t = (cuda_tail)behind;
        if (*done || behind == CUDA_TAIL_NONE)
            return FLUX1_OK;
    }
}

/* The library multiplies equal types only. *done is false where it does not do it. */
static flux1_status try_library(cuda_ops *o, const cuda_view *in, const right_side *w, const cuda_view *out,
                                const cuda_operands *x, cuda_tail *t, bool *done)
{
    *done = false;
    if (!o->lib->blas || in->bf16 != w->type || w->k == 0)
        return FLUX1_OK;
    pthread_mutex_lock(&o->device->plans_lock);
    flux1_status st = run_library(o, in, out, w, x, t, done);
    pthread_mutex_unlock(&o->device->plans_lock);
    return st;
}

static void note_own(const cuda_ops *o, const cuda_view *in, const right_side *w)
{
    long long m = in->rows, n = w->n, k = w->k;
    cuda_note_own(o->device, CUDA_NOTE_OWN_PRODUCT, (double)m * (double)n * (double)k,
                  "cuBLASLt does not compute a product of %lld x %lld x %lld, rows %lld apart, in %s", m, n, k,
                  (long long)in->ld,
                  in->bf16 == CUDA_E4M3 ? "e4m3"
                  : in->bf16            ? "bf16"
                                        : "float32");
}

static right_side whole_matrix(const cuda_weight *w)
{
    return (right_side){.data = (const void *)(uintptr_t)w->data,
                        .n = w->head.rows,
                        .k = w->head.cols,
                        .ld = w->head.cols,
                        .type = weight_type(w)};
}

/* out = in·wᵀ for one batch, with as much of `wanted` behind it as the library does: *done tells. right: w's matrix, or
 * some rows of it, for which nothing is wanted behind. scales: of an e4m3 input. */
static flux1_status product(cuda_ops *o, const cuda_view *in, const float *scales, const cuda_weight *w,
                            const right_side *right, const cuda_view *out, cuda_tail wanted, cuda_tail *done)
{
    cuda_operands x = {.in = in->data,
                       .w = right->data,
                       .bias = (const void *)(uintptr_t)(out->bf16 ? w->bias_bf16 : w->bias),
                       .out = out->data,
                       .in_scales = scales,
                       .w_scales = (const float *)(uintptr_t)w->scales};
    bool by_library = false;
    *done = CUDA_TAIL_NONE;
    if (in->rows == 0 || right->n == 0)
        return FLUX1_OK;
    TRY(try_library(o, in, right, out, &x, &wanted, &by_library));
    if (!by_library) {
        if (o->lib->blas && in->bf16 == right->type && right->k > 0)
            note_own(o, in, right);
        return run_own(o, in, right, &x, out);
    }
    *done = wanted;
    return FLUX1_OK;
}

flux1_status cuda_plain_product(cuda_ops *o, const cuda_view *in, const cuda_weight *w, const cuda_view *out)
{
    cuda_tail done;
    const right_side right = whole_matrix(w);
    return product(o, in, NULL, w, &right, out, CUDA_TAIL_NONE, &done);
}

flux1_status cuda_view_product(cuda_ops *o, const cuda_view *in, const cuda_view *w, bool across, const cuda_view *out,
                               bool *done)
{
    right_side right = {.data = w->data,
                        .n = across ? w->cols : w->rows,
                        .k = across ? w->rows : w->cols,
                        .ld = w->ld,
                        .across = across,
                        .type = w->bf16};
    cuda_operands x = {.in = in->data, .w = w->data, .out = out->data};
    cuda_tail none = CUDA_TAIL_NONE;
    return try_library(o, in, &right, out, &x, &none, done);
}

/* Batches as one where the rows of both follow each other without a gap. */
static int64_t merged(cuda_view *in, cuda_view *out, int64_t batch)
{
    if (batch > 1 && in->batch_stride == in->rows * in->ld && out->batch_stride == out->rows * out->ld) {
        in->rows *= batch;
        out->rows *= batch;
        return 1;
    }
    return batch;
}

static cuda_view of_batch(cuda_view v, int64_t b)
{
    v.data = (char *)v.data + (size_t)(b * v.batch_stride) * element_bytes(v.bf16);
    return v;
}

enum { SCALES_ALIGN = 16 }; /* cuBLASLt 13.1 refuses scales by rows at other addresses */

/* A batch entry's scales where the library takes them. */
static flux1_status scales_of_batch(cuda_ops *o, const cuda_operand *operand, int64_t b, const float **out)
{
    int64_t rows = operand->view.rows;
    CUdeviceptr p;
    *out = operand->scales && o->scales_rows ? operand->scales + b * operand->scales_step : operand->scales;
    if (!operand->scales || !o->scales_rows || (uintptr_t)*out % SCALES_ALIGN == 0)
        return FLUX1_OK;
    TRY(cuda_scratch(o, (size_t)rows * sizeof(float), &p));
    TRY(cuda_check(&o->head,
                   o->lib->cuMemcpyDtoDAsync(p, (CUdeviceptr)(uintptr_t)*out, (size_t)rows * sizeof(float), o->stream),
                   "cannot copy on the GPU"));
    *out = (const float *)(uintptr_t)p;
    return FLUX1_OK;
}

/* Of all batches. */
static flux1_status products(cuda_ops *o, const cuda_operand *operand, const cuda_weight *w, const right_side *right,
                             cuda_view out, cuda_tail wanted, cuda_tail *done)
{
    cuda_view in = operand->view;
    int64_t batch = merged(&in, &out, operand->batch);
    *done = wanted;
    for (int64_t b = 0; b < batch; b++) {
        size_t mark = o->arena_used;
        cuda_view x = of_batch(in, b), y = of_batch(out, b);
        const float *scales;
        TRY(scales_of_batch(o, operand, b, &scales));
        TRY(product(o, &x, scales, w, right, &y, wanted,
                    done)); /* alike for every batch: shape and alignment are the same */
        wanted = *done;
        cuda_release(&o->head, mark);
    }
    return FLUX1_OK;
}

/* A packed weight is decoded as a whole where there is room: then the product is that of the decoded one. Otherwise so
 * many rows at a time, and what comes behind is left to a pass of our own. */
static flux1_status packed_products(cuda_ops *o, const cuda_operand *operand, const cuda_weight *w, cuda_view out,
                                    cuda_tail wanted, cuda_tail *done)
{
    const int64_t rows = w->head.rows, most = cuda_packed_rows(o, w);
    right_side right = whole_matrix(w);
    *done = wanted;
    if (operand->view.rows == 0 || operand->batch == 0)
        return FLUX1_OK;
    for (int64_t first = 0; first < rows; first += most) {
        cuda_view part = out, values = cuda_dense_view(o->decoded, i64_min(most, rows - first), right.k, w->bf16);
        right.data = values.data;
        right.n = part.cols = values.rows;
        part.data = (char *)out.data + (size_t)first * element_bytes(out.bf16);
        TRY(cuda_packed_decode(o, w, first, right.n, &values));
        TRY(products(o, operand, w, &right, part, most < rows ? CUDA_TAIL_NONE : wanted, done));
    }
    return FLUX1_OK;
}

/* Bytes of a quantised input: rows, then their scales, or one and what finding it takes. */
static size_t quantised_scales(int64_t rows, int64_t cols) { return size_round_up((size_t)(rows * cols), CUDA_ALIGN); }
static size_t quantised_bytes(int64_t rows, int64_t cols)
{
    return quantised_scales(rows, cols) + (size_t)rows * sizeof(float) + 2 * sizeof(float);
}

static flux1_status quantise_input(cuda_ops *o, cuda_operand *x)
{
    CUdeviceptr p, scales;
    const cuda_view in = x->view;
    TRY(cuda_scratch(o, quantised_bytes(x->batch * in.rows, in.cols), &p));
    scales = p + quantised_scales(x->batch * in.rows, in.cols);
    x->scales = (const float *)(uintptr_t)scales;
    x->scales_step = in.rows;
    x->view = cuda_dense_view(p, in.rows, in.cols, true);
    x->view.bf16 = CUDA_E4M3;
    return cuda_quantise(o, o->stream, &in, x->batch, p, scales, scales + sizeof(float));
}

flux1_status cuda_operand_of(cuda_ops *o, act in, const cuda_weight *w, cuda_operand *out)
{
    CUdeviceptr p;
    bool ready = cuda_is_e4m3(in);
    TRY(cuda_fits(&o->head, in.cols == w->head.cols && (!ready || w->e4m3), "linear"));
    if (ready) {
        *out = (cuda_operand){.view = cuda_e4m3_view(in),
                              .scales = cuda_e4m3_scales(in),
                              .scales_step = cuda_e4m3_scales_step(in),
                              .batch = act_batch(in)};
        return FLUX1_OK;
    }
    *out = (cuda_operand){.view = cuda_view_of(in), .batch = act_batch(in)};
    if (w->e4m3)
        return quantise_input(o, out);
    if (!o->bf16 || out->view.bf16)
        return FLUX1_OK;
    TRY(cuda_scratch(o, (size_t)(out->batch * out->view.rows * out->view.cols) * 2, &p));
    cuda_element_args cast = {
        .in = out->view, .out = cuda_dense_view(p, out->view.rows, out->view.cols, true), .batch = out->batch};
    out->view = cast.out;
    return cuda_launch_elements(o, CUDA_KERNEL_copy, &cast);
}

static bool rows_like(act a, act b) { return act_rows(a) == act_rows(b) && act_batch(a) == act_batch(b); }
static bool absent_or_like(act a, act out) { return !act_present(a) || (a.cols == out.cols && rows_like(a, out)); }

/* Everything behind the product that the library has not done. */
static flux1_status finish(cuda_ops *o, const cuda_weight *w, const epilogue *e, const cuda_view *from, act out,
                           cuda_tail done, const norm_behind *norm)
{
    cuda_element_args a = {.in = *from,
                           .out = cuda_view_of(out),
                           .addend = cuda_view_of(e->addend),
                           .mul = cuda_view_of(e->mul),
                           .residual = cuda_view_of(e->residual),
                           .gate = cuda_table_of(o, e->gate, act_batch(out)),
                           .bias = done == CUDA_TAIL_NONE ? (const float *)(uintptr_t)w->bias : NULL,
                           .batch = act_batch(out),
                           .f = done == CUDA_TAIL_GELU_BIAS ? ACTIVATION_NONE : (int32_t)e->f};
    bool nothing = !a.bias && !a.addend.data && a.f == ACTIVATION_NONE && !a.mul.data && !a.residual.data &&
                   !a.gate.data && a.in.data == a.out.data;
    if (norm)
        return cuda_finish_norm(o, &a, norm, out);
    return nothing ? FLUX1_OK : cuda_launch_elements(o, CUDA_KERNEL_epilogue, &a);
}

/* cuda_linear_of, and where there is one the norm behind it. */
static flux1_status linear_of(cuda_ops *o, const cuda_operand *in, const weight *matrix, const epilogue *e, act out,
                              const norm_behind *norm)
{
    const cuda_weight *w = cuda_w(matrix);
    int64_t batch = in->batch;
    TRY(cuda_begin(&o->head, "linear", matrix));
    TRY(cuda_fits(&o->head,
                  in->view.cols == matrix->cols && out.cols == matrix->rows && act_rows(out) == in->view.rows &&
                      act_batch(out) == batch && absent_or_like(e->addend, out) && absent_or_like(e->mul, out) &&
                      absent_or_like(e->residual, out) && (!act_present(e->gate) || e->gate.cols == out.cols),
                  "linear"));
    size_t mark = o->arena_used;
    cuda_view y = cuda_view_of(out), to = y;
    if (y.rows == 0 || y.cols == 0)
        return FLUX1_OK;
    if (act_present(e->residual) &&
        e->residual.buffer == out.buffer) { /* the product must not overwrite what is added to it */
        CUdeviceptr p;
        TRY(cuda_scratch(o, (size_t)(batch * y.rows * y.cols) * (o->bf16 ? 2 : 4), &p));
        to = cuda_dense_view(p, y.rows, y.cols, o->bf16);
    }
    bool gelu = e->f == ACTIVATION_GELU_TANH && to.bf16 && !act_present(e->addend); /* the addend comes before f */
    cuda_tail wanted = !matrix->has_bias ? CUDA_TAIL_NONE : gelu ? CUDA_TAIL_GELU_BIAS : CUDA_TAIL_BIAS, done;
    const right_side right = whole_matrix(w);
    TRY(w->packed ? packed_products(o, in, w, to, wanted, &done) : products(o, in, w, &right, to, wanted, &done));
    TRY(finish(o, w, e, &to, out, done, norm));
    cuda_release(&o->head, mark);
    return FLUX1_OK;
}

flux1_status cuda_linear_of(cuda_ops *o, const cuda_operand *in, const weight *w, const epilogue *e, act out)
{
    return linear_of(o, in, w, e, out, NULL);
}

static flux1_status whole_linear(ops *base, act in, const weight *matrix, const epilogue *e, act out,
                                 const norm_behind *norm)
{
    cuda_ops *o = cuda_self(base);
    size_t mark = o->arena_used;
    cuda_operand x;
    TRY(cuda_begin(base, "linear", matrix));
    TRY(cuda_operand_of(o, in, cuda_w(matrix), &x));
    TRY(linear_of(o, &x, matrix, e, out, norm));
    cuda_release(base, mark);
    return FLUX1_OK;
}

flux1_status cuda_product(ops *base, act in, const weight *w, const epilogue *e, act out)
{
    return whole_linear(base, in, w, e, out, NULL);
}

/* One pass behind the product for what ends a block; the rest is made call by call. */
flux1_status cuda_linear_norm(ops *base, act in, const linear_weight *w, const epilogue *e, act out,
                              const norm_behind *norm)
{
    if (w->adapter_count || act_present(e->addend) || e->f != ACTIVATION_NONE || act_present(e->mul)) {
        TRY(ops_linear(base, in, w, e, out));
        return cuda_norm_alone(cuda_self(base), out, norm);
    }
    return whole_linear(base, in, w->w, e, out, norm);
}

size_t cuda_linear_scratch(const ops_config *c, int64_t m, int64_t n, int64_t k)
{
    bool bf16 = c->arithmetic == DTYPE_BF16;
    size_t cast = bf16 ? (size_t)m * (size_t)k * 2 : 0, quantised = c->fp8 ? quantised_bytes(m, k) : 0,
           result = (size_t)m * (size_t)n * (bf16 ? 2 : 4);
    cast = quantised > cast ? quantised : cast;
    if (c->fp8) /* scales in another place */
        cast = size_round_up(cast + 1, CUDA_ALIGN) + (size_t)m * sizeof(float);
    return size_round_up(cast + 1, CUDA_ALIGN) + size_round_up(result + 1, CUDA_ALIGN);
}
