/* From the models' ticks to the caller's progress. Fractions and time left follow the FLOPs counted by the dry run. */
#ifndef FLUX1_PIPELINE_PROGRESS_H
#define FLUX1_PIPELINE_PROGRESS_H

#include "pipeline/request.h"
#include "pipeline/stages.h"

typedef struct progress {
    flux1_context *context;
    const request *request; /* [requests] */
    int requests;
    double total;           /* FLOPs of the whole request */
    double before;          /* of the stages done */
    const stage_plan *plan; /* of the stage that runs */
    double base;            /* FLOPs of this plan that belong to earlier pictures or to its opening */
    double began;           /* seconds: the request's start */
    flux1_progress state;
} progress;

/* Of n requests; the first one's function is called. */
void progress_begin(progress *p, flux1_context *c, const request *r, int n, int64_t images, double total_flops);

/* Starts a stage; `t` reports to p from now on. */
void progress_stage(progress *p, flux1_stage stage, const stage_plan *plan, ticker *t);

/* Adds `flops` to what is done of the request, whatever the ticks reported. */
void progress_advance(progress *p, double flops);

/* Calls the caller's function; a value other than 0 cancels, and so does a cancel of every request. */
flux1_status progress_report(progress *p, flux1_error *err);

double seconds_now(void);

#endif
