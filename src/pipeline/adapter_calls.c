/* The public calls for adapters. */
#include "pipeline/adapter_calls.h"

#include "pipeline/adapter_place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void adapter_warn(flux1_context *c, const char *name, const adapter_file *f)
{
    if (f->stray_count)
        context_log(c, FLUX1_LOG_WARNING, "%s: %zu of %zu entries apply; keys left out: %s%s", name, f->applied,
                    f->pairs, f->strays, f->stray_count > ADAPTER_STRAYS_NAMED ? ", …" : "");
}

flux1_status adapter_open_named(flux1_context *c, const flux1_model *m, const char *name, struct flux1_adapter **out)
{
    char *place;
    TRY(context_needs_path(c, name, "the adapter"));
    TRY(adapter_locate(&m->source, name, &place, &c->error));
    const flux1_status st = adapter_open_for(m, place, out, &c->error);
    if (st == FLUX1_OK && strcmp(place, name) != 0)
        context_log(c, FLUX1_LOG_INFO, "%s: %s", name, place);
    if (st == FLUX1_OK)
        adapter_warn(c, name, (*out)->file);
    free(place);
    return st;
}

flux1_status flux1_adapter_open(flux1_context *context, const flux1_model *model, const char *path, flux1_adapter **out)
{
    TRY(context_begin(context));
    TRY(context_needs(context, out, "out"));
    *out = NULL;
    TRY(context_needs(context, model, "model"));
    return adapter_open_named(context, model, path, out);
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
                              .rank_max = (int)f->rank_max,
                              .kinds = a->kinds};
    memcpy(info, &all, info->size < sizeof all ? info->size : sizeof all);
    return FLUX1_OK;
}

void flux1_adapter_close(flux1_adapter *a) { adapter_leave(a); }
