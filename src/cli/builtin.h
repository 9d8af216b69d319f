#ifndef FLUX1_CLI_BUILTIN_H
#define FLUX1_CLI_BUILTIN_H

#include "base/builder.h"

#include <stdbool.h>
#include <stddef.h>

#define BUILTIN_PATH_MAX 4096

/* The path of the mini model's folder: in FLUX1_MODELS where the environment has it ("": nowhere); otherwise in models
 * or share/flux1/models of the folder that holds the program's folder, or in the source tree that it was built from.
 * The folders looked at are added to `looked`. False if it is in none of them. */
bool builtin_model(char *out, size_t room, builder *looked);

#endif
