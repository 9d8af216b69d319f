/* Jobs in work: one, or several whose pictures are computed together. Each has its own progress, previews, pictures and
 * end; a job that is cancelled, or whose pictures cannot be kept, leaves the others as they are. */
#ifndef FLUX1_SERVER_WORK_H
#define FLUX1_SERVER_WORK_H

#include "server/inside.h"

/* Makes their pictures on the worker's context, ends each as soon as its last picture is there, and the others at the
 * latest before it returns. The caller has references and their adapters. */
void work_run(worker *by, job *const *jobs, int count);

#endif
