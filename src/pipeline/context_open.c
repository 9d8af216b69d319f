/* A context made and ended: its devices, its mesh, the processes that it shares it with. */
#include "pipeline/context.h"

#include "pipeline/arithmetic.h"
#include "pipeline/session.h"
#include "pipeline/team.h"
#include "pipeline/text_cache.h"
#include "pipeline/ttnn.h"

#include "mesh/processes.h"

#include "base/limits.h"
#include "base/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void flux1_context_params_defaults(flux1_context_params *p)
{
    if (p)
        *p = (flux1_context_params){.size = sizeof *p};
}

/* ---- devices ---- */

static void close_devices(flux1_context *c, const mesh_device *d)
{
    if (d->device && d->kind->kept_limit)
        d->kind->kept_limit(d->device, &c->kept, 0);
    for (int64_t r = 0; d->own && r < team_ranks(c).count; r++)
        ops_device_close(d->own[r]);
    free(d->own);
    ops_device_close(d->device);
}

/* The ranks that processes before this one have on this host, and all ranks of this host. */
static void host_ranks(const flux1_context *c, int *before, int *all)
{
    int ranks = mesh_ranks(&c->mesh), first, count, me = c->processes ? processes_index(c->processes) : 0;
    *before = 0;
    *all = c->processes ? 0 : ranks;
    for (int i = 0; c->processes && i < processes_count(c->processes); i++) {
        if (strcmp(processes_info(c->processes, i)->host, processes_info(c->processes, me)->host) != 0)
            continue;
        processes_ranks(c->processes, i, ranks, &first, &count);
        *before += i < me ? count : 0;
        *all += count;
    }
}

/* Where devices of this kind can exchange directly, from `first` on one for each rank of this host if there are as
 * many; otherwise the ranks share it. */
static flux1_status open_own_devices(flux1_context *c, int first, mesh_device *d)
{
    int count = 0, before, ranks;
    host_ranks(c, &before, &ranks);
    if (mesh_ranks(&c->mesh) == 1 || !d->device->info.memory)
        return FLUX1_OK;
    TRY(d->kind->count(&count, &c->error));
    if (count - first < ranks) {
        context_log(c, FLUX1_LOG_WARNING,
                    "the mesh has %d ranks here and this machine %d device%s from %s on: they share that one and "
                    "exchange through the host",
                    ranks, count - first, count - first == 1 ? "" : "s", d->device->info.id);
        return FLUX1_OK;
    }
    if (!(d->own = calloc((size_t)team_ranks(c).count, sizeof *d->own)))
        return error_oom(&c->error, 0, "the mesh's devices");
    for (int r = 0; r < team_ranks(c).count; r++)
        TRY(d->kind->open(first + before + r, &d->own[r], &c->error));
    return FLUX1_OK;
}

static flux1_status check_fp8(const ops_device_info *info, flux1_error *err)
{
    if (info->fp8)
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_UNSUPPORTED,
                     "dtype fp8 needs a GPU of compute capability 8.9 (Ada) or later; %s (%s) does not multiply it, "
                     "dtype %s works here",
                     info->id, info->name, info->bf16 ? "bf16" : "f32");
}

static flux1_status check_int8(const ops_device_info *info, flux1_error *err)
{
    if (info->int8)
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_UNSUPPORTED,
                     "dtypes int8 and int8-fast are multiplied by device cpu; on %s (%s) dtype %s works", info->id,
                     info->name,
                     info->fp8    ? "fp8, also of 8 bits,"
                     : info->bf16 ? "bf16"
                                  : "f32");
}

static void choose_auto(mesh_device *d) { d->config.arithmetic = d->device->info.bf16_native ? DTYPE_BF16 : DTYPE_F32; }

/* The encoders have nothing to multiply in e4m3; and a device of their own need not have what the other has. */
static flux1_dtype encoders_dtype(flux1_dtype wanted, const ops_device_info *info)
{
    const bool int8 = wanted == FLUX1_DTYPE_INT8 || wanted == FLUX1_DTYPE_INT8_FAST,
               other = wanted == FLUX1_DTYPE_FP8 || (int8 && !info->int8);
    return other ? FLUX1_DTYPE_AUTO : wanted;
}

