/* Words in scripts: roles of activations and weights, activation functions, axes. */
#ifndef FLUX1_OPS_SCRIPT_NAMES_H
#define FLUX1_OPS_SCRIPT_NAMES_H

#include "ops/script.h"

/* The words of a kind, by value, ended by NULL. NULL for a kind without words. */
const char *const *script_words(script_kind kind);

#endif
