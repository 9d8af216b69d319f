/* Weights of types that the kernels do not read: they stay packed, and a panel's values are decoded on the way into it,
 * each once a task. */
#include "ops/cpu/cpu.h"

#include "tensor/scale.h"

#include <string.h>

/* `count` elements of one unit, from its element `from` on. */
static void decode_part(const cpu_decoder *d, const unsigned char *data, int64_t unit, int64_t from, int64_t count,
                        float *out)
{
    float values[CPU_DECODE_UNIT_MAX];
    d->run(data, unit, 1, values);
    memcpy(out, values + from, (size_t)count * sizeof *out);
}

/* Elements [first, first + count), which may begin and end within a unit. */
static void decode_stored(const cpu_decoder *d, const unsigned char *data, int64_t first, int64_t count, float *out)
{
    const int64_t unit = d->unit, from = first % unit;
    if (from > 0) {
        const int64_t n = i64_min(unit - from, count);
        decode_part(d, data, first / unit, from, n, out);
        first += n, count -= n, out += n;
    }
    d->run(data, first / unit, count / unit, out);
    if (count % unit)
        decode_part(d, data, (first + count) / unit, 0, count % unit, out + count / unit * unit);
}

static void scale(const cpu_decoders *decoders, const tensor_scale *s, int64_t first, int64_t count, float *values)
{
    while (count > 0) {
        int64_t run;
        const float factor = tensor_scale_factor(s, first, &run);
        const int64_t n = i64_min(count, run);
        if (s->kind == SCALE_CODES)
            decoders->look_up(s->code, factor, s->rounded, n, values);
        else
            decoders->multiply(factor, s->kind == SCALE_ROWS ? s->constant : 1, n, values);
        first += n, count -= n, values += n;
    }
}

flux1_status cpu_decode_tensor(const void *arg, const tensor *t, int64_t first, int64_t count, float *out,
                               flux1_error *err)
{
    const cpu_decoders *decoders = arg;
    const cpu_decoder *d = decoders ? &decoders->of[t->type] : NULL;
    if (!d || !d->unit)
        return tensor_decode(t, first, count, out, err);
    decode_stored(d, t->data, first, count, out);
    if (t->scale)
        scale(decoders, t->scale, first, count, out);
    return FLUX1_OK;
}

matrix_piece cpu_decode_piece(const cpu_decoders *decoders, const matrix_piece *p, int64_t row, int64_t rows,
                              int64_t col, int64_t cols, float *out)
{
    for (int64_t r = 0; r < rows; r++) /* cannot fail: what does not decode is never mapped */
        (void)cpu_decode_tensor(decoders, p->packed, p->first + (row + r - p->row) * p->ld + col - p->col, cols,
                                out + r * cols, NULL);
    return (matrix_piece){.data = (const unsigned char *)out,
                          .type = DTYPE_F32,
                          .ld = cols,
                          .row = row,
                          .col = col,
                          .rows = rows,
                          .cols = cols};
}
