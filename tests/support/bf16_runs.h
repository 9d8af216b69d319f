/* Whole requests in bf16 against float32 goldens, each stage from the golden's own input: how much further off we are
 * than torch's bf16. */
#ifndef TESTS_SUPPORT_BF16_RUNS_H
#define TESTS_SUPPORT_BF16_RUNS_H

#include "support/stage_runs.h"

/* Takes down one error beside torch's and prints it where it is more than 1.5 times torch's. */
void hold(const char *stage, const char *where, double ours, double torch);
/* How many were, since the program began. */
int too_far(void);

/* torch's bf16 error that the golden has for this tensor; -1: none. */
double torch_error(const store *g, const char *name);

/* All cases of a pipeline that have torch's errors, every stage held; their number. f32: a float32 context. */
int run_cases(flux1_context *c, flux1_context *f32, const flux1_model *m, const char *pipeline);

/* The largest ours/torch of each stage since forget_rows, as a table. */
void print_rows(const char *isa);
void forget_rows(void);

#endif
