#include "support/safetensors_build.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

unsigned char *safetensors_build(const char *header, const void *data, size_t data_size, size_t *size)
{
    size_t length = strlen(header);
    unsigned char *bytes = malloc(8 + length + data_size);
    if (!bytes)
        abort();
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)length >> (8 * i));
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data_size; i++)
        bytes[8 + length + i] = data ? ((const unsigned char *)data)[i] : (unsigned char)i;
    *size = 8 + length + data_size;
    return bytes;
}
