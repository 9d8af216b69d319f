/* Norms, element-wise operations, lookups: arguments checked, rows cut into tasks (kernels_rows.h). */
#include "ops/cpu/cpu.h"

#include <string.h>

static rows_job job_of(act in, act out)
{
    return (rows_job){.in = cpu_view(in), .out = cpu_view(out), .rows = act_batch(in) * act_rows(in), .cols = in.cols};
}

flux1_status cpu_layer_norm(ops *base, act in, const weight *w, act shift, act scale, float eps, act out)
{
    cpu_ops *o = cpu_self(base);
    TRY(ops_begin(base, "layer_norm", w));
    rows_job j = job_of(in, out);
    j.w = w ? cpu_w(w)->vector : NULL;
    j.b = w ? cpu_w(w)->bias : NULL;
    j.shift = cpu_table(o, shift, act_batch(out));
    j.scale = cpu_table(o, scale, act_batch(out));
    j.eps = eps;
    cpu_rows(o, o->kernels->layer_norm, &j);
    return FLUX1_OK;
}

flux1_status cpu_rms_norm(ops *base, act in, const weight *w, float eps, act out)
{
    cpu_ops *o = cpu_self(base);
    TRY(ops_begin(base, "rms_norm", w));
    rows_job j = job_of(in, out);
    j.w = cpu_w(w)->vector;
    j.eps = eps;
    cpu_rows(o, o->kernels->rms_norm, &j);
    return FLUX1_OK;
}

flux1_status cpu_head_norm_rope(ops *base, act x, int64_t heads, const weight *w, float eps, act rope)
{
    cpu_ops *o = cpu_self(base);
    TRY(ops_begin(base, "head_norm_rope", w));
    if (heads == 0 || (!w && !act_present(rope)))
        return FLUX1_OK;
    int64_t dim = x.cols / heads;
    rows_job j = job_of(x, x);
    j.rope = cpu_view(rope);
    j.w = w ? cpu_w(w)->vector : NULL;
    j.eps = eps;
    j.heads = heads;
    j.dim = dim;
    cpu_rows(o, o->kernels->head_norm_rope, &j);
    return FLUX1_OK;
}

flux1_status cpu_embed(ops *base, act ids, const weight *table, const weight *positions, int64_t first, act out)
{
    cpu_ops *o = cpu_self(base);
    TRY(ops_begin(base, "embed", table));
    TRY(ops_begin(base, "embed", positions));
    rows_job j = job_of(ids, out);
    for (int64_t m = 0; m < j.rows; m++) {
        int32_t id;
        memcpy(&id, view_row(&j.in, m), sizeof id);
        if (id < 0 || id >= table->rows)
            return error_set(base->err, FLUX1_ERR_ARGUMENT,
                             "token id %d is outside the embedding table of %lld entries: tokenizer and text encoder "
                             "do not belong together",
                             (int)id, (long long)table->rows);
    }
    j.cols = out.cols;
    j.table = &cpu_w(table)->m;
    j.positions = positions ? &cpu_w(positions)->m : NULL;
    j.first = first;
    cpu_rows(o, o->kernels->embed, &j);
    return FLUX1_OK;
}

flux1_status cpu_activate(ops *base, activation f, act in, act mul, act out)
{
    cpu_ops *o = cpu_self(base);
    TRY(ops_begin(base, "activate", NULL));
    rows_job j = job_of(in, out);
    j.f = f;
    j.y = cpu_view(mul);
    cpu_rows(o, o->kernels->activate, &j);
    return FLUX1_OK;
}

static flux1_status add(ops *base, act x, float s, table_rows scale, table_rows factor, act y, act out)
{
    cpu_ops *o = cpu_self(base);
    rows_job j = job_of(x, out);
    j.y = cpu_view(y);
    j.s = s;
    j.scale = scale;
    j.factor = factor;
    cpu_rows(o, o->kernels->add, &j);
    return FLUX1_OK;
}

flux1_status cpu_add(ops *base, act x, float s, act gate, act y, act out)
{
    TRY(ops_begin(base, "add", NULL));
    return add(base, x, s, cpu_table(cpu_self(base), gate, act_batch(out)), (table_rows){0}, y, out);
}

flux1_status cpu_euler(ops *base, act x, act v, act dsigma)
{
    TRY(ops_begin(base, "euler", NULL));
    return add(base, x, 1, (table_rows){0}, cpu_table(cpu_self(base), dsigma, act_batch(x)), v, x);
}

flux1_status cpu_finite(ops *base, act a, int slot)
{
    cpu_ops *o = cpu_self(base);
    TRY(ops_begin(base, "finite", NULL));
    rows_job j = job_of(a, a);
    j.flag = &o->bad[slot];
    cpu_rows(o, o->kernels->finite, &j);
    return FLUX1_OK;
}
