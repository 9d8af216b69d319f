/* How many threads are worth starting: the affinity mask, one of each set of SMT siblings, bounded by the control
 * groups' quota. */
#define _GNU_SOURCE /* sched_getaffinity, CPU_ALLOC */
#include "base/limits.h"
#include "base/pool.h"
#include "base/sysfile.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CPUS_MAX 65536

/* True if a sibling with a lower number is in the mask too: then that one stands for the core. `list` is as "0,64" or
 * "0-1". */
static bool lower_in_mask(const char *list, int cpu, const cpu_set_t *mask, size_t mask_bytes)
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

static bool sibling_counted(int cpu, const cpu_set_t *mask, size_t mask_bytes)
{
    sysfile f;
    char name[80];
    snprintf(name, sizeof name, "/cpu%d/topology/thread_siblings_list", cpu);
    if (!sysfile_open(&f, "/sys/devices/system/cpu", name))
        return false;
    const char *list = sysfile_line(&f);
    bool counted = list && lower_in_mask(list, cpu, mask, mask_bytes);
    sysfile_close(&f);
    return counted;
}

static int cpus_of_mask(const cpu_set_t *mask, size_t mask_bytes, bool siblings)
{
    int count = 0, cpus = (int)(8 * mask_bytes);
    for (int cpu = 0; cpu < cpus; cpu++)
        if (CPU_ISSET_S((size_t)cpu, mask_bytes, mask) && (siblings || !sibling_counted(cpu, mask, mask_bytes)))
            count++;
    return count;
}

static int cpus_by_affinity(bool siblings)
{
    for (int cpus = 1024; cpus <= CPUS_MAX; cpus *= 4) { /* the kernel says EINVAL while the mask is too small for it */
        size_t mask_bytes = CPU_ALLOC_SIZE(cpus);
        cpu_set_t *mask = CPU_ALLOC(cpus);
        if (!mask)
            break;
        CPU_ZERO_S(mask_bytes, mask);
        int fault = sched_getaffinity(0, mask_bytes, mask) == 0 ? 0 : errno;
        int count = fault ? 0 : cpus_of_mask(mask, mask_bytes, siblings);
        CPU_FREE(mask);
        if (fault != EINVAL)
            return count;
    }
    return 0;
}

static int count_cpus(bool siblings)
{
    int cores = cpus_by_affinity(siblings);
    if (cores < 1) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        cores = online > 0 && online < CPUS_MAX ? (int)online : 1;
    }
    uint64_t quota = limits_cpu_quota();
    return quota > 0 && quota < (uint64_t)cores ? (int)quota : cores;
}

int cpu_physical_cores(void) { return count_cpus(false); }
int cpu_available(void) { return count_cpus(true); }
