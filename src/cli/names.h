/* Names as people type them. */
#ifndef FLUX1_CLI_NAMES_H
#define FLUX1_CLI_NAMES_H

#include <stdbool.h>

/* The name in a list nearest to `word`, NULL if none is near. next(i) gives the i-th name, NULL behind the last. */
const char *nearest_name(const char *word, const char *(*next)(int index));

/* Whether `typed` is `name`, '_' being as good as '-'. */
bool names_equal(const char *typed, const char *name);

#endif
