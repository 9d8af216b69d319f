/* Whole requests against their goldens: every tensor that golden and dump both have, and the picture. */
#ifndef TESTS_SUPPORT_GOLDEN_RUNS_H
#define TESTS_SUPPORT_GOLDEN_RUNS_H

#include "support/golden.h"

/* Runs the golden's request and compares; `where` opens every message. */
void run_case(flux1_context *c, const flux1_model *m, golden *g, const char *where);

/* All cases of a pipeline in one context. */
void run_pipeline(flux1_context *c, const char *pipeline);

/* Every byte within 1 of the golden's `image`. */
void compare_image(const golden *g, const flux1_image *image, const char *where);

/* The largest errors of all runs so far, beside their bounds. */
void print_worst(const char *device, const char *shape);

#endif