static flux1_status choose_dtype(flux1_dtype wanted, mesh_device *d, flux1_error *err)
{
    const ops_device_info *info = &d->device->info;
    d->config.fp8 = FP8_NO;
    d->config.int8 = INT8_NONE;
    switch (wanted) {
    case FLUX1_DTYPE_AUTO: choose_auto(d); return FLUX1_OK;
    case FLUX1_DTYPE_F32: d->config.arithmetic = DTYPE_F32; return FLUX1_OK;
    case FLUX1_DTYPE_BF16:
        if (!info->bf16)
            return error_set(err, FLUX1_ERR_UNSUPPORTED, "device %s computes in f32 only", info->id);
        d->config.arithmetic = DTYPE_BF16;
        return FLUX1_OK;
    case FLUX1_DTYPE_FP8:
        TRY(check_fp8(info, err));
        d->config.arithmetic = info->bf16 ? DTYPE_BF16 : DTYPE_F32;
        d->config.fp8 = FP8_ROWS;
        return FLUX1_OK;
    case FLUX1_DTYPE_INT8:
    case FLUX1_DTYPE_INT8_FAST:
        TRY(check_int8(info, err));
        choose_auto(d);
        d->config.int8 = wanted == FLUX1_DTYPE_INT8 ? INT8_FINE : INT8_ROTATED;
        d->config.int8_quads = ops_cpu_int8_quads(); /* device ref says what the processor computes */
        return FLUX1_OK;
    }
    return error_set(err, FLUX1_ERR_ARGUMENT, "dtype %d: it should be one of flux1_dtype", (int)wanted);
}

static void choose_files(mesh_device *d, bool cache)
{
    d->config.forms_in_files = cache && d->kind->block_key && d->kind->weights_budget;
}

flux1_status context_choose(flux1_context *c, flux1_dtype wanted, bool cache)
{
    choose_files(&c->device, cache);
    TRY(choose_dtype(wanted, &c->device, &c->error));
    if (!c->has_text_device)
        return FLUX1_OK;
    choose_files(&c->text_device, cache);
    return choose_dtype(encoders_dtype(wanted, &c->text_device.device->info), &c->text_device, &c->error);
}

static flux1_status choose_held(flux1_device_weights wanted, mesh_device *d, flux1_error *err)
{
    switch (wanted) {
    case FLUX1_DEVICE_WEIGHTS_AUTO: d->config.held = HELD_AUTO; return FLUX1_OK;
    case FLUX1_DEVICE_WEIGHTS_PACKED: d->config.held = HELD_PACKED; return FLUX1_OK;
    case FLUX1_DEVICE_WEIGHTS_DECODED: d->config.held = HELD_DECODED; return FLUX1_OK;
    }
    return error_set(err, FLUX1_ERR_ARGUMENT, "device_weights %d: it should be one of flux1_device_weights",
                     (int)wanted);
}

static flux1_status choose_rounding(flux1_rounding wanted, mesh_device *d, flux1_error *err)
{
    if (wanted != FLUX1_ROUNDING_NONE && wanted != FLUX1_ROUNDING_BFP8)
        return error_set(err, FLUX1_ERR_ARGUMENT, "weight_rounding %d: it should be one of flux1_rounding",
                         (int)wanted);
    d->config.bfp8 = wanted == FLUX1_ROUNDING_BFP8;
    return FLUX1_OK;
}

/* Of all ranks together, as plans count it; 0 where the device computes in the host's memory. */
static uint64_t device_memory(const flux1_context *c)
{
    return c->device.device->info.memory * (c->device.own ? (uint64_t)mesh_ranks(&c->mesh) : 1);
}

/* What is free; and what the process has, where that is in each stage's need. */
static uint64_t found_memory(const flux1_context_params *p)
{
    const uint64_t spare = limits_memory(), own = p->memory_of_process ? limits_resident() : 0;
    return spare > UINT64_MAX - own ? UINT64_MAX : spare + own;
}

