/* The context, and the small calls of the public interface. */
#include "pipeline/context.h"

#include "pipeline/arithmetic.h"
#include "pipeline/session.h"
#include "pipeline/team.h"
#include "pipeline/text_cache.h"
#include "pipeline/ttnn.h"

#include "mesh/processes.h"

#include "base/pool.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT2(x) #x
#define TEXT(x) TEXT2(x)

const char *flux1_version(void)
{
    return TEXT(FLUX1_VERSION_MAJOR) "." TEXT(FLUX1_VERSION_MINOR) "." TEXT(FLUX1_VERSION_PATCH);
}
const char *flux1_status_name(flux1_status status) { return status_name(status); }
const char *flux1_status_text(flux1_status status) { return status_text(status); }

const char *context_dtype(const flux1_context *c)
{
    if (c->cards)
        return arithmetic_name(&(ops_config){.arithmetic = DTYPE_BF16}, c->cards->weights == TILE_BFP8);
    return arithmetic_name(&c->device.config, c->device.config.bfp8);
}

void context_sign(const flux1_context *c, flux1_image *image)
{
    image->dtype = context_dtype(c);
    image->device = c->cards ? c->cards->machine->device : c->device.kind->name;
    memcpy(image->mesh, c->cards ? c->cards->mesh.shape : c->mesh.shape, sizeof image->mesh);
}

const char *flux1_context_message(const flux1_context *context)
{
    return context ? context->error.message : "out of memory, or no context";
}

flux1_status context_begin(flux1_context *c)
{
    if (!c)
        return FLUX1_ERR_ARGUMENT;
    error_clear(&c->error);
    atomic_store_explicit(&c->cancel, 0, memory_order_relaxed);
    return FLUX1_OK;
}

flux1_status context_needs(flux1_context *c, const void *p, const char *name)
{
    return p ? FLUX1_OK : error_set(&c->error, FLUX1_ERR_ARGUMENT, "%s is NULL", name);
}

flux1_status context_flag(flux1_context *c, const char *name, int value)
{
    if (value == 0 || value == 1)
        return FLUX1_OK;
    return error_set(&c->error, FLUX1_ERR_ARGUMENT, "%s %d: it should be 0 or 1", name, value);
}

flux1_status context_needs_path(flux1_context *c, const char *path, const char *of)
{
    TRY(context_needs(c, path, "path"));
    return path[0] ? FLUX1_OK : error_set(&c->error, FLUX1_ERR_ARGUMENT, "the path of %s is empty", of);
}

flux1_status context_computes(flux1_context *c)
{
    return c->ready ? FLUX1_OK
                    : error_set(&c->error, FLUX1_ERR_ARGUMENT, "the context could not be created: it computes nothing");
}

flux1_status flux1_context_get_info(flux1_context *c, flux1_context_info *info)
{
    TRY(context_begin(c));
    TRY(context_needs(c, info, "info"));
    if (info->size < offsetof(flux1_context_info, reserved))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "info->size is not set");
    TRY(context_computes(c));
    if (c->processes && processes_gone(c->processes))
        return processes_agree(c->processes, FLUX1_OK, "", &c->error);
    const ops_device_info *d = &c->device.device->info;
    flux1_context_info all = {
        .size = info->size,
        .device = c->cards ? c->cards->machine->device : d->id,
        .device_name = c->cards ? c->cards->machine->name : d->name,
        .dtype = context_dtype(c),
        .ranks = mesh_ranks(c->cards ? &c->cards->mesh : &c->mesh),
        .threads = c->device.config.threads,
        .runs_ahead = d->runs_ahead,
        .encoders_apart = c->has_text_device && c->text_device.device != c->device.device,
        .max_memory = c->max_memory,
        .max_device_memory = c->max_device_memory,
        .process = c->processes ? processes_index(c->processes) : 0,
        .processes = c->processes ? processes_count(c->processes) : 1,
    };
    text_cache_counts(c, &all.texts_encoded, &all.texts_reused, &all.text_bytes);
    memcpy(info, &all, info->size < sizeof all ? info->size : sizeof all);
    return FLUX1_OK;
}

void context_log(flux1_context *c, flux1_log_level level, const char *format, ...)
{
    if (!c->log)
        return;
    char line[1024];
    va_list ap;
    va_start(ap, format);
    vsnprintf(line, sizeof line, format, ap);
    va_end(ap);
    utf8_blank_controls(line, ' ', ""); /* as in errors */
    c->log(c->log_user, level, line);
}

void flux1_model_close(flux1_model *model) { folder_close(model); }
