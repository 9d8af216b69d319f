/* The registry of devices: one row a kind. */
#include "ops/device.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef FLUX1_HAS_CUDA
#define FLUX1_HAS_CUDA 0
#endif
#if FLUX1_HAS_CUDA
extern const ops_device_kind ops_cuda_device;
#endif

const ops_device_kind *const ops_device_kinds[] = {
    &ops_cpu_device,
#if FLUX1_HAS_CUDA
    &ops_cuda_device,
#endif
    &ops_ref_device,
    NULL,
};

/* "cuda" or "cuda:N" for the kind "cuda"; a kind of one device has no ":N". */
static bool names(const char *name, const char *kind, int *ordinal)
{
    size_t length = strlen(kind);
    char *end;
    *ordinal = 0;
    if (strncmp(name, kind, length) != 0)
        return false;
    if (!name[length])
        return true;
    if (name[length] != ':' || name[length + 1] < '0' || name[length + 1] > '9')
        return false;
    long n = strtol(name + length + 1, &end, 10);
    *ordinal = (int)(n < INT_MAX ? n : INT_MAX);
    return !*end;
}

flux1_status ops_device_find(const char *name, const ops_device_kind **kind, int *ordinal, flux1_error *err)
{
    char known[256] = "";
    size_t used = 0;
    *ordinal = 0;
    *kind = ops_device_kinds[0];
    if (!name || !*name)
        return FLUX1_OK;
    for (const ops_device_kind *const *k = ops_device_kinds; *k; k++) {
        *kind = *k;
        if (names(name, (*k)->name, ordinal))
            return FLUX1_OK;
        if (used < sizeof known)
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", (*k)->syntax);
    }
    *kind = NULL;
    return error_set(err, FLUX1_ERR_UNSUPPORTED, "device \"%s\": not in this build, which has %s", name, known);
}

void ops_device_close(ops_device *d)
{
    if (d)
        d->kind->close(d);
}