/* What is known of a device before the processes meet. */
static flux1_status find_device(flux1_context *c, const flux1_context_params *p, const char *name, flux1_dtype wanted,
                                mesh_device *d, int *first)
{
    TRY(ops_device_find(name, &d->kind, first, &c->error));
    TRY(d->kind->open(*first, &d->device, &c->error));
    if (d == &c->text_device)
        wanted = encoders_dtype(wanted, &d->device->info);
    TRY(choose_dtype(wanted, d, &c->error));
    TRY(choose_held(p->device_weights, d, &c->error));
    TRY(choose_rounding(p->weight_rounding, d, &c->error));
    choose_files(d, c->cache != NULL);
    d->config.cancel = &c->cancel;
    d->config.eager = p->eager == 1;
    d->config.branches = p->eager == 2;
    return FLUX1_OK;
}

/* And what follows from their number on this host. */
static flux1_status set_up_device(flux1_context *c, const flux1_context_params *p, int first, mesh_device *d)
{
    TRY(open_own_devices(c, first, d));
    for (int r = 0; d->config.fp8 && d->own && r < team_ranks(c).count; r++)
        TRY(check_fp8(&d->own[r]->info, &c->error));
    d->config.threads = c->processes ? processes_info(c->processes, processes_index(c->processes))->threads
                        : p->threads ? p->threads
                                     : cpu_physical_cores();
    d->processes = mesh_ranks(context_mesh(c, d)) > 1 ? c->processes : NULL;
    sessions_tell_notes(c, d->kind);
    return FLUX1_OK;
}

/* ---- processes ---- */

/* What all processes must have in common; whether there is a cache, too, since the first one plans for all. Encoders on
 * the host are the first one's alone. */
static void describe_version(const flux1_context *c, char *out, size_t room)
{
    const mesh_config *m = &c->mesh;
    char arithmetic[ARITHMETIC_TEXT];
    arithmetic_describe(&c->device.config, c->device.device, arithmetic);
    int n =
        snprintf(out, room, "%s, %s, mesh %dx%d %d@%d %d@%d, %s %s", flux1_version(), c->cache ? "cache" : "no cache",
                 m->shape[0], m->shape[1], m->sp, m->sp_axis, m->tp, m->tp_axis, c->device.kind->name, arithmetic);
    if (!c->has_text_device || n < 0 || (size_t)n >= room)
        return;
    arithmetic_describe(&c->text_device.config, c->text_device.device, arithmetic);
    const bool shared = mesh_ranks(&c->text_mesh) > 1;
    snprintf(out + n, room - (size_t)n, ", encoders %s%s%s", c->text_device.kind->name, shared ? " " : "",
             shared ? arithmetic : "");
}

static flux1_status join_processes(flux1_context *c, const flux1_context_params *params)
{
    process_info mine = {
        .pid = (int)getpid(), .memory = c->max_memory, .cores = cpu_physical_cores(), .threads = params->threads};
    int ranks = mesh_ranks(&c->mesh);
    gethostname(mine.host, sizeof mine.host - 1);
    describe_version(c, mine.version, sizeof mine.version);
    if (!(c->order = calloc(1, sizeof *c->order)))
        return error_oom(&c->error, sizeof *c->order, "orders between processes");
    TRY(processes_open(&mine, &c->processes, &c->error));
    int count = processes_count(c->processes);
    if (count <= ranks) {
        processes_cancels(c->processes, &c->cancel);
        return FLUX1_OK;
    }
    if (!team_leads(c)) { /* all end together, at the first one's word */
        const void *bytes;
        size_t size;
        while (processes_next(c->processes, &bytes, &size, &c->error) == FLUX1_OK && bytes)
            ;
    }
    return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                     "mesh %dx%d has %d rank%s, but %d processes were started: start at most %d, or give a mesh of "
                     "at least %d ranks",
                     c->mesh.shape[0], c->mesh.shape[1], ranks, ranks == 1 ? "" : "s", count, ranks, count);
}

