#ifndef FLUX1_CLI_BUILTIN_H
#define FLUX1_CLI_BUILTIN_H

#include <stdbool.h>
#include <stddef.h>

#define BUILTIN_PATH_MAX 4096

/* The path of the mini model's folder: in FLUX1_MODELS where the environment has it; otherwise in ../models or ../share/flux1/models beside the program, or in the
 * source tree that it was built from. False if it is in none of them. */
bool builtin_model(char *out, size_t room);

#endif
