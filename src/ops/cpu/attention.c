/* Attention: arguments checked, one task a head and block of queries (kernels_attention.h, int8_attention.h); the merge
 * of partial results. */
#include "ops/cpu/int8.h"

#include "base/checked.h"

/* int8_attention.h asserts that it is enough. Words have two numbers there, or four. */
static size_t int8_scratch(int64_t dim)
{
    const size_t words = (size_t)int8_length(INT8_ROTATED, dim) / 2, ldv = (size_t)attention_ldv(dim);
    return INT8_QUERIES * (words + (size_t)dim + 4) + INT8_KEYS * (words + 17 + ATTENTION_PANEL) + INT8_KEYS / 2 * ldv +
           2 * (ldv + ATTENTION_PANEL);
}

size_t cpu_attention_scratch(int64_t dim, bool int8)
{
    if (int8)
        return size_round_up(int8_scratch(dim) * sizeof(int32_t), ARENA_ALIGN);
    size_t chunks = (size_t)i64_ceil_div(dim, GEMM_STEPS), ldv = (size_t)attention_ldv(dim);
    size_t floats = 2 * ATTENTION_QUERIES * ((size_t)dim + 1) + ATTENTION_PANEL +
                    ATTENTION_KEYS * (chunks * GEMM_LDA + ldv + ATTENTION_PANEL);
    return size_round_up(floats * sizeof(float), ARENA_ALIGN);
}

/* As few blocks as fit the scratch (each reads all keys again), but so many that all threads end at about the same
 * time. */
static int64_t blocks_of_queries(const attention_job *t, int64_t most_queries, int64_t threads)
{
    enum { FEWEST_QUERIES = 64 };
    int64_t fewest = i64_ceil_div(t->queries, most_queries), most = t->queries / FEWEST_QUERIES, best = fewest;
    double filled = 0;
    for (int64_t blocks = fewest; filled < 0.9 && (blocks <= most || blocks == fewest); blocks++) {
        int64_t tasks = t->batch * t->heads * blocks;
        double here = (double)tasks / (double)(threads * i64_ceil_div(i64_max(1, tasks), threads));
        if (here > filled + 0.02)
            best = blocks, filled = here;
    }
    return best;
}

static flux1_status attend(ops *base, act q, act k, act v, const attention_args *a, act out, act lse)
{
    cpu_ops *o = cpu_self(base);
    TRY(ops_begin(base, "attention", NULL));
    if (a->heads == 0)
        return FLUX1_OK;
    const int64_t dim = q.cols / a->heads;
    const bool int8 = a->int8 && int8_attends(base->attends, dim);
    attention_job t = {.q = cpu_view(q),
                       .k = cpu_view(k),
                       .v = cpu_view(v),
                       .out = cpu_view(out),
                       .lse = cpu_view(lse),
                       .bias = cpu_view(a->bias),
                       .batch = act_batch(q),
                       .heads = a->heads,
                       .dim = dim,
                       .queries = act_rows(q),
                       .keys = act_rows(k),
                       .scale = a->scale,
                       .causal = a->causal,
                       .scratch_stride = cpu_attention_scratch(dim, int8),
                       .cancel = base->cancel};
    t.blocks = blocks_of_queries(&t, int8 ? INT8_QUERIES : ATTENTION_QUERIES, o->threads);
    t.block = i64_ceil_div(i64_ceil_div(t.queries, i64_max(1, t.blocks)), ATTENTION_PANEL) * ATTENTION_PANEL;
    size_t mark = arena_mark(&o->memory);
    void *scratch;
    TRY(arena_alloc(&o->memory, (size_t)o->threads * t.scratch_stride, &scratch, base->err));
    t.scratch = scratch;
    pool_run(o->workers, t.batch * t.heads * t.blocks, int8 ? o->int8->attention : o->kernels->attention, &t);
    arena_release(&o->memory, mark);
    return ops_cancelled(base);
}

flux1_status cpu_attention(ops *o, act q, act k, act v, const attention_args *a, act out)
{
    return attend(o, q, k, v, a, out, (act){0});
}

flux1_status cpu_attention_part(ops *o, act q, act k, act v, const attention_args *a, act out, act lse)
{
    return attend(o, q, k, v, a, out, lse);
}

flux1_status cpu_attention_merge(ops *base, int64_t heads, act out, act lse, act other, act other_lse)
{
    cpu_ops *o = cpu_self(base);
    TRY(ops_begin(base, "attention_merge", NULL));
    if (heads == 0)
        return FLUX1_OK;
    rows_job j = {.in = cpu_view(lse),
                  .out = cpu_view(out),
                  .y = cpu_view(other),
                  .rope = cpu_view(other_lse),
                  .rows = act_batch(out) * act_rows(out),
                  .cols = out.cols,
                  .heads = heads,
                  .dim = out.cols / heads};
    cpu_rows(o, o->kernels->attention_merge, &j);
    return FLUX1_OK;
}
