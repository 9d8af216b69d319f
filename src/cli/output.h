/* Names of the files a run writes. */
#ifndef FLUX1_CLI_OUTPUT_H
#define FLUX1_CLI_OUTPUT_H

#include "base/status.h"

#include <stdbool.h>

/* The name of picture `index` of `count`, malloc'd; NULL when out of memory.
 * With output: output itself, or of several pictures name-1.png, name-2.png, … Without: a name from prompt and seed
 * ("a-red-fox_seed42.png") that no file has yet ("a-red-fox_seed42-2.png", …). */
char *output_name(const char *output, const char *prompt, uint64_t seed, int index, int count);

/* --output names a PNG: refuses other picture formats' endings and "-". */
flux1_status output_check_format(const char *output, flux1_error *err);

/* A file of that name could be written here and now: makes its temporary file and removes it again. */
flux1_status output_check_writable(const char *path, flux1_error *err);

#endif
