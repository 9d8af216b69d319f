/* The profile of one call of a context: its sessions are timed, and at the end a Chrome trace is written
 * (mesh/trace.h). Each process times its own ranks; the leader orders that, and collects what they have timed. */
#ifndef FLUX1_PIPELINE_PROFILING_H
#define FLUX1_PIPELINE_PROFILING_H

#include "pipeline/context.h"
#include "pipeline/parcel.h"

/* From now on the sessions that are taken are timed, in all processes. */
flux1_status profiling_begin(flux1_context *c);

/* Writes what was timed to `path`. From here on the profile has the spans of all processes, on this one's clock. */
flux1_status profiling_write(flux1_context *c, const char *path);

/* The end, written or not. Nothing happens if there is no profile. */
void profiling_end(flux1_context *c);

/* In a process that follows: carries out the leader's order, with its agreement. */
void profiling_follow(flux1_context *c, parcel *p);

#endif
