/* A run's progress on standard error: one redrawn line on a terminal, otherwise a line a stage; and the seconds each
 * stage took. */
#ifndef FLUX1_CLI_PROGRESS_H
#define FLUX1_CLI_PROGRESS_H

#include "flux1.h"

#include <stdbool.h>

#define STAGES 4 /* of flux1_stage */

typedef struct progress {
    bool quiet, terminal;
    bool started;
    int stage, image, images, steps; /* of the last call */
    double last;                     /* its time, in seconds since the request began */
    double stage_start;
    double drawn;           /* time of the last redraw */
    double seconds[STAGES]; /* spent in each stage, all images together */
} progress;

extern const char *const progress_stage_keys[STAGES]; /* "load", "text", "denoise", "decode" */

void progress_begin(progress *p, bool quiet);
void progress_update(progress *p, const flux1_progress *now);
void progress_end(progress *p, bool finished); /* wipes the line; finished: the last stage is told */

/* "3.2 s", "45 s", "3 min 05 s", "2 h 10 min" */
void duration(double seconds, char text[32]);

#endif
