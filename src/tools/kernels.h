/* Where a stage's time goes: the calls of a profile (ops/profile.h), run by run, added up by operation; products,
 * attention and convolutions by their shape too. */
#ifndef FLUX1_TOOLS_KERNELS_H
#define FLUX1_TOOLS_KERNELS_H

#include "base/json_write.h"
#include "ops/profile.h"
#include "tools/peaks.h"

typedef struct kernel_table kernel_table;

/* For at most `runs` runs of a stage on `ranks` ranks. NULL: no memory. */
kernel_table *kernels_create(int ranks, int runs);
void kernels_destroy(kernel_table *t); /* NULL is fine */

/* Around each run, while no body runs: what p gets in between is one run's. */
void kernels_begin(kernel_table *t, const profile *p);
void kernels_end(kernel_table *t, const profile *p);

/* Seconds that the calls of a run would take at the peaks; 0 if the table does not have all calls or a peak is not
 * known. */
double kernels_at_peak(const kernel_table *t, const peaks *p);

/* An object a kernel, those that take longest first, into an open list; `seconds` is the stage's. Times are the mean
 * over ranks, FLOPs and bytes are sums. What no call took (the stage's other code, waiting) is the last row, "other".
 * Nothing if the table does not have all calls. */
void kernels_put(kernel_table *t, json_writer *w, const char *stage, double seconds, const peaks *p);

#endif
