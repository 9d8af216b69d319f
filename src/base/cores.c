/* How many threads are worth starting: the affinity mask, one of each set of SMT siblings, bounded by the cgroup's
 * quota. */
#define _GNU_SOURCE /* sched_getaffinity, CPU_ALLOC */
#include "base/pool.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CPUS_MAX 65536

static bool read_line(const char *path, char *buffer, size_t size)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool ok = fgets(buffer, (int)size, f) != NULL;
    fclose(f);
    return ok;
}

/* True if a sibling with a lower number is in the mask too: then that one stands for the core. `list` is as "0,64" or
 * "0-1". */
static bool sibling_counted(const char *list, int cpu, const cpu_set_t *mask, size_t mask_bytes)
{
    while (*list >= '0' && *list <= '9') {
        char *end;
        long first = strtol(list, &end, 10), last = first;
        if (*end == '-')
            last = strtol(end + 1, &end, 10);
        for (long sibling = first; sibling <= last && sibling < cpu; sibling++)
            if (CPU_ISSET_S((size_t)sibling, mask_bytes, mask))
                return true;
        list = *end == ',' ? end + 1 : end;
    }
    return false;
}

static int cores_of_mask(const cpu_set_t *mask, size_t mask_bytes)
{
    int cores = 0, cpus = (int)(8 * mask_bytes);
    for (int cpu = 0; cpu < cpus; cpu++) {
        if (!CPU_ISSET_S((size_t)cpu, mask_bytes, mask))
            continue;
        char path[96], list[1024];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
        if (!read_line(path, list, sizeof list) || !sibling_counted(list, cpu, mask, mask_bytes))
            cores++;
    }
    return cores;
}

static int cores_by_affinity(void)
{
    for (int cpus = 1024; cpus <= CPUS_MAX; cpus *= 4) { /* the kernel says EINVAL while the mask is too small for it */
        size_t mask_bytes = CPU_ALLOC_SIZE(cpus);
        cpu_set_t *mask = CPU_ALLOC(cpus);
        if (!mask)
            break;
        CPU_ZERO_S(mask_bytes, mask);
        int fault = sched_getaffinity(0, mask_bytes, mask) == 0 ? 0 : errno;
        int cores = fault ? 0 : cores_of_mask(mask, mask_bytes);
        CPU_FREE(mask);
        if (fault != EINVAL)
            return cores;
    }
    return 0;
}

/* "quota period" or "max period"; 0 without a limit. Part of a core counts as one. */
static long quota_of(const char *folder)
{
    char path[4200], line[128];
    long long quota, period;
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", folder);
    if (!read_line(path, line, sizeof line) || sscanf(line, "%lld %lld", &quota, &period) != 2 || quota <= 0 ||
        period <= 0)
        return 0;
    return (long)((quota + period - 1) / period);
}

/* The narrowest quota of this process's cgroup (version 2) and those above it; 0 without any. */
static long cores_by_quota(void)
{
    char line[4096] = "", *folder = NULL;
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (!f)
        return 0;
    while (!folder && fgets(line, sizeof line, f))
        if (strncmp(line, "0::", 3) == 0)
            folder = line + 3;
    fclose(f);
    if (!folder)
        return 0;
    folder[strcspn(folder, "\n")] = '\0';
    long least = 0;
    for (;;) {
        long quota = quota_of(strcmp(folder, "/") == 0 ? "" : folder);
        if (quota > 0 && (least == 0 || quota < least))
            least = quota;
        char *slash = strrchr(folder, '/');
        if (!slash)
            return least;
        *slash = '\0';
    }
}

int cpu_physical_cores(void)
{
    int cores = cores_by_affinity();
    if (cores < 1) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        cores = online > 0 && online < CPUS_MAX ? (int)online : 1;
    }
    long quota = cores_by_quota();
    return quota > 0 && quota < cores ? (int)quota : cores;
}
