/* What --device can name on this machine. */
#include "base/pool.h"
#include "flux1_tools.h"
#include "pipeline/context.h"

#include <jansson.h>

enum { GPUS_MOST = 64 };

static json_t *describe_cpu(void)
{
    return json_pack("{s:s,s:s,s:i,s:b}", "device", "cpu", "isa", ops_cpu_isa(), "cores", cpu_physical_cores(),
                     "multiplies bf16", ops_cpu_multiplies_bf16());
}

static json_t *describe_gpu(int ordinal, const ops_cuda_info *g)
{
    char name[32];
    snprintf(name, sizeof name, "cuda:%d", ordinal);
    return json_pack("{s:s,s:s,s:I,s:i,s:i,s:i,s:I,s:I,s:I}", "device", name, "name", g->name, "memory",
                     (json_int_t)g->memory, "capability", g->capability, "multiprocessors", g->multiprocessors,
                     "driver", g->driver, "cublasLt", (json_int_t)g->cublas, "cudnn", (json_int_t)g->cudnn, "nccl",
                     (json_int_t)g->nccl);
}

flux1_status flux1_devices_json(flux1_context *c, char **json)
{
    ops_cuda_info gpu[GPUS_MOST];
    int count = 0;
    flux1_error none = {0};
    context_begin(c);
    json_t *root = json_object(), *list = json_array();
    flux1_status st = ops_cuda_list(gpu, GPUS_MOST, &count, &none);
    bool bad = !root || !list || json_array_append_new(list, describe_cpu()) != 0;
    for (int i = 0; i < count && i < GPUS_MOST; i++)
        bad = bad || json_array_append_new(list, describe_gpu(i, &gpu[i])) != 0;
    if (st != FLUX1_OK)
        bad = bad || json_object_set_new(root, "no GPU", json_string(none.message)) != 0;
    bad = bad || json_object_set_new(root, "devices", json_incref(list)) != 0;
    *json = bad ? NULL : json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(list);
    json_decref(root);
    return *json ? FLUX1_OK : error_oom(&c->error, 0, "the list of devices");
}
