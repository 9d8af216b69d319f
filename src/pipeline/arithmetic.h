/* What flux1_dtype came to, by name. */
#ifndef FLUX1_PIPELINE_ARITHMETIC_H
#define FLUX1_PIPELINE_ARITHMETIC_H

#include "ops/device.h"

/* "f32", "bf16", "fp8", "int8" or "int8-fast"; rounded: with " with bfp8 weights". Static text. */
const char *arithmetic_name(const ops_config *c, bool rounded);

/* That, and what else must be alike where ranks exchange and one process plans for all: with int8, what everything else
 * is computed in; of bf16, whether the processor multiplies it. "int8-fast and bf16, attention in bf16". */
enum { ARITHMETIC_TEXT = 96 };
void arithmetic_describe(const ops_config *c, const ops_device *d, char out[ARITHMETIC_TEXT]);

#endif
