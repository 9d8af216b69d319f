/* This machine's CPU as a machine of a plan: its own kernels, run for a second or two. */
#ifndef FLUX1_TOOLS_MACHINE_CPU_H
#define FLUX1_TOOLS_MACHINE_CPU_H

#include "pipeline/context.h"
#include "tools/machine.h"

/* Fills in what a machine leaves to be measured (this_cpu): rates of the arithmetic `type`, int8's products too, with
 * the context's threads, memory, and exchanges between threads where the machine names none. Whatever else its file
 * says stays. Cancellable. */
flux1_status machine_measure(flux1_context *c, machine_dtype type, machine *m);

/* The machine "this-cpu", with rates that an earlier run of this program measured here with as many threads
 * (weights/small_cache.h), else measured now and kept. m->about says what it is: "AMD EPYC 7B13, avx2, 2 threads, f32".
 */
flux1_status machine_kept(flux1_context *c, machine_dtype type, machine *m);

/* The kept one alone; false, and *m as it was, where there is none that counts. */
bool machine_recall(const flux1_context *c, machine_dtype type, machine *m);

/* Keeps these rates for machine_kept; disturbed ones for ten minutes. No failure stops anything. */
void machine_keep(const flux1_context *c, machine_dtype type, const machine *m);

/* Of the first processor that says one; an arm64 core is known by its part's number. "" where nothing is said. */
enum { CPU_NAME = 96 };
void machine_cpu_name(char out[CPU_NAME]);

/* The name of that entry; 64 bytes are enough. */
void machine_kept_name(const flux1_context *c, machine_dtype type, char *out, size_t room);

/* The part of the processors' time that a call took, in which that many threads computed: 1 where nobody else had them.
 * More threads than processors take turns. */
double machine_processor_share(double processor_seconds, double seconds, int threads, int processors);

#endif
