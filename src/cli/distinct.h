/* That no two options of a run write the same file, of which only the last would be left, and none a file that another
 * one reads. */
#ifndef FLUX1_CLI_DISTINCT_H
#define FLUX1_CLI_DISTINCT_H

#include "cli/cli.h"
#include "cli/output.h"

#include <stdbool.h>
#include <stdint.h>

/* Compares the files of all options that name one to write or to read, of the command's operand, and of pictures and
 * previews if they are not NULL (`seed` is the first picture's, for names that are made up), by the place where they
 * lie. False after an error. */
bool outputs_distinct(const options *opt, const output_names *pictures, const output_names *previews, uint64_t seed);

/* The same of `path` alone, a file to write that no option names. */
bool output_is_no_input(const options *opt, const char *path);

#endif
