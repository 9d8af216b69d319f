/* Allocations that fail on demand: a program linked with support_failing has malloc, calloc, realloc, strdup,
 * posix_memalign and aligned_alloc of its own code go through here (the linker's --wrap). */
#ifndef TESTS_SUPPORT_FAILING_H
#define TESTS_SUPPORT_FAILING_H

#include "base/status.h"

#include <stdbool.h>

/* The allocation behind the next `count` fails, once; negative: none does. Counting begins anew. */
void failing_after(long count);
long failing_asked(void);  /* allocations since then */
bool failing_failed(void); /* the failure has come */

/* Runs `run` whole, then with each of its allocations failing once (beyond `most` of them evenly chosen ones): every
 * time it must end in FLUX1_ERR_MEMORY with a message. Returns how many allocations it makes. */
long failing_each(flux1_status (*run)(void *user, flux1_error *err), void *user, long most);

#endif
