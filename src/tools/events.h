/* The dry run's events as a file, one JSON object a line. */
#ifndef FLUX1_TOOLS_EVENTS_H
#define FLUX1_TOOLS_EVENTS_H

#include "base/file.h"
#include "pipeline/context.h"
#include "pipeline/stages.h"

typedef struct events_file {
    file_writer file;
    flux1_status status; /* of the first line that failed: the sink itself returns nothing */
    flux1_error *err;
    /* what the line being written is of */
    const char *stage;
    const char *stage_steps; /* its name from the first step on; NULL: a stage without steps */
    int rank;
    stage_plan plan;    /* what the body records beside */
    int64_t operations; /* of plan.before, when this rank began */
} events_file;

/* The file under its temporary name. */
flux1_status events_begin(events_file *f, const char *path, flux1_error *err);

/* A line that describes the run: a whole JSON object without the newline. */
flux1_status events_header(events_file *f, const char *line);

/* A dry run of body for every rank of the context's mesh on `d`, each event a line. `t` is the job's ticker; the job's
 * session must be NULL. */
flux1_status events_stage(events_file *f, const char *stage, const char *stage_steps, const flux1_context *c,
                          const mesh_device *d, mesh_body *body, void *job, ticker *t);

flux1_status events_commit(events_file *f); /* the file has its name; on failure it is not there */
void events_abandon(events_file *f);        /* harmless when zeroed or committed */

#endif
