/* This machine's CPU as a machine of a plan: its own kernels, run for a second or two. */
#ifndef FLUX1_TOOLS_MACHINE_CPU_H
#define FLUX1_TOOLS_MACHINE_CPU_H

#include "pipeline/context.h"
#include "tools/machine.h"

/* Fills in what a machine leaves to be measured (this_cpu): rates of the arithmetic `type` (machine's numbers) with
 * the context's threads, memory, and exchanges between threads where the machine names none. Whatever else its file
 * says stays. Cancellable. */
flux1_status machine_measure(flux1_context *c, int type, machine *m);

#endif
