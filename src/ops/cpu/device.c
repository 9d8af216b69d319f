/* The CPU as a device: one, shared by all contexts of the process, with the weights that its backends prepared. */
#include "ops/cpu/cpu.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static flux1_status cpu_count(int *count, flux1_error *err)
{
    (void)err;
    *count = 1;
    return FLUX1_OK;
}

static flux1_status cpu_describe(int ordinal, ops_device_info *out, flux1_error *err)
{
    const cpu_instruction_set *set;
    if (ordinal)
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "device cpu:%d: there is one CPU device, cpu", ordinal);
    *out = (ops_device_info){.id = "cpu", .bf16 = true, .int8 = true, .bf16_native = ops_cpu_multiplies_bf16()};
    snprintf(out->name, sizeof out->name, "%s",
             cpu_instruction_set_choose(&set, NULL) == FLUX1_OK ? set->name : "none");
    out->fact[out->facts++] = (ops_fact){.name = "cores", .number = cpu_physical_cores()};
    return FLUX1_OK;
}

static pthread_mutex_t device_lock = PTHREAD_MUTEX_INITIALIZER;
static cpu_device *device; /* all contexts' */
static int device_users;

static void tear_down(cpu_device *d)
{
    kept_destroy(d->kept);
    free(d);
}

static flux1_status open_new(int ordinal, cpu_device **out, flux1_error *err)
{
    flux1_status st;
    cpu_device *d = calloc(1, sizeof *d);
    if (!d)
        return error_oom(err, sizeof *d, "the CPU device");
    d->head.kind = &ops_cpu_device;
    TRY_CLEANUP(cpu_describe(ordinal, &d->head.info, err));
    TRY_CLEANUP(kept_create(&cpu_kept_memory, NULL, &d->kept, err));
    kept_budget(d->kept, KEPT_UNUSED);
    *out = d;
    return FLUX1_OK;
cleanup:
    tear_down(d);
    return st;
}

static flux1_status cpu_open(int ordinal, ops_device **out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    pthread_mutex_lock(&device_lock);
    if (!device)
        st = open_new(ordinal, &device, err);
    device_users += st == FLUX1_OK;
    *out = st == FLUX1_OK ? &device->head : NULL;
    pthread_mutex_unlock(&device_lock);
    return st;
}

static void cpu_close(ops_device *d)
{
    pthread_mutex_lock(&device_lock);
    if (--device_users == 0) {
        tear_down((cpu_device *)d);
        device = NULL;
    }
    pthread_mutex_unlock(&device_lock);
}

/* ---- kept weights ---- */

static void cpu_kept_budget(ops_device *d, size_t bytes) { kept_budget(((cpu_device *)d)->kept, bytes); }

static void cpu_kept_limit(ops_device *d, ops_kept_limit *w, size_t bytes)
{
    kept_limit(((cpu_device *)d)->kept, w, bytes);
}

static flux1_status cpu_kept_adopt(ops_device *d, const uint64_t key[2], const ops_lent *lent, ops_loan **loan,
                                   flux1_error *err)
{
    return kept_lend(((cpu_device *)d)->kept, key, lent, loan, err);
}

static void cpu_kept_reclaim(ops_device *d, ops_loan *loan) { kept_leave(((cpu_device *)d)->kept, loan); }

const ops_device_kind ops_cpu_device = {
    .name = "cpu",
    .syntax = "cpu",
    .count = cpu_count,
    .describe = cpu_describe,
    .open = cpu_open,
    .close = cpu_close,
    .create = ops_cpu_create,
    .sizing = &ops_cpu_sizing,
    .kept_budget = cpu_kept_budget,
    .kept_limit = cpu_kept_limit,
    .block_key = cpu_block_key,
    .block_export = cpu_block_export,
    .kept_adopt = cpu_kept_adopt,
    .kept_reclaim = cpu_kept_reclaim,
    .weights_budget = cpu_weights_budget,
    .next_note = stream_next_note,
};
