/* The CPU backend: its table, its creation and end. */
#include "ops/cpu/cpu.h"

#include <stdlib.h>

static const ops_table cpu_table_of_functions = {.name = "cpu",
#define ROW(ret, name, args, call) .name = cpu_##name,
                                                 OPS_PRIMITIVES(ROW)
#undef ROW
#define cpu_linear composite_linear
#define cpu_linear_norm composite_linear_norm
#define cpu_qkv_norm_rope composite_qkv_norm_rope
#define cpu_mlp composite_mlp
#define cpu_single_products composite_single_products
#define cpu_group_norm composite_group_norm
#define ROW(ret, name, args, call) .name = cpu_##name,
                                                     OPS_COMPOSITES(ROW)
#undef ROW
};

flux1_status ops_cpu_create(const ops_config *c, ops **out)
{
    flux1_status st = FLUX1_OK;
    const cpu_instruction_set *set = NULL;
    TRY(cpu_instruction_set_choose(&set, c->err));
    cpu_ops *o = calloc(1, sizeof *o);
    if (!o)
        return error_oom(c->err, sizeof *o, "the CPU backend");
    o->head = (ops){.fn = &cpu_table_of_functions, .err = c->err, .cancel = c->cancel};
    o->calls.memory = &o->memory;
    o->head.calls = c->eager ? NULL : &o->calls;
    o->bf16 = c->arithmetic == DTYPE_BF16;
    o->threads = c->threads > 1 ? c->threads : 1;
    o->kernels = o->bf16 ? set->bf16 : set->f32;
    o->int8 = c->int8 ? set->int8 : NULL;
    o->int8_as = c->int8;
    o->head.attends = ops_cpu_sizing.attends(c);
    o->forms_in_files = c->forms_in_files;
    o->budget = SIZE_MAX;
    o->last_block = &o->blocks;
    if (c->device)
        o->kept = ((cpu_device *)c->device)->kept;
    else
        TRY_CLEANUP(kept_create(&cpu_kept_memory, NULL, &o->own_kept, c->err));
    if (!c->device)
        o->kept = o->own_kept;
    size_t bytes = cpu_scratch_bytes(o->threads);
    o->scratch = aligned_alloc(ARENA_ALIGN, bytes);
    o->partials = malloc(STATS_PARTIALS * sizeof *o->partials);
    if (!o->scratch || !o->partials) {
        st = error_oom(c->err, bytes, "the CPU backend's scratch memory");
        goto cleanup;
    }
    TRY_CLEANUP(stream_create(&o->stream, c->cancel, c->err));
    TRY_CLEANUP(pool_create(o->threads, &o->workers, c->err));
    *out = &o->head;
    return FLUX1_OK;
cleanup:
    cpu_destroy(&o->head);
    return st;
}

void cpu_destroy(ops *base)
{
    if (!base)
        return;
    cpu_ops *o = cpu_self(base);
    stream_destroy(&o->stream);
    o->listed = false;
    cpu_blocks_free(o);
    kept_destroy(o->own_kept);
    pool_destroy(o->workers);
    arena_destroy(&o->memory);
    free(o->scratch);
    free(o->partials);
    free(o);
}
