/* A small recording's calls made on given values, in place of a model's and a request's: what an operation gives on a
 * device, step by step, to be compared with what it gives on "ref" (tools/ttnn/flux1_ttnn_kit.py does). */
#ifndef FLUX1_PIPELINE_TRIAL_H
#define FLUX1_PIPELINE_TRIAL_H

#include "pipeline/context.h"

typedef struct trial_request {
    const char
        *recording; /* of one part: `clip`, `t5`, the three stages of `dit`, or `vae`; the others have no lines */
    /* a safetensors file: float32 matrices by the names of inputs (ids and rows too, as whole
     * numbers: names of ids end in `.ids`, those of rows in `_row`), the
     * tensors of weights, and `output`, of the result's shape */
    const char *values;
    const char *out; /* a safetensors file: `after.1` … of each step, or of the only stage */
    int times;       /* of timed steps behind that, on cards; 0: none */
    double *seconds; /* the median of their times; 0: there were none */
} trial_request;

/* On the context's device, "ref" or cards, whose mesh has the recording's sp and tp. All calls are checked before the
 * first one is made. FLUX1_ERR_FORMAT says what is wrong with a file, FLUX1_ERR_MODEL which tensor it lacks. */
flux1_status trial_make(flux1_context *c, const trial_request *q);

#endif
