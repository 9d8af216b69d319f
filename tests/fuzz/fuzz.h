/* What a harness is: one function, called with one input after another. It returns 0; a fault is a crash, a sanitizer's
 * report or an abort. */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
