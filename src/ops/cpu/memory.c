/* The arena, and what is moved: to and from the host, between activations, and to what ranks exchange. */
#include "ops/cpu/int8.h"

#include "base/large.h"
#include "ops/layout.h"

static size_t cpu_act_bytes(const ops_config *c, act_role role, const act_shape *s)
{
    size_t data = layout_bytes(c->arithmetic == DTYPE_BF16, role, s, ARENA_ALIGN), all;
    return size_add(data, size_round_up(sizeof(cpu_buffer), ARENA_ALIGN), &all) ? all : SIZE_MAX;
}

static bool multiplies_pairs(const ops_config *c)
{
    const cpu_instruction_set *set;
    return c->arithmetic == DTYPE_BF16 && cpu_instruction_set_choose(&set, NULL) == FLUX1_OK && set->bf16->bf16;
}

static int8_kind cpu_attends(const ops_config *c)
{
    const cpu_instruction_set *set;
    return cpu_instruction_set_choose(&set, NULL) == FLUX1_OK && set->int8->attention ? c->int8 : INT8_NONE;
}

static size_t cpu_scratch(const ops_config *c, ops_work work, int64_t m, int64_t n, int64_t k, int64_t heads)
{
    if (work == WORK_LINEAR)
        return cpu_product_scratch(m, m / i64_max(1, heads), n, k, multiplies_pairs(c));
    if (work == WORK_INT8)
        return cpu_int8_scratch(c->int8, m, k);
    if ((work == WORK_CONV || work == WORK_CONV_HALF) && heads > 0)
        return cpu_conv_scratch(m, heads, work == WORK_CONV ? 1 : 2, k / 9, multiplies_pairs(c));
    if (work == WORK_CONV)
        return cpu_product_scratch(m, m, n, k, multiplies_pairs(c));
    return (work == WORK_ATTENTION || work == WORK_INT8_ATTENTION) && heads > 0
               ? (size_t)(c->threads > 1 ? c->threads : 1) * cpu_attention_scratch(k, work == WORK_INT8_ATTENTION)
               : 0;
}

static size_t cpu_own_bytes(const ops_config *c)
{
    return cpu_scratch_bytes(c->threads) + STATS_PARTIALS * sizeof(moments);
}

const ops_sizing ops_cpu_sizing = {.act_bytes = cpu_act_bytes,
                                   .scratch = cpu_scratch,
                                   .attends = cpu_attends,
                                   .folds_planes = true,
                                   .any_rows = true,
                                   .alone_rows = 320,
                                   .together_rows = 320,
                                   .call_list = true,
                                   .weight_bytes = cpu_weight_bytes,
                                   .own_bytes = cpu_own_bytes};

flux1_status cpu_reserve(ops *base, size_t bytes)
{
    cpu_ops *o = cpu_self(base);
    record_drop(base);
    arena_release(&o->memory, 0);
    o->memory.peak = 0; /* of the stage before */
    if (bytes == 0)
        large_rest(o->scratch, cpu_scratch_bytes(o->threads));
    if (bytes > 0 && bytes <= o->memory.size) {
        arena_shrink(&o->memory, bytes); /* the stage has not planned what a larger one has touched */
        return FLUX1_OK;
    }
    arena_destroy(&o->memory);
    return arena_create(bytes, &o->memory, base->err);
}

flux1_status cpu_create(ops *base, act_role role, act_shape shape, act *out)
{
    cpu_ops *o = cpu_self(base);
    void *head, *data;
    TRY(arena_alloc(&o->memory, sizeof(cpu_buffer), &head, base->err));
    /* no byte more: a guarded arena hides what lies behind */
    TRY(arena_alloc(&o->memory, layout_bytes(o->bf16, role, &shape, 1), &data, base->err));
    cpu_buffer *f = head;
    *f = (cpu_buffer){.head = {.shape = shape, .role = role}, .data = data, .bf16 = layout_bf16(o->bf16, role)};
    *out = act_whole(&f->head);
    return FLUX1_OK;
}

size_t cpu_mark(ops *o) { return arena_mark(&cpu_self(o)->memory); }
void cpu_release(ops *o, size_t mark) { arena_release(&cpu_self(o)->memory, mark); }
flux1_status cpu_exchange(ops *o, size_t bytes, void **out)
{
    return arena_alloc(&cpu_self(o)->memory, bytes, out, o->err);
}

static flux1_status host_view(ops *o, const tensor *host, act a, const char *operation, view *out)
{
    TRY(ops_host_fits(o, operation, host, a));
    *out = (view){
        .data = host->data, .ld = a.cols, .batch_stride = act_rows(a) * a.cols, .rows = act_rows(a), .cols = a.cols};
    return FLUX1_OK;
}

static void copy_views(cpu_ops *o, const view *in, int64_t first, const view *out, int64_t batch)
{
    rows_job j = {.in = *in, .out = *out, .first = first, .rows = batch * out->rows, .cols = out->cols};
    cpu_rows(o, o->kernels->copy, &j);
}

flux1_status cpu_upload(ops *o, const tensor *host, act out)
{
    view from, to = cpu_view(out);
    TRY(ops_begin(o, "upload", NULL));
    TRY(host_view(o, host, out, "upload", &from));
    copy_views(cpu_self(o), &from, 0, &to, act_batch(out));
    return FLUX1_OK;
}

flux1_status cpu_download(ops *o, act in, tensor *host)
{
    view from = cpu_view(in), to;
    TRY(ops_begin(o, "download", NULL));
    TRY(host_view(o, host, in, "download", &to));
    copy_views(cpu_self(o), &from, 0, &to, act_batch(in));
    return FLUX1_OK;
}

flux1_status cpu_copy_rows(ops *o, act in, int64_t first, act out)
{
    view from = cpu_view(in), to = cpu_view(out);
    TRY(ops_begin(o, "copy_rows", NULL));
    copy_views(cpu_self(o), &from, first, &to, act_batch(out));
    return FLUX1_OK;
}

flux1_status cpu_cast(ops *o, act in, act out) { return cpu_copy_rows(o, in, 0, out); }

size_t cpu_pack_bytes(ops *o, act a, int64_t rows)
{
    (void)o;
    return (size_t)(act_batch(a) * rows * a.cols) * (((const cpu_buffer *)a.buffer)->bf16 ? 2 : 4);
}

/* Rows of an act as they lie in exchange memory: dense, in the act's own type. */
static view packed(void *bytes, act a, int64_t rows)
{
    return (view){.data = bytes,
                  .ld = a.cols,
                  .batch_stride = rows * a.cols,
                  .rows = rows,
                  .cols = a.cols,
                  .bf16 = ((const cpu_buffer *)a.buffer)->bf16};
}

flux1_status cpu_pack(ops *o, act in, int64_t first, int64_t rows, void *bytes)
{
    TRY(ops_begin(o, "pack", NULL));
    view from = cpu_view(in), to = packed(bytes, in, rows);
    copy_views(cpu_self(o), &from, first, &to, act_batch(in));
    return FLUX1_OK;
}

flux1_status cpu_unpack(ops *o, const void *bytes, act out, int64_t first, int64_t rows)
{
    TRY(ops_begin(o, "unpack", NULL));
    view from = packed((void *)(uintptr_t)bytes, out, rows), to = cpu_view(out); /* only read */
    to.data += (size_t)(first * to.ld) * (to.bf16 ? 2 : 4);
    to.rows = rows;
    copy_views(cpu_self(o), &from, 0, &to, act_batch(out));
    return FLUX1_OK;
}
