/* What this process may use of the machine: the operating system's own limits and those of its control groups. Asked
 * once a context; no allocation, any thread. */
#ifndef FLUX1_BASE_LIMITS_H
#define FLUX1_BASE_LIMITS_H

#include <stdint.h>

/* Bytes of host memory that are available to this process now, the least of
 *   - what the machine has available (MemAvailable of /proc/meminfo; elsewhere, all that is built in),
 *   - for each control group around the process, its hard limit less what is used in it and cannot be reclaimed
 *     (usage less file pages; memory.high is no limit, and swap counts as none),
 *   - RLIMIT_AS and RLIMIT_DATA less what this process has of each.
 * 0 when a limit is reached; UINT64_MAX when nothing is known. A file that is missing or not as expected limits
 * nothing. */
uint64_t limits_memory(void);

/* Cores that the control groups' CPU quotas leave this process, part of a core counted as one; 0 without a quota. */
uint64_t limits_cpu_quota(void);

/* The same where /proc and the mount points are looked for below a folder. For tests. */
uint64_t limits_memory_at(const char *root);
uint64_t limits_cpu_quota_at(const char *root);

#endif
