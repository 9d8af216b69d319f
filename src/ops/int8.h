/* Products in int8: what ops_config.int8 means for a weight whose recipe says so. The definition, which ops/ref
 * computes as it stands here; other backends get the same whole numbers and scales, and differ in the order of float32
 * sums.
 *
 * Both operands are cut along k, from the matrix's first column, into groups of INT8_GROUP. A group is whole numbers
 * times one float32 scale. Numbers that the weight's file has so (int8_stored) are taken as they are; every other
 * group, of weights and of activations, is quantised (int8_quantise). A product is the sum over groups of (scale of x ·
 * scale of w) · Σ x·w, where Σ is exact in int32; groups are added in float32 (ops/ref: in double), then comes the
 * epilogue.
 *
 * Why 32: it is the block of GGUF's Q8_0, so that such a file loses nothing, and the error is that of ggml's products
 * of Q8_0 with Q8_0 (docs/performance.md has the errors of other groups). */
#ifndef FLUX1_OPS_INT8_H
#define FLUX1_OPS_INT8_H

#include "base/checked.h"
#include "weights/recipe.h"

#include <stdint.h>

enum { INT8_GROUP = 32, INT8_MOST = 127 };

/* A group whose largest magnitude is below this is zeros with scale 0: 127 divided by it would be infinite. */
#define INT8_LEAST 0x1p-100f

/* Whole numbers of `count` <= INT8_GROUP values: scale = m/127 for the largest magnitude m, and each value times 127/m
 * (both divisions in float32) rounded to nearest, ties to even. If a value is not finite, the scale is NaN, so that the
 * products of the whole row are. */
void int8_quantise(const float *values, int64_t count, int8_t *numbers, float *scale);

/* Elements [first, first + count) of a tensor where its file has them as int8 with one scale, count <= INT8_GROUP: a
 * block of Q8_0, or from its begin, and int8 with a scale per row or tensor. Otherwise false, and nothing is written.
 */
bool int8_stored(const tensor *t, int64_t first, int64_t count, int8_t *numbers, float *scale);

/* The same of a recipe, where the group lies in one piece. */
bool int8_recipe_stored(const weight_recipe *r, int64_t row, int64_t col, int64_t count, int8_t *numbers, float *scale);

/* The group of `count` values at (row, col) of a recipe, as stored or quantised. */
flux1_status int8_recipe_group(const weight_recipe *r, int64_t row, int64_t col, int64_t count, int8_t *numbers,
                               float *scale, flux1_error *err);

static inline int64_t int8_groups(int64_t cols) { return i64_ceil_div(cols, INT8_GROUP); }

#endif
