/* The reference backend: image planes. */
#include "ops/ref/ref.h"

#include <math.h>
#include <string.h>

/* The pixel (y, x) of the plane, or of the neighbour's row above or below, or NULL where zeros are. */
static const float *pixel(act in, act top, act bottom, int64_t b, int64_t y, int64_t x)
{
    int64_t height = in.buffer->shape.height, width = in.buffer->shape.width;
    if (x < 0 || x >= width)
        return NULL;
    if (y < 0)
        return act_present(top) ? ref_row(top, b, x) : NULL;
    if (y >= height)
        return act_present(bottom) ? ref_row(bottom, b, x) : NULL;
    return ref_row(in, b, y * width + x);
}

/* A pixel of the output: sum[0..count) by the filters n and following. */
static void conv_at(act in, act top, act bottom, const weight *w, int stride, int64_t b, int64_t y, int64_t x,
                    int64_t n, int64_t count, double *sum)
{
    const int64_t kernel = w->kernel, before = kernel == 3 && stride == 1 ? 1 : 0;
    const float *filter = ref_w(w)->w + n * w->cols;
    for (int64_t f = 0; f < count; f++)
        sum[f] = ref_w(w)->bias ? ref_w(w)->bias[n + f] : 0;
    for (int64_t i = 0; i < kernel; i++)
        for (int64_t j = 0; j < kernel; j++) {
            const float *p = pixel(in, top, bottom, b, y * stride + i - before, x * stride + j - before);
            if (p)
                ref_dots(p, filter + i * kernel + j, w->cols, kernel * kernel, count, in.cols, sum);
        }
}

flux1_status ref_conv(ops *o, act in, act top, act bottom, const weight *w, int stride, act residual, act out)
{
    TRY(ops_begin(o, "conv", w));
    enum { TOGETHER = 16 };
    const act_shape *s = &in.buffer->shape, *t = &out.buffer->shape;
    double sum[TOGETHER];
    for (int64_t b = 0; b < s->batch; b++)
        for (int64_t y = 0; y < t->height; y++)
            for (int64_t x = 0; x < t->width; x++)
                for (int64_t n = 0; n < out.cols; n++) {
                    if (n % TOGETHER == 0)
                        conv_at(in, top, bottom, w, stride, b, y, x, n, i64_min(TOGETHER, out.cols - n), sum);
                    float add = act_present(residual) ? ref_row(residual, b, y * t->width + x)[n] : 0;
                    ref_row(out, b, y * t->width + x)[n] = (float)sum[n % TOGETHER] + add;
                }
    return FLUX1_OK;
}

flux1_status ref_group_stats(ops *o, act in, int64_t groups, act stats)
{
    TRY(ops_begin(o, "group_stats", NULL));
    int64_t width = in.cols / groups, rows = act_rows(in);
    for (int64_t b = 0; b < act_batch(in); b++)
        for (int64_t g = 0; g < groups; g++) {
            double mean = 0, m2 = 0, count = (double)(rows * width);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t i = 0; i < width; i++)
                    mean += ref_row(in, b, r)[g * width + i];
            mean = count > 0 ? mean / count : 0;
            for (int64_t r = 0; r < rows; r++)
                for (int64_t i = 0; i < width; i++)
                    m2 += pow(ref_row(in, b, r)[g * width + i] - mean, 2);
            memcpy(ref_row(stats, b, g), (float[]){(float)count, (float)mean, (float)m2}, 3 * sizeof(float));
        }
    return FLUX1_OK;
}

/* Chan, Golub, LeVeque 1979: mean and M2 of the union of sets, from each set's own. */
static void merge_stats(act stats, int64_t groups, int64_t b, int64_t g, double *mean, double *variance)
{
    double count = 0, m = 0, m2 = 0;
    for (int64_t set = 0; set < act_rows(stats) / groups; set++) {
        const float *s = ref_row(stats, b, set * groups + g);
        if (s[0] == 0)
            continue;
        double total = count + s[0], delta = s[1] - m;
        m2 += s[2] + delta * delta * count * s[0] / total;
        m += delta * s[0] / total;
        count = total;
    }
    *mean = m;
    *variance = count > 0 ? m2 / count : 0;
}

flux1_status ref_group_apply(ops *o, act in, act stats, int64_t groups, const weight *w, float eps, bool silu, act out)
{
    TRY(ops_begin(o, "group_apply", w));
    int64_t width = in.cols / groups;
    for (int64_t b = 0; b < act_batch(in); b++)
        for (int64_t g = 0; g < groups; g++) {
            double mean, variance;
            merge_stats(stats, groups, b, g, &mean, &variance);
            double inverse = 1 / sqrt(variance + eps);
            for (int64_t r = 0; r < act_rows(in); r++)
                for (int64_t i = g * width; i < (g + 1) * width; i++) {
                    float v = (float)((ref_row(in, b, r)[i] - mean) * inverse * ref_w(w)->w[i] +
                                      (ref_w(w)->bias ? ref_w(w)->bias[i] : 0));
                    ref_row(out, b, r)[i] = silu ? ref_activation(ACTIVATION_SILU, v) : v;
                }
        }
    return FLUX1_OK;
}

flux1_status ref_upsample(ops *o, act in, act out)
{
    TRY(ops_begin(o, "upsample", NULL));
    const act_shape *s = &in.buffer->shape, *t = &out.buffer->shape;
    for (int64_t b = 0; b < s->batch; b++)
        for (int64_t y = 0; y < t->height; y++)
            for (int64_t x = 0; x < t->width; x++)
                memcpy(ref_row(out, b, y * t->width + x), ref_row(in, b, y / 2 * s->width + x / 2),
                       (size_t)in.cols * sizeof(float));
    return FLUX1_OK;
}
