/* This machine's peaks, by type, for what `bench` measures beside them. */
#ifndef FLUX1_TOOLS_PEAKS_H
#define FLUX1_TOOLS_PEAKS_H

#include "pipeline/context.h"

/* FLOP/s (int8: operations) of all ranks' threads together that can run at once, multiply and add counting as two; 0:
 * not measured. */
typedef struct peaks {
    double exact; /* of the type that products have without int8 */
    double int8; /* exact sums of int8: of vpdpbusd where the processor has it, else of quads (int8-fast: ops/int8.h) or
                    of vpmaddwd with vpaddd */
    int threads; /* that the context computes with, at most one for each processor that it may use */
    bool bf16;   /* exact is bf16's, by the processor's own instruction; else float32's */
} peaks;

/* Those that the context's arithmetic uses, in loops on registers, a fifth of a second each; none on a device with
 * memory of its own, and none with several processes, some of which may be on other hosts. */
flux1_status peaks_measure(flux1_context *c, peaks *out);

/* "f32", "bf16" or "int8": what a call's share is of. */
const char *peaks_type(const peaks *p, bool int8);

#endif
