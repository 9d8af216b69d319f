/* The CUDA backend: its table, its life. */
#include "ops/cuda/cuda.h"
#include "ops/cuda/linear_plans.h"

#include <stdlib.h>

static const ops_table cuda_table_of_functions = {.name = "cuda",
#define ROW(ret, name, args, call) .name = cuda_##name,
                                                  OPS_PRIMITIVES(ROW)
/* those without a launch of their own */
#define cuda_linear composite_linear
#define cuda_mlp composite_mlp
#define cuda_group_norm composite_group_norm
#define cuda_upsample_conv composite_upsample_conv
#define cuda_norm_conv composite_norm_conv
                                                      OPS_COMPOSITES(ROW)
#undef ROW
};

static size_t act_bytes(const ops_config *c, act_role role, const act_shape *s)
{
    return cuda_act_bytes(c->arithmetic == DTYPE_BF16, c->fp8 != FP8_NO, role, s);
}

static size_t scratch_bytes(const ops_config *c, ops_work work, int64_t m, int64_t n, int64_t k, int64_t heads)
{
    switch (work) {
    case WORK_LINEAR: return cuda_linear_scratch(c, m, n, k);
    case WORK_INT8:
    case WORK_INT8_ATTENTION: return 0; /* no GPU says that it has it */
    case WORK_ATTENTION: return cuda_attention_scratch(c, m, n, heads, k);
    case WORK_CONV:
    case WORK_CONV_HALF: return cuda_conv_scratch(c, m, n, k);
    }
    return 0;
}

const ops_sizing ops_cuda_sizing = {.act_bytes = act_bytes,
                                    .scratch = scratch_bytes,
                                    .spare = CUDA_SPARE,
                                    .branches = true,
                                    .alone_rows = 2048,
                                    .together_rows = 10240,
                                    .together_most = 8,
                                    .unit = CUDA_ALIGN,
                                    .weight_bytes = cuda_weight_bytes};

/* ---- life ---- */

static flux1_status allocate_all(cuda_ops *o, flux1_error *err)
{
    TRY(cuda_device_allocate(o->device, CUDA_WORKSPACE, "the libraries' workspace", &o->workspace, err));
    TRY(cuda_device_allocate(o->device, CUDA_BOUNCE, "the copies' buffer", &o->bounce, err));
    TRY(cuda_device_allocate(o->device, CUDA_SLOTS * sizeof(int32_t), "the checks' flags", &o->flags, err));
    TRY(cuda_device_allocate(o->device, sizeof(int32_t), "the step counter", &o->step, err));
    TRY(cuda_check(
        &o->head,
        o->lib->cuMemHostAlloc((void **)&o->host_flags, (1 + OPS_STEPS_AHEAD) * CUDA_SLOTS * sizeof(int32_t), 0),
        "cannot take pinned memory"));
    for (int i = 0; i < OPS_STEPS_AHEAD; i++)
        TRY(cuda_check(&o->head, o->lib->cuEventCreate(&o->ended[i], CU_EVENT_DISABLE_TIMING | CU_EVENT_BLOCKING_SYNC),
                       "cannot make an event"));
    TRY(cuda_check(&o->head, o->lib->cuMemsetD8Async(o->flags, 0, CUDA_SLOTS * sizeof(int32_t), o->stream),
                   "cannot clear the flags"));
    return cuda_check(&o->head, o->lib->cuMemsetD32Async(o->step, 0, 1, o->stream), "cannot set the step");
}

flux1_status ops_cuda_create(const ops_config *c, ops **out)
{
    TRY(cuda_device_ready((cuda_device *)c->device, c->err));
    cuda_ops *o = calloc(1, sizeof *o);
    if (!o)
        return error_oom(c->err, sizeof *o, "the CUDA backend");
    o->head = (ops){.fn = &cuda_table_of_functions, .err = c->err, .cancel = c->cancel};
    o->device = (cuda_device *)c->device;
    o->lib = o->device->lib;
    o->bf16 = c->arithmetic == DTYPE_BF16;
    o->fp8 = c->fp8 != FP8_NO;
    o->scales_rows = c->fp8 == FP8_ROWS && o->device->scales_rows;
    o->eager = c->eager;
    o->branches.wanted = c->branches;
    o->held = c->held;
    o->decoded_most = CUDA_DECODED;
    flux1_status st = cuda_device_current(o->device, c->err);
    if (st == FLUX1_OK)
        st = cuda_check(&o->head, o->lib->cuStreamCreate(&o->stream, CU_STREAM_NON_BLOCKING), "cannot make a stream");
    if (st == FLUX1_OK)
        st = allocate_all(o, c->err);
    if (st == FLUX1_OK)
        st = cuda_upload_create(o, c->threads);
    if (st == FLUX1_OK)
        st = cuda_blocks_create(o);
    if (st == FLUX1_OK)
        st = cuda_steps_create(o);
    if (st != FLUX1_OK) {
        cuda_destroy(&o->head);
        return st;
    }
    *out = &o->head;
    return FLUX1_OK;
}

void cuda_destroy(ops *base)
{
    if (!base)
        return;
    cuda_ops *o = cuda_self(base);
    o->lib->cuCtxSetCurrent(o->device->context); /* also of a device that failed: what can be given back is */
    cuda_steps_free(o);
    if (o->stream)
        o->lib->cuStreamSynchronize(o->stream);
    cuda_branches_free(o);
    cuda_upload_free(o);
    cuda_blocks_free(o);
    cuda_plans_save(o->device);
    cuda_arena_free(o);
    cuda_device_release(o->device, o->workspace);
    cuda_device_release(o->device, o->bounce);
    cuda_device_release(o->device, o->decoded);
    cuda_device_release(o->device, o->flags);
    cuda_device_release(o->device, o->step);
    if (o->host_flags)
        o->lib->cuMemFreeHost(o->host_flags);
    for (int i = 0; i < OPS_STEPS_AHEAD; i++)
        if (o->ended[i])
            o->lib->cuEventDestroy(o->ended[i]);
    if (o->stream)
        o->lib->cuStreamDestroy(o->stream);
    free(o);
}
