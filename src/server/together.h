/* Which of the jobs that wait run together with the first one, as one batch of pictures: docs/serve.md has the rule. */
#ifndef FLUX1_SERVER_TOGETHER_H
#define FLUX1_SERVER_TOGETHER_H

#include "server/job.h"

enum { TOGETHER_MAX = 64 }; /* jobs at a time */

/* They are of one kind: one batch may have the pictures of both. */
bool together_fits(const job *a, const job *b);

/* Takes the first job of a list and those that run with it out of the list, in order; how many there are. most: jobs. A
 * job that is passed by another one behind it is marked, and no later one passes it again. */
int together_take(job **list, int most, job *out[TOGETHER_MAX]);

/* Of the first job's kind, how many a worker may take: its share, so that the others have some too. */
int together_share(const job *first, int workers);

#endif
