/* Whole requests against their goldens: every tensor that golden and dump both have, and the picture. */
#ifndef TESTS_SUPPORT_GOLDEN_RUNS_H
#define TESTS_SUPPORT_GOLDEN_RUNS_H

#include "support/golden.h"

/* Runs the golden's request and compares; `where` opens every message. */
void run_case(flux1_context *c, const flux1_model *m, golden *g, const char *where);
/* The same; what was dumped stays at `path`. */
void run_case_to(flux1_context *c, const flux1_model *m, golden *g, const char *where, const char *path);

/* All cases of a pipeline in one context. */
void run_pipeline(flux1_context *c, const char *pipeline);

/* Every tensor that both have, row by row of its first axis; all of a negative prompt's have to be there. Returns how
 * many were compared. */
int compare_dump(const store *want, const store *dumped, const char *where);

/* Every byte within 1 of the golden's `image`. */
void compare_image(const golden *g, const flux1_image *image, const char *where);
void compare_bytes(const uint8_t *want, const flux1_image *image, const char *where);

/* The largest errors of all runs so far, beside their bounds. */
void print_worst(const char *device, const char *shape);

#endif
