/* Makes GGUF files piece by piece, well-formed ones and others. */
#ifndef TESTS_SUPPORT_GGUF_BUILD_H
#define TESTS_SUPPORT_GGUF_BUILD_H

#include <stddef.h>
#include <stdint.h>

typedef struct gguf_builder {
    unsigned char bytes[8192];
    size_t size;
} gguf_builder;

void put_number(gguf_builder *b, uint64_t value, int bytes);
void put_text(gguf_builder *b, const char *text); /* its length, 8 bytes, and the text */
/* Magic, version and counts. */
void put_start(gguf_builder *b, uint32_t version, uint64_t tensors, uint64_t keys);
void put_info(gguf_builder *b, const char *name, uint32_t dims, const uint64_t *shape, uint32_t type, uint64_t offset);
/* Zeros up to a multiple of `alignment`, then bytes 0, 1, 2 … */
void put_data(gguf_builder *b, size_t alignment, size_t bytes);

#endif