/* What needs no device to be judged. */
static flux1_status check_params(flux1_context *c, const flux1_context_params *p)
{
    if (p->threads < 0 || p->threads > 4096)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "threads %d: it should be 1 to 4096, or 0 for the number of physical cores", p->threads);
    if (p->eager < 0 || p->eager > 2)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "eager %d: it should be 0, 1 or 2", p->eager);
    TRY(context_flag(c, "processes", p->processes));
    TRY(context_flag(c, "memory_of_process", p->memory_of_process));
    return context_flag(c, "plans_only", p->plans_only);
}

static flux1_status set_up(flux1_context *c, const flux1_context_params *p)
{
    const mesh_config one_rank = {.shape = {1, 1}, .sp = 1, .tp = 1, .tp_axis = 1};
    int first, text_first = 0;
    c->log = p->log;
    c->log_user = p->log_user;
    TRY(check_params(c, p));
    const bool on_cards = ttnn_is_device(p->device);
    if (on_cards)
        TRY(ttnn_open(c, p));
    TRY(mesh_parse(on_cards ? NULL : p->mesh, on_cards ? NULL : p->sp, on_cards ? NULL : p->tp, &c->mesh, &c->error));
    TRY(prepared_open(p->cache, p->cache_size, !p->plans_only, &c->cache, &c->error));
    TRY(find_device(c, p, on_cards ? "cpu" : p->device, p->dtype, &c->device, &first));
    c->asked_memory = p->max_memory;
    c->asked_device_memory = p->max_device_memory;
    c->max_memory = p->max_memory ? p->max_memory : found_memory(p);
    c->has_text_device = p->encoder_device && *p->encoder_device;
    bool on_host = c->has_text_device && strcmp(p->encoder_device, "host") == 0;
    c->text_mesh = on_host ? one_rank : c->mesh;
    if (c->has_text_device)
        TRY(find_device(c, p, on_host ? "cpu" : p->encoder_device, p->dtype, &c->text_device, &text_first));
    if (p->processes)
        TRY(join_processes(c, p));
    TRY(set_up_device(c, p, first, &c->device));
    if (device_memory(c))
        c->max_device_memory = p->max_device_memory ? p->max_device_memory : device_memory(c);
    return c->has_text_device ? set_up_device(c, p, text_first, &c->text_device) : FLUX1_OK;
}

/* What this process has by now, and what of its code comes into memory when it runs. Which pages of libraries are there
 * is up to the kernel, so equal processes differ by up to a MiB: rounded, they have equal plans. */
static uint64_t program_bytes(void)
{
    const uint64_t later = (uint64_t)2 << 20, step = (uint64_t)2 << 20;
    return (limits_resident() + later + step - 1) / step * step;
}

flux1_status flux1_context_create(const flux1_context_params *params, flux1_context **out)
{
    flux1_context_params p;
    if (!out)
        return FLUX1_ERR_ARGUMENT;
    flux1_context_params_defaults(&p);
    *out = NULL;
    flux1_context *c = calloc(1, sizeof *c);
    if (!c)
        return FLUX1_ERR_MEMORY;
    *out = c;
    if (params && params->size < offsetof(flux1_context_params, reserved))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "the parameters were not set up by flux1_context_params_defaults");
    if (params)
        memcpy(&p, params, params->size < sizeof p ? params->size : sizeof p);
    TRY(set_up(c, &p));
    c->models = folder_last_number();
    c->program = p.memory_of_process ? program_bytes() : 0;
    c->ready = true;
    return FLUX1_OK;
}

void flux1_context_destroy(flux1_context *context)
{
    if (!context)
        return;
    text_cache_free(context);
    ttnn_close(context);
    sessions_close(context);
    if (context->has_text_device)
        close_devices(context, &context->text_device);
    close_devices(context, &context->device);
    prepared_close(context->cache);
    processes_close(context->processes);
    free(context->order);
    free(context);
}
