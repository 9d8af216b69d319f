/* Products of small matrices of floats, for what adapters make of weights. The CPU backend's are for prepared weights,
 * and above this module. */
#ifndef FLUX1_WEIGHTS_ADAPTER_PRODUCT_H
#define FLUX1_WEIGHTS_ADAPTER_PRODUCT_H

#include <stdint.h>

/* Rows of floats, `ld` apart. */
typedef struct adapter_matrix {
    const float *at;
    int64_t ld;
} adapter_matrix;

/* out[rows][cols] += left[rows][inner] · right[inner][cols], rows of out `ld` apart. out overlaps neither. */
void adapter_product_add(adapter_matrix left, adapter_matrix right, int64_t rows, int64_t inner, int64_t cols,
                         float *out, int64_t ld);

#endif
