/* Other programs: asking one for its standard output within a time, and waiting for one to end. */
#ifndef FLUX1_BASE_CHILD_H
#define FLUX1_BASE_CHILD_H

#include "base/status.h"

#include <stdbool.h>
#include <sys/types.h>

/* Runs argv[0], a path, with these arguments (ended by NULL) and empty standard input, and waits until it has ended.
 * Its standard output lies in `out`, NUL-terminated; what does not fit is dropped. Its standard error is not shown.
 * FLUX1_ERR_IO if it cannot be started, does not end within `seconds` (it is killed), or ends with another status than
 * 0; out is what it had written. */
flux1_status child_output(char *const argv[], int seconds, char *out, size_t room, flux1_error *err);

/* Waits for a child's end, until that time of clock_seconds; false when the time is over. *status: waitpid's, or 0
 * where this process lets the system forget its children. */
bool child_wait(pid_t pid, double until, int *status);

#endif
