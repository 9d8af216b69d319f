/* What this process may use of the machine: the operating system's limits and those of its control groups. Called once
 * per context. No allocation; any thread. */
#ifndef FLUX1_BASE_LIMITS_H
#define FLUX1_BASE_LIMITS_H

#include <stdint.h>

/* Bytes of host memory that are available to this process now, the least of
 *   - what the machine has available (MemAvailable of /proc/meminfo; elsewhere, all that is built in),
 *   - for each control group of the process, its hard limit minus what is used in it and cannot be reclaimed (usage
 *     minus file pages; memory.high and swap are not considered),
 *   - RLIMIT_AS and RLIMIT_DATA minus what this process uses of each.
 * 0 if a limit is reached; UINT64_MAX if nothing is known. A file that is missing or not as expected is ignored. */
uint64_t limits_memory(void);

/* Bytes of memory that this process has now, mapped files' pages among them; 0 if nothing is known. */
uint64_t limits_resident(void);

/* Cores that the control groups' CPU quotas allow this process, rounded up; 0 without a quota. */
uint64_t limits_cpu_quota(void);

/* The same with /proc and the mount points below a folder. For tests. */
uint64_t limits_memory_at(const char *root);
uint64_t limits_cpu_quota_at(const char *root);

#endif
