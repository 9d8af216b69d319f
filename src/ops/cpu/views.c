/* What every entry needs: views of activations and tables, and tasks of rows. */
#include "ops/cpu/cpu.h"

#include "base/checked.h"

view cpu_view(act a)
{
    if (!act_present(a))
        return (view){0};
    const cpu_buffer *f = (const cpu_buffer *)a.buffer;
    const act_shape *s = &f->head.shape;
    size_t element = f->bf16 ? 2 : 4;
    int64_t all = s->rows[0] + s->rows[1], rows = act_rows(a);
    view v = {.ld = s->cols, .batch_stride = all * s->cols, .rows = rows, .cols = a.cols, .bf16 = f->bf16};
    /* an empty buffer has no memory, but an operand that is there must not look left out */
    static unsigned char nothing[4];
    v.data = f->data ? f->data + (size_t)(act_first_row(a) * s->cols + a.col) * element : nothing;
    return v;
}

table_rows cpu_table(const cpu_ops *o, act t, int64_t batch)
{
    if (!act_present(t))
        return (table_rows){0};
    view v = cpu_view(t);
    return (table_rows){(const float *)(const void *)v.data + o->head.step * batch * v.ld, v.ld};
}

void cpu_rows(cpu_ops *o, pool_fn *fn, rows_job *job)
{
    enum { ELEMENTS = 16384 };
    if (job->rows <= 0 || job->cols <= 0)
        return;
    job->chunk = i64_max(1, ELEMENTS / job->cols);
    int64_t count = i64_ceil_div(job->rows, job->chunk);
    if (count == 1)
        fn(job, 0, 0);
    else
        pool_run(o->workers, count, fn, job);
}
