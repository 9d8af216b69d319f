/* Whether a request can be served, before it waits for that: adapters, sizes, and the memory of every stage. */
#ifndef FLUX1_SERVER_JOB_PLAN_H
#define FLUX1_SERVER_JOB_PLAN_H

#include "server/inside.h"

/* The library's params for a job. Borrows from it. */
void plan_params(const server *s, const job *j, flux1_generate_params *out);

/* A job out of a request and a use of its model, which it takes over (also on failure): its adapters opened, its size
 * rounded, what the library remarks in its notes. NULL: f says why. */
job *plan_job(server *s, served_model *model, job_request *request, fault *f);

/* For a worker: a job of a model that another one could not read since (models_note) gets that model as it is opened
 * anew, and its adapters for that. False: f says why not, and the job has what it had. */
bool plan_again(server *s, job *j, fault *f);

/* One more user of its adapters and its model, which plan_done ends. Does not wait: false, if another thread has them
 * in hand just now. The queue's lock is held, and the job has not ended. */
bool plan_hold(server *s, const job *j);

/* Ends the use of both; once for each job that plan_job has made, and for each plan_hold. */
void plan_done(server *s, job *j);

#endif
