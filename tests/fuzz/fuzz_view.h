/* A tensor that a parser found in the block it was given: it must lie there, and be read through where it decodes. */
#ifndef TESTS_FUZZ_VIEW_H
#define TESTS_FUZZ_VIEW_H

#include "tensor/tensor.h"

#include <stdlib.h>

static void check_view(const tensor *view, const uint8_t *data, size_t size)
{
    const uint8_t *begin = view->data;
    const size_t bytes = tensor_bytes(view);
    if (begin < data || begin > data + size || bytes > (size_t)(data + size - begin))
        abort();
    if (!tensor_decodes(view))
        return;
    float x[16];
    const int64_t elements = tensor_elements(view);
    for (int64_t first = 0; first < elements; first += 16)
        if (tensor_decode(view, first, elements - first < 16 ? elements - first : 16, x, NULL) != FLUX1_OK)
            abort();
}

#endif
