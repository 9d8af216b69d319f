/* The profile of one call of a context: its sessions are timed, and at the end a Chrome trace is written
 * (mesh/trace.h). */
#ifndef FLUX1_PIPELINE_PROFILING_H
#define FLUX1_PIPELINE_PROFILING_H

#include "pipeline/context.h"

/* From now on the sessions that are taken are timed. */
flux1_status profiling_begin(flux1_context *c);

/* Writes what was timed to `path`. */
flux1_status profiling_write(flux1_context *c, const char *path);

/* The end, written or not. Nothing happens if there is no profile. */
void profiling_end(flux1_context *c);

#endif
