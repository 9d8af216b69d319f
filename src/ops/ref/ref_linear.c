/* The reference backend: linear layers, norms, element-wise operations, moves. */
#include "ops/ref/ref.h"

#include "base/half.h"

#include <math.h>
#include <string.h>

float ref_activation(activation f, float x)
{
    double v = x;
    switch (f) {
    case ACTIVATION_NONE: return x;
    case ACTIVATION_GELU_TANH:
        return (float)(0.5 * v * (1 + tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)))); /* √(2/π) */
    case ACTIVATION_QUICK_GELU: return (float)(v / (1 + exp(-1.702 * v)));
    case ACTIVATION_GELU: return (float)(0.5 * v * (1 + erf(v * 0.7071067811865476)));
    case ACTIVATION_SILU: return (float)(v / (1 + exp(-v)));
    }
    return x;
}

static float largest(const float *x, int64_t n)
{
    float most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(x[i]));
    return most;
}

void ref_e4m3(ops_fp8 how, float *x, int64_t rows, int64_t n)
{
    float all = largest(x, rows * n);
    for (int64_t r = 0; r < rows; r++, x += n) {
        float scale = e4m3_scale(how == FP8_WHOLE ? all : largest(x, n)), inverse = 1 / scale;
        for (int64_t i = 0; i < n; i++)
            x[i] = e4m3_to_f32(e4m3_from_f32(x[i] * inverse)) * scale;
    }
}

/* The input as it is multiplied with a coarse weight: dense rows of all batches. */
static flux1_status quantise(ref_ops *o, act in, float **out)
{
    int64_t rows = act_rows(in), all = act_batch(in) * rows;
    void *x;
    TRY(arena_alloc(&o->memory, (size_t)(all * in.cols) * sizeof(float), &x, o->head.err));
    *out = x;
    for (int64_t i = 0; i < all; i++)
        memcpy(*out + i * in.cols, ref_row(in, i / rows, i % rows), (size_t)in.cols * sizeof(float));
    ref_e4m3(o->fp8, *out, all, in.cols);
    return FLUX1_OK;
}

void ref_dots(const float *x, const float *w, int64_t stride, int64_t step, int64_t rows, int64_t count, double *sum)
{
    for (; rows >= 4; rows -= 4, w += 4 * stride, sum += 4) {
        const float *y = w;
        double a = sum[0], b = sum[1], c = sum[2], d = sum[3];
        for (int64_t k = 0; k < count; k++, y += step) {
            a += (double)x[k] * y[0];
            b += (double)x[k] * y[stride];
            c += (double)x[k] * y[2 * stride];
            d += (double)x[k] * y[3 * stride];
        }
        sum[0] = a, sum[1] = b, sum[2] = c, sum[3] = d;
    }
    for (; rows > 0; rows--, w += stride, sum++)
        for (int64_t k = 0; k < count; k++)
            *sum += (double)x[k] * w[k * step];
}

/* sum[0..count), from 0 on: the products of an input row with rows n and following. */
static void products(const ref_ops *o, const ref_weight *p, const float *x, const ref_numbers *numbers, int64_t n,
                     int64_t count, double *sum)
{
    const int64_t cols = p->head.cols;
    memset(sum, 0, (size_t)count * sizeof *sum);
    if (!p->numbers.number)
        ref_dots(x, p->w + n * cols, cols, 1, count, cols, sum);
    for (int64_t i = 0; p->numbers.number && i < count; i++)
        sum[i] = ref_int8_dot(o, p, n + i, numbers);
}

flux1_status ref_product(ops *base, act in, const weight *w, const epilogue *e, act out)
{
    const ref_weight *p = ref_w(w);
    arena *memory = &((ref_ops *)base)->memory;
    size_t mark = arena_mark(memory);
    float *coarse = NULL;
    TRY(ops_begin(base, "linear", w));
    if (p->coarse)
        TRY(quantise((ref_ops *)base, in, &coarse));
    const size_t row_mark = arena_mark(memory);
    for (int64_t b = 0; b < act_batch(in); b++)
        for (int64_t r = 0; r < act_rows(in); r++) {
            const float *x = coarse ? coarse + (b * act_rows(in) + r) * in.cols : ref_row(in, b, r);
            const float *gate = ref_table(base, e->gate, act_batch(out), b),
                        *addend = act_present(e->addend) ? ref_row(e->addend, b, r) : NULL,
                        *mul = act_present(e->mul) ? ref_row(e->mul, b, r) : NULL,
                        *residual = act_present(e->residual) ? ref_row(e->residual, b, r) : NULL;
            float *y = ref_row(out, b, r);
            ref_numbers numbers;
            if (p->numbers.number)
                TRY(ref_int8_row((ref_ops *)base, x, w->cols, &numbers));
            double product[4];
            for (int64_t n = 0; n < w->rows; n++) {
                if (n % 4 == 0)
                    products((const ref_ops *)base, p, x, &numbers, n, i64_min(4, w->rows - n), product);
                const double sum = (p->bias ? p->bias[n] : 0) + product[n % 4];
                float v = ref_activation(e->f, (float)(sum + (addend ? addend[n] : 0)));
                v *= mul ? mul[n] : 1;
                v *= gate ? gate[n] : 1;
                y[n] = v + (residual ? residual[n] : 0);
            }
            arena_release(memory, row_mark);
        }
    arena_release(memory, mark);
    return FLUX1_OK;
}

