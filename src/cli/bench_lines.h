/* A report of flux1 bench as lines for a pipe. */
#ifndef FLUX1_CLI_BENCH_LINES_H
#define FLUX1_CLI_BENCH_LINES_H

#include "base/status.h"

#include <stdbool.h>

/* Prints the setup on one line, then a line for each stage and below it one for each of its kernels, each complete in
 * itself: for grep and diff. *told is false, and nothing is printed, where the report has no times of stages.
 * FLUX1_ERR_FORMAT if it is not JSON. */
flux1_status bench_lines_print(const char *json, bool *told, flux1_error *err);

#endif
