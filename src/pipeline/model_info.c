/* What a caller asks about an opened model, and about the interface's own structs. */
#include "pipeline/context.h"
#include "pipeline/folder.h"

#include "flux1_tools.h"

#include <string.h>

static void describe_part(const store *s, const char **type, uint64_t *bytes)
{
    int64_t parameters[DTYPE_COUNT] = {0};
    int most = DTYPE_F32;
    for (size_t i = 0; i < store_count(s); i++) {
        const tensor *t = &store_at(s, i)->view;
        parameters[t->type] += tensor_elements(t);
        *bytes += tensor_bytes(t);
    }
    for (int k = 0; k < DTYPE_COUNT; k++)
        most = parameters[k] > parameters[most] ? k : most;
    *type = dtype_describe((dtype)most)->name;
}

flux1_status flux1_model_get_info(const flux1_model *m, flux1_model_info *info)
{
    if (!m || !info || info->size < offsetof(flux1_model_info, reserved))
        return FLUX1_ERR_ARGUMENT;
    flux1_model_info all = {
        .size = info->size,
        .guidance = m->dit.guidance,
        .default_steps = m->dit.guidance ? 28 : 4,
        .default_guidance = 3.5f,
        .default_width = (int)m->vae.sample_size,
        .default_height = (int)m->vae.sample_size,
        .default_sequence_length = m->t5_length,
        .max_sequence_length = m->t5_length_max,
        .size_multiple = (int)folder_size_multiple(m),
        .name = folder_name(m),
        .variant = m->dit.guidance ? "dev" : "schnell",
    };
    for (int p = 0; p < COMPONENTS; p++)
        describe_part(m->store[p], &all.part_dtype[p], &all.part_bytes[p]);
    memcpy(info, &all, info->size < sizeof all ? info->size : sizeof all);
    return FLUX1_OK;
}

#define STRUCT_MAP(X)        \
    X(flux1_context_params)  \
    X(flux1_context_info)    \
    X(flux1_model_parts)     \
    X(flux1_model_info)      \
    X(flux1_adapter_info)    \
    X(flux1_adapter_use)     \
    X(flux1_image)           \
    X(flux1_progress)        \
    X(flux1_latents)         \
    X(flux1_generate_params) \
    X(flux1_write_params)    \
    X(flux1_adapter_file)    \
    X(flux1_tokens)          \
    X(flux1_doctor_params)   \
    X(flux1_bench_params)    \
    X(flux1_plan_params)     \
    X(flux1_pull_progress)   \
    X(flux1_pull_params)     \
    X(flux1_convert_params)

size_t flux1_struct_size(const char *name)
{
    static const struct {
        const char *name;
        size_t size;
    } structs[] = {
#define ROW(type) {#type, sizeof(type)},
        STRUCT_MAP(ROW)
#undef ROW
    };
    for (size_t i = 0; name && i < sizeof structs / sizeof *structs; i++)
        if (strcmp(name, structs[i].name) == 0)
            return structs[i].size;
    return 0;
}