flux1_status ref_layer_norm(ops *base, act in, const weight *w, act shift, act scale, float eps, act out)
{
    TRY(ops_begin(base, "layer_norm", w));
    int64_t n = in.cols;
    for (int64_t b = 0; b < act_batch(in); b++)
        for (int64_t r = 0; r < act_rows(in); r++) {
            const float *add = ref_table(base, shift, act_batch(out), b),
                        *times = ref_table(base, scale, act_batch(out), b);
            const float *x = ref_row(in, b, r);
            float *y = ref_row(out, b, r);
            double mean = 0, variance = 0;
            for (int64_t i = 0; i < n; i++)
                mean += x[i];
            mean /= (double)n;
            for (int64_t i = 0; i < n; i++)
                variance += (x[i] - mean) * (x[i] - mean);
            double inverse = 1 / sqrt(variance / (double)n + eps);
            for (int64_t i = 0; i < n; i++) {
                double v = (x[i] - mean) * inverse;
                if (w)
                    v = v * ref_w(w)->w[i] + (ref_w(w)->bias ? ref_w(w)->bias[i] : 0);
                y[i] = (float)(v * (times ? 1.0 + times[i] : 1) + (add ? add[i] : 0));
            }
        }
    return FLUX1_OK;
}

flux1_status ref_rms_norm(ops *base, act in, const weight *w, float eps, act out)
{
    TRY(ops_begin(base, "rms_norm", w));
    for (int64_t b = 0; b < act_batch(in); b++)
        for (int64_t r = 0; r < act_rows(in); r++) {
            const float *x = ref_row(in, b, r);
            float *y = ref_row(out, b, r);
            double squares = 0;
            for (int64_t i = 0; i < in.cols; i++)
                squares += (double)x[i] * x[i];
            double inverse = 1 / sqrt(squares / (double)in.cols + eps);
            for (int64_t i = 0; i < in.cols; i++)
                y[i] = (float)(x[i] * inverse * ref_w(w)->w[i]);
        }
    return FLUX1_OK;
}

static void head_norm(float *x, int64_t n, const float *w, float eps)
{
    double squares = 0;
    for (int64_t i = 0; i < n; i++)
        squares += (double)x[i] * x[i];
    double inverse = 1 / sqrt(squares / (double)n + eps);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(x[i] * inverse * w[i]);
}

static void rotate(float *x, int64_t n, const float *table)
{
    for (int64_t i = 0; i < n; i += 2) {
        float a = x[i], b = x[i + 1], cosine = table[i], sine = table[i + 1];
        x[i] = a * cosine - b * sine;
        x[i + 1] = b * cosine + a * sine;
    }
}

flux1_status ref_head_norm_rope(ops *base, act x, int64_t heads, const weight *w, float eps, act rope)
{
    TRY(ops_begin(base, "head_norm_rope", w));
    if (heads == 0)
        return FLUX1_OK;
    int64_t dim = x.cols / heads;
    for (int64_t b = 0; b < act_batch(x); b++)
        for (int64_t r = 0; r < act_rows(x); r++)
            for (int64_t h = 0; h < heads; h++) {
                float *v = ref_row(x, b, r) + h * dim;
                if (w)
                    head_norm(v, dim, ref_w(w)->w, eps);
                if (act_present(rope))
                    rotate(v, dim, ref_row(rope, 0, r));
            }
    return FLUX1_OK;
}

flux1_status ref_embed(ops *base, act ids, const weight *table, const weight *positions, int64_t first, act out)
{
    TRY(ops_begin(base, "embed", table));
    for (int64_t b = 0; b < act_batch(out); b++)
        for (int64_t r = 0; r < act_rows(out); r++) {
            int32_t id;
            memcpy(&id, ref_row(ids, b, r), sizeof id);
            if (id < 0 || id >= table->rows)
                return error_set(base->err, FLUX1_ERR_ARGUMENT,
                                 "token id %d is outside the embedding table of %lld entries: tokenizer and text "
                                 "encoder do not belong together",
                                 id, (long long)table->rows);
            float *y = ref_row(out, b, r);
            memcpy(y, ref_w(table)->w + id * table->cols, (size_t)out.cols * sizeof *y);
            for (int64_t i = 0; positions && i < out.cols; i++)
                y[i] += ref_w(positions)->w[(first + r) * positions->cols + i];
        }
    return FLUX1_OK;
}

