/* Scales that lie beside a tensor's stored values. */
#ifndef FLUX1_TENSOR_SCALE_H
#define FLUX1_TENSOR_SCALE_H

#include "tensor/tensor.h"

typedef enum scale_kind {
    SCALE_FACTOR, /* value · factor[0]: scaled fp8, Comfy's int8 of one scale */
    SCALE_ROWS,   /* value · factor[row] · constant: int8 with a scale per row; bitsandbytes' int8: constant 1/127 */
    SCALE_CODES   /* bitsandbytes' 4 bits: code[value] · absmax of its block, rounded to the type it was saved from */
} scale_kind;

/* Owns nothing: what it points at lies in the file. Every count has been checked against the tensor's shape. */
typedef struct tensor_scale {
    scale_kind kind;
    tensor factor; /* SCALE_FACTOR, SCALE_ROWS */
    float constant;
    int64_t row;    /* SCALE_ROWS: elements per row */
    int64_t first;  /* element of the stored tensor that the view begins with: views of rows share factors */
    float code[16]; /* SCALE_CODES */
    tensor absmax;  /* per `block` elements: floats, or U8 numbers of nested codes */
    int64_t block;
    tensor nested_code, nested_absmax; /* [256] and per `nested_block` of absmax; type F32. data NULL: not nested */
    int64_t nested_block;
    float nested_offset;
    dtype rounded; /* F32, F16, BF16 */
} tensor_scale;

/* What the stored value `at` of the view is multiplied by; *run: the number of elements from there on for which it is
 * the same (at least 1; INT64_MAX: all). */
float tensor_scale_factor(const tensor_scale *s, int64_t at, int64_t *run);

/* Scales the stored values [first, first + count) of the view in place. */
void tensor_scale_apply(const tensor_scale *s, int64_t first, int64_t count, float *values);

/* Where the scales of the stored values [first, first + count) of the view lie, and how many bytes they are. Only what
 * grows with the values counts, bitsandbytes' absmax, up to an eighth of them: 0 for a factor, or one a row; s may be
 * NULL. */
size_t tensor_scale_beside(const tensor_scale *s, int64_t first, int64_t count, const unsigned char **bytes);

#endif
