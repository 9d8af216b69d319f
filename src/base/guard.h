/* Mapped files that become shorter, or whose disk fails, while they are mapped. Access to a page that is gone is a bus
 * error (SIGBUS), which would end the process. While anything is guarded, a handler of that signal puts pages of zeros
 * in place of those that are gone and notes it; whoever used the bytes asks afterwards and gives up what was made of
 * them. So any thread may read guarded bytes, within any code, and nothing is left half done by a jump.
 *
 * The handler is installed with the first guard and taken away with the last. What does not concern guarded bytes goes
 * to the handler that was there before. An application that installs its own handler meanwhile should pass on what is
 * not its own in the same way; otherwise a file that is cut ends the process, as it does without a guard. */
#ifndef FLUX1_BASE_GUARD_H
#define FLUX1_BASE_GUARD_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct guard guard;

/* Guards a mapping of whole pages that begins at `bytes`, of the file with this device and inode. FLUX1_ERR_MEMORY. */
flux1_status guard_begin(const void *bytes, size_t size, uint64_t device, uint64_t inode, guard **out,
                         flux1_error *err);

/* Whether pages of this file were found gone since guard_begin, in this mapping or another one. */
bool guard_broken(const guard *g);

/* The guarded mapping that has this address, in whole pages. false: there is none. Any thread. */
bool guard_bounds(const void *address, uintptr_t *begin, uintptr_t *end);

void guard_end(guard *g); /* before the mapping is taken away; NULL is fine */

#endif
