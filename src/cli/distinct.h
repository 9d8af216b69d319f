/* That no two options of a run write the same file, of which only the last would be left. */
#ifndef FLUX1_CLI_DISTINCT_H
#define FLUX1_CLI_DISTINCT_H

#include "cli/cli.h"
#include "cli/output.h"

#include <stdbool.h>
#include <stdint.h>

/* Compares the files of all options that name one to write, and of pictures and previews if they are not NULL (`seed`
 * is the first picture's, for names that are made up), by the place where they lie. False after an error. */
bool outputs_distinct(const options *opt, const output_names *pictures, const output_names *previews, uint64_t seed);

#endif
