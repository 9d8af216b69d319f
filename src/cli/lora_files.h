/* --lora FILE[:SCALE] as paths and scales. */
#ifndef FLUX1_CLI_LORA_FILES_H
#define FLUX1_CLI_LORA_FILES_H

#include "cli/options.h"
#include "flux1_tools.h"

#include <stddef.h>

/* *length: bytes of the path in `text`, up to the last colon in front of a finite number, unless a file has that name.
 * False, and an error printed, where a file and a colon are there, but no finite number behind it. */
bool lora_split(const char *text, size_t *length, float *scale);

typedef struct lora_files {
    flux1_adapter_file file[LORA_MAX];
    char *path[LORA_MAX]; /* theirs */
    int count;
} lora_files;

/* All that are given. Prints an error on failure, after which there is nothing to free; returns the exit status. */
int lora_files_of(const options *opt, lora_files *out);
void lora_files_free(lora_files *l);

#endif
