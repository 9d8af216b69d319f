/* Makes safetensors files from a header written by hand. */
#ifndef TESTS_SUPPORT_SAFETENSORS_BUILD_H
#define TESTS_SUPPORT_SAFETENSORS_BUILD_H

#include <stddef.h>

/* 8 bytes of length, the header, then `data_size` bytes 0, 1, 2 … (or `data` if given). Freed by the caller. */
unsigned char *safetensors_build(const char *header, const void *data, size_t data_size, size_t *size);

#endif
