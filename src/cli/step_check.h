/* --step-cache-check: how far pictures made with the step cache are from those without. */
#ifndef FLUX1_CLI_STEP_CHECK_H
#define FLUX1_CLI_STEP_CHECK_H

#include "flux1.h"

#include <stdbool.h>
#include <stdio.h>

/* All zero at first. */
typedef struct step_check {
    FILE *full; /* the pictures made without the cache, by index: a file without a name, since memory is the run's */
    int count;
    double seconds; /* that making them took */
    bool failed;    /* to keep them: an error was printed */
} step_check;

/* Makes the request's pictures without the step cache, if both runs fit the memory. They are seen by nobody else;
 * params->progress is told. */
flux1_status step_check_make(step_check *s, flux1_context *c, const flux1_model *m,
                             const flux1_generate_params *params);

/* Of a picture from its counterpart. */
typedef struct step_distance {
    bool known;
    double relative_l2, psnr; /* dB; INFINITY: they are equal */
} step_distance;

/* Prints the distance, if there is a counterpart. */
step_distance step_check_tell(const step_check *s, const flux1_image *image);

void step_check_free(step_check *s);

#endif
