/* Jobs from being asked for to being forgotten: the queue and the history together. */
#ifndef FLUX1_SERVER_JOBS_H
#define FLUX1_SERVER_JOBS_H

#include "server/inside.h"

/* Plans the request of that model (both of which it takes over) and puts it into the queue. good: whether it could be
 * read; if not, both are only given back, and f says why already. extra: notes of whoever read the request. Release the
 * job. NULL: f says why. */
job *jobs_submit(server *s, served_model *model, job_request *request, bool good, const remarks *extra,
                 flux1_format previews, fault *f);

/* Cancels it, if it has not ended. True: it waited, and is cancelled as soon as the errands' thread has stored that;
 * one that runs ends soon. */
bool jobs_cancel(server *s, job *j);

/* Ends a job that runs. Whoever runs it still has its adapters and its model, and gives them back (plan_done). */
void jobs_end(server *s, job *j, job_state state);

/* What is left to do with a job that waited and that queue_end has just ended: the history, its adapters, the queue's
 * reference. */
void jobs_bury(server *s, job *j);

/* Writes its text, as it is now, into the history; clients are told of its pictures from then on. */
flux1_status jobs_store(server *s, job *j, flux1_error *err);

/* Its text, wherever it is: malloc'd. NULL: f says why, FAULT_NOT_FOUND where there is none. */
char *jobs_text(server *s, const char *id, fault *f);

/* {"jobs", "more"}: the newest jobs, those before job `before` (NULL: from the newest), at most `limit`, and 8 MiB of
 * texts and one job more. malloc'd. NULL: f says why. */
char *jobs_list_text(server *s, int limit, const char *before, fault *f);

#endif
