#include "tensor/encode.h"

static const struct {
    dtype_encoder *encode;
    float limit;
} table[DTYPE_COUNT] = {
#define ENCODE_ROW(type, encode, limit) [DTYPE_##type] = {encode, limit},
    ENCODE_MAP(ENCODE_ROW)
#undef ENCODE_ROW
};

dtype_encoder *dtype_encoder_of(dtype type, float *limit)
{
    if (limit)
        *limit = table[type].limit;
    return table[type].encode;
}
