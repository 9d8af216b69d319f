#include "tensor/tensor.h"

#include <string.h>

static const dtype_info table[DTYPE_COUNT] = {
#define DTYPE_ROW(name, file_name, block, bytes, decodes) [DTYPE_##name] = {file_name, block, bytes, decodes},
    DTYPE_MAP(DTYPE_ROW)
#undef DTYPE_ROW
};

const dtype_info *dtype_describe(dtype type) { return &table[type]; }

bool dtype_from_name(const char *name, size_t length, dtype *out)
{
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (strlen(table[i].name) == length && memcmp(table[i].name, name, length) == 0) {
            *out = (dtype)i;
            return true;
        }
    return false;
}
