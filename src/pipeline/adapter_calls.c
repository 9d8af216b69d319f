/* The public calls for adapters. */
#include "pipeline/adapter_set.h"
#include "pipeline/context.h"

#include <stdio.h>
#include <string.h>

static void tell(flux1_context *c, const char *path, const adapter_file *f)
{
    char rank[48];
    if (f->rank_min == f->rank_max)
        snprintf(rank, sizeof rank, "rank %lld", (long long)f->rank_max);
    else
        snprintf(rank, sizeof rank, "ranks %lld to %lld", (long long)f->rank_min, (long long)f->rank_max);
    if (f->applied == f->pairs && f->stray_count == 0)
        context_log(c, FLUX1_LOG_INFO, "%s: %zu of %zu pairs apply (%s)", path, f->applied, f->pairs, rank);
    else
        context_log(c, FLUX1_LOG_WARNING, "%s: %zu of %zu pairs apply (%s); not %s%s", path, f->applied, f->pairs, rank,
                    f->strays, f->stray_count > 5 ? ", …" : "");
}

flux1_status flux1_adapter_open(flux1_context *context, const flux1_model *model, const char *path, flux1_adapter **out)
{
    TRY(context_begin(context));
    TRY(context_needs(context, out, "out"));
    *out = NULL;
    TRY(context_needs(context, model, "model"));
    TRY(context_needs(context, path, "path"));
    TRY(adapter_open_for(model, path, out, &context->error));
    tell(context, path, (*out)->file);
    return FLUX1_OK;
}

flux1_status flux1_adapter_get_info(const flux1_adapter *a, flux1_adapter_info *info)
{
    if (!a || !info || info->size < offsetof(flux1_adapter_info, reserved))
        return FLUX1_ERR_ARGUMENT;
    const adapter_file *f = a->file;
    flux1_adapter_info all = {.size = info->size,
                              .pairs = (int)f->pairs,
                              .applied = (int)f->applied,
                              .rank_min = (int)f->rank_min,
                              .rank_max = (int)f->rank_max};
    memcpy(info, &all, info->size < sizeof all ? info->size : sizeof all);
    return FLUX1_OK;
}

void flux1_adapter_close(flux1_adapter *a) { adapter_leave(a); }