flux1_status ref_activate(ops *base, activation f, act in, act mul, act out)
{
    TRY(ops_begin(base, "activate", NULL));
    for (int64_t b = 0; b < act_batch(in); b++)
        for (int64_t r = 0; r < act_rows(in); r++)
            for (int64_t i = 0; i < in.cols; i++)
                ref_row(out, b, r)[i] =
                    ref_activation(f, ref_row(in, b, r)[i]) * (act_present(mul) ? ref_row(mul, b, r)[i] : 1);
    return FLUX1_OK;
}

flux1_status ref_add(ops *base, act x, float s, act gate, act y, act out)
{
    TRY(ops_begin(base, "add", NULL));
    for (int64_t b = 0; b < act_batch(x); b++)
        for (int64_t r = 0; r < act_rows(x); r++) {
            const float *times = ref_table(base, gate, act_batch(out), b);
            const float *p = ref_row(x, b, r), *q = ref_row(y, b, act_rows(y) == 1 ? 0 : r);
            float *z = ref_row(out, b, r);
            for (int64_t i = 0; i < x.cols; i++)
                z[i] = p[i] + s * (times ? times[i] : 1) * q[i];
        }
    return FLUX1_OK;
}

flux1_status ref_euler(ops *base, act x, act v, act dsigma)
{
    TRY(ops_begin(base, "euler", NULL));
    for (int64_t b = 0; b < act_batch(x); b++)
        for (int64_t r = 0; r < act_rows(x); r++)
            for (int64_t i = 0; i < x.cols; i++)
                ref_row(x, b, r)[i] += *ref_table(base, dsigma, act_batch(x), b) * ref_row(v, b, r)[i];
    return FLUX1_OK;
}

flux1_status ref_copy_rows(ops *base, act in, int64_t first, act out)
{
    TRY(ops_begin(base, "copy_rows", NULL));
    for (int64_t b = 0; b < act_batch(out); b++)
        for (int64_t r = 0; r < act_rows(out); r++)
            memcpy(ref_row(out, b, r), ref_row(in, b, first + r), (size_t)out.cols * sizeof(float));
    return FLUX1_OK;
}

flux1_status ref_cast(ops *base, act in, act out) { return ref_copy_rows(base, in, 0, out); }

size_t ref_pack_bytes(ops *o, act a, int64_t rows)
{
    (void)o;
    return (size_t)(act_batch(a) * rows * a.cols) * sizeof(float);
}

flux1_status ref_pack(ops *o, act in, int64_t first, int64_t rows, void *bytes)
{
    TRY(ops_begin(o, "pack", NULL));
    float *to = bytes;
    for (int64_t b = 0; b < act_batch(in); b++)
        for (int64_t r = 0; r < rows; r++, to += in.cols)
            memcpy(to, ref_row(in, b, first + r), (size_t)in.cols * sizeof *to);
    return FLUX1_OK;
}

flux1_status ref_unpack(ops *o, const void *bytes, act out, int64_t first, int64_t rows)
{
    TRY(ops_begin(o, "unpack", NULL));
    const float *from = bytes;
    for (int64_t b = 0; b < act_batch(out); b++)
        for (int64_t r = 0; r < rows; r++, from += out.cols)
            memcpy(ref_row(out, b, first + r), from, (size_t)out.cols * sizeof *from);
    return FLUX1_OK;
}

flux1_status ref_finite(ops *base, act a, int slot)
{
    ref_ops *o = (ref_ops *)base;
    TRY(ops_begin(base, "finite", NULL));
    for (int64_t b = 0; b < act_batch(a); b++)
        for (int64_t r = 0; r < act_rows(a); r++)
            for (int64_t i = 0; i < a.cols; i++)
                if (!isfinite(ref_row(a, b, r)[i]))
                    o->bad[slot] = 1;
    return FLUX1_OK;
}

flux1_status ref_finite_first(ops *base, int *slot)
{
    ref_ops *o = (ref_ops *)base;
    const unsigned char *bad = memchr(o->bad, 1, OPS_SLOTS);
    *slot = bad ? (int)(bad - o->bad) : -1;
    memset(o->bad, 0, sizeof o->bad);
    return FLUX1_OK;
}

flux1_status ref_step_end(ops *o, int64_t step)
{
    return ref_finite_first(o, &((ref_ops *)o)->ended[step % OPS_STEPS_AHEAD]);
}

flux1_status ref_step_wait(ops *o, int64_t step, int *slot)
{
    *slot = ((ref_ops *)o)->ended[step % OPS_STEPS_AHEAD];
    return FLUX1_OK;
}
