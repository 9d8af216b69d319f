#include "tensor/decode.h"

#include <string.h>

static const dtype_info table[DTYPE_COUNT] = {
#define DTYPE_ROW(name, text, safetensors, ggml, block, bytes, decode, scaled) \
    [DTYPE_##name] = {text, safetensors, ggml, block, bytes, decode, scaled},
    DTYPE_MAP(DTYPE_ROW)
#undef DTYPE_ROW
};

const dtype_info *dtype_describe(dtype type) { return &table[type]; }

bool dtype_from_name(const char *name, size_t length, dtype *out)
{
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (table[i].in_safetensors && strlen(table[i].name) == length && memcmp(table[i].name, name, length) == 0) {
            *out = (dtype)i;
            return true;
        }
    return false;
}

bool dtype_from_ggml(uint32_t number, dtype *out)
{
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (table[i].ggml >= 0 && (uint32_t)table[i].ggml == number) {
            *out = (dtype)i;
            return true;
        }
    return false;
}
