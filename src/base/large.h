/* Memory that leaves the process when it is freed. malloc may keep what it is given back: after a large buffer was
 * freed once, later ones come from its heap, which ends at what lies behind them. */
#ifndef FLUX1_BASE_LARGE_H
#define FLUX1_BASE_LARGE_H

#include <stddef.h>

/* Zeros; from LARGE_FROM bytes on in pages of their own (under AddressSanitizer, which then finds what is written
 * beside them, from malloc). NULL if there is no memory. 0 bytes: an address. */
enum { LARGE_FROM = 128 << 10 };
void *large_alloc(size_t bytes);
void large_free(void *memory, size_t bytes); /* with the same number; NULL is fine */

size_t large_page(void); /* bytes of a page */

/* Gives the pages that lie in it as a whole back until they are written again: zeros then. */
void large_rest(void *memory, size_t bytes);

/* Pages of 2 MiB, if the system has them, for such pages that are about to be written from end to end: a matrix product
 * walks many rows at once (fewer TLB misses), and what is written for the first time faults once in 2 MiB, not in 4
 * KiB. A hint. */
void large_hint(void *memory, size_t bytes);

#endif
