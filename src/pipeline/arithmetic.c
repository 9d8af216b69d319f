#include "pipeline/arithmetic.h"

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
