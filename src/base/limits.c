#include "base/limits.h"
#include "base/cgroup.h"

#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t less(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

static uint64_t of_machine(const char *root)
{
    uint64_t bytes;
    if (sysfile_find(root, "/proc/meminfo", "MemAvailable:", &bytes))
        return bytes;
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 && !__builtin_mul_overflow((uint64_t)pages, (uint64_t)size, &bytes) ? bytes
                                                                                                     : UINT64_MAX;
}

/* Names of version 1 and 2. All count the groups below too, which in version 1's memory.stat only total_… do. */
static const struct {
    const char *limit, *usage, *file_pages[2];
} memory_names[] = {
    {"/memory.limit_in_bytes", "/memory.usage_in_bytes", {"total_inactive_file", "total_active_file"}},
    {"/memory.max", "/memory.current", {"inactive_file", "active_file"}},
};

#define LIMITED ((uint64_t)1 << 60) /* version 1 writes "no limit" as 2^63 less a page, of 4 or 64 KiB */

/* File pages are given back when memory is short, once written where they are dirty. */
static uint64_t reclaimable(const cgroup *group)
{
    sysfile f;
    uint64_t sum = 0;
    if (!sysfile_open(&f, group->path, "/memory.stat"))
        return 0;
    for (const char *line; (line = sysfile_line(&f));)
        for (int i = 0; i < 2; i++) {
            uint64_t pages, more;
            if (sysfile_value(line, memory_names[group->version - 1].file_pages[i], &pages) &&
                !__builtin_add_overflow(sum, pages, &more))
                sum = more;
        }
    sysfile_close(&f);
    return sum;
}

static uint64_t of_group(const cgroup *group)
{
    uint64_t limit, usage;
    if (!sysfile_only(group->path, memory_names[group->version - 1].limit, &limit) || limit >= LIMITED)
        return UINT64_MAX;
    if (!sysfile_only(group->path, memory_names[group->version - 1].usage, &usage))
        return limit;
    return less(limit, less(usage, reclaimable(group)));
}

static uint64_t of_groups(const char *root)
{
    cgroup group;
    uint64_t bytes = UINT64_MAX;
    if (cgroup_own(&group, root, "memory"))
        do
            bytes = least(bytes, of_group(&group));
        while (cgroup_outer(&group));
    return bytes;
}

static uint64_t of_process(const char *root)
{
    static const struct {
        int resource;
        const char *used;
    } limits[] = {{RLIMIT_AS, "VmSize:"}, {RLIMIT_DATA, "VmData:"}};
    uint64_t bytes = UINT64_MAX;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct rlimit limit;
        uint64_t used = 0;
        if (getrlimit(limits[i].resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
            continue;
        sysfile_find(root, "/proc/self/status", limits[i].used, &used);
        bytes = least(bytes, less(limit.rlim_cur, used));
    }
    return bytes;
}

uint64_t limits_memory_at(const char *root)
{
    return least(of_machine(root), least(of_groups(root), of_process(root)));
}

uint64_t limits_memory(void) { return limits_memory_at(""); }

uint64_t limits_resident(void)
{
    uint64_t bytes;
    return sysfile_find("", "/proc/self/status", "VmRSS:", &bytes) ? bytes : 0;
}

/* Microseconds of quota in each period: two files in version 1, -1 for no quota; "quota period" or "max period" in
 * version 2. */
static bool cpu_times(const cgroup *group, uint64_t *quota, uint64_t *period)
{
    if (group->version == 1)
        return sysfile_only(group->path, "/cpu.cfs_quota_us", quota) &&
               sysfile_only(group->path, "/cpu.cfs_period_us", period);
    sysfile f;
    if (!sysfile_open(&f, group->path, "/cpu.max"))
        return false;
    const char *line = sysfile_line(&f);
    bool ok = line && sysfile_number(&line, quota) && sysfile_number(&line, period) && !*line;
    sysfile_close(&f);
    return ok;
}

uint64_t limits_cpu_quota_at(const char *root)
{
    cgroup group;
    uint64_t cores = 0, quota, period;
    if (!cgroup_own(&group, root, "cpu"))
        return 0;
    do {
        if (!cpu_times(&group, &quota, &period) || quota == 0 || period == 0)
            continue;
        uint64_t whole = quota / period + (quota % period != 0);
        cores = cores ? least(cores, whole) : whole;
    } while (cgroup_outer(&group));
    return cores;
}

uint64_t limits_cpu_quota(void) { return limits_cpu_quota_at(""); }
