/* The part of flux1 info about a request: what each stage takes of memory, work and time. */
#ifndef FLUX1_TOOLS_INFO_REQUEST_H
#define FLUX1_TOOLS_INFO_REQUEST_H

#include "base/json_write.h"
#include "pipeline/context.h"

/* Writes the member "request": sizes, "stages" with what they hold, "fits" (the memory that there is, or max_memory),
 * and "estimate", a table with a row a stage and one for all pictures: {"stage", "memory_bytes", "peak_bytes", "flops",
 * "seconds"}; "later_peak_bytes" is what the process takes at most from its second request on. Seconds are null where
 * `machine` says why. From dry runs of all stages; sums are over all ranks. The first call on a machine measures it,
 * which takes a second or two. The request has these adapters, opened for m. */
flux1_status info_request(flux1_context *c, const flux1_model *m, const flux1_adapter_use *uses, int adapter_count,
                          const flux1_generate_params *params, json_writer *w);

#endif
