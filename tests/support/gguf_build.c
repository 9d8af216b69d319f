#include "support/gguf_build.h"

#include <string.h>

void put_number(gguf_builder *b, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        b->bytes[b->size++] = (unsigned char)(value >> (8 * i));
}

void put_text(gguf_builder *b, const char *text)
{
    put_number(b, strlen(text), 8);
    memcpy(b->bytes + b->size, text, strlen(text));
    b->size += strlen(text);
}

void put_start(gguf_builder *b, uint32_t version, uint64_t tensors, uint64_t keys)
{
    *b = (gguf_builder){.bytes = "GGUF", .size = 4};
    put_number(b, version, 4);
    put_number(b, tensors, 8);
    put_number(b, keys, 8);
}

void put_info(gguf_builder *b, const char *name, uint32_t dims, const uint64_t *shape, uint32_t type, uint64_t offset)
{
    put_text(b, name);
    put_number(b, dims, 4);
    for (uint32_t i = 0; i < dims; i++)
        put_number(b, shape[i], 8);
    put_number(b, type, 4);
    put_number(b, offset, 8);
}

void put_data(gguf_builder *b, size_t alignment, size_t bytes)
{
    while (b->size % alignment)
        b->bytes[b->size++] = 0;
    for (size_t i = 0; i < bytes; i++)
        b->bytes[b->size++] = (unsigned char)i;
}
