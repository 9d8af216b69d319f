#include "pipeline/arithmetic.h"

#include <stdio.h>

enum { FP8, INT8, INT8_FAST, BF16, F32, ARITHMETICS };

static int arithmetic_of(const ops_config *c)
{
    if (c->fp8)
        return FP8;
    if (c->int8)
        return c->int8 == INT8_ROTATED ? INT8_FAST : INT8;
    return c->arithmetic == DTYPE_BF16 ? BF16 : F32;
}

const char *arithmetic_name(const ops_config *c, bool rounded)
{
    static const char *const names[ARITHMETICS][2] = {{"fp8", "fp8 with bfp8 weights"},
                                                      {"int8", "int8 with bfp8 weights"},
                                                      {"int8-fast", "int8-fast with bfp8 weights"},
                                                      {"bf16", "bf16 with bfp8 weights"},
                                                      {"f32", "f32 with bfp8 weights"}};
    return names[arithmetic_of(c)][rounded];
}

void arithmetic_describe(const ops_config *c, const ops_device *d, char out[ARITHMETIC_TEXT])
{
    const ops_sizing *s = d->kind->sizing;
    const char *exact = c->arithmetic == DTYPE_BF16 ? "bf16" : "f32",
               *made_of = c->arithmetic == DTYPE_BF16 && !d->info.bf16_native ? " by products in f32" : "";
    const bool apart = c->int8 == INT8_ROTATED && s->attends && s->attends(c) == INT8_NONE;
    snprintf(out, ARITHMETIC_TEXT, "%s%s%s%s%s%s", arithmetic_name(c, c->bfp8), c->int8 ? " and " : "",
             c->int8 ? exact : "", made_of, apart ? ", attention in " : "", apart ? exact : "");
}
