/* What flux1_dtype came to, by name. */
#ifndef FLUX1_PIPELINE_ARITHMETIC_H
#define FLUX1_PIPELINE_ARITHMETIC_H

#include "ops/ops.h"

/* "f32", "bf16", "fp8", "int8" or "int8-fast"; rounded: with " with bfp8 weights". Static text. */
const char *arithmetic_name(const ops_config *c, bool rounded);

#endif
