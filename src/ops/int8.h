/* Products in int8: what ops_config.int8 means for a weight whose recipe says so. The definition, which ops/ref
 * computes as it stands here; other backends get the same whole numbers and scales (but for quads, below), and differ
 * in the order of float32 sums. A backend may leave attention in floats, which is nearer to what it stands for: AMX
 * does.
 *
 * Both operands are cut along k, from the matrix's first column, into groups. A group is whole numbers times one
 * float32 scale. A product is the sum over groups of (scale of x · scale of w) · Σ x·w, where Σ is exact in int32;
 * groups are added in float32 (ops/ref: in double), then comes the epilogue.
 *
 * INT8_FINE: groups of INT8_GROUP. Numbers that the weight's file has so (int8_stored) are taken as they are; every
 * other group, of weights and of activations, is quantised (int8_quantise). Why 32: it is the block of GGUF's Q8_0, so
 * that such a file loses nothing, and the error is that of ggml's products of Q8_0 with Q8_0 (docs/performance.md has
 * the errors of other groups).
 *
 * INT8_ROTATED: groups of INT8_LONG, eight times fewer scales, for instructions that multiply faster than scales are
 * applied. Alone that would be coarse where a group has outliers, so the values of a group are first turned by an
 * orthogonal matrix, x and w by the same, which leaves the product as it is and spreads each value over the group
 * (QuaRot, arXiv:2404.00456): signs (int8_signs), then a Walsh-Hadamard transform (int8_rotate). A last group that is
 * shorter is filled up with zeros to a power of two.
 *
 * Where instructions add four products in 16 bits (AVX2 without VNNI), a rotated group of the input is quantised in
 * quads (ops_config.int8_quads): of each eight of its numbers the first two of both halves are a quad, and the last two
 * of both; of a quad the numbers of one sign add up to no more than INT8_QUAD, so that the sums of a quad's products
 * with a weight's numbers plus 128 are within ±255·INT8_QUAD, and stay exact. For that the group's largest magnitude is
 * taken to be no less than INT8_QUAD_SHARE times Σ|x| + |Σx| of any quad: half of which its values of one sign add up
 * to; four roundings add 2 at most.
 *
 * With INT8_ROTATED, attention whose arguments say so (attention_args.int8) is in int8 too, where a head is one group:
 *   scores   a row of q's head and one of k's are rotated groups. A score is scale of q · scale of k / length · Σ,
 *            exact in int32, times attention_args.scale
 *   weights  keys are cut into blocks of INT8_KEYS, from the first. In a block, key i's weight is
 *            round(INT8_WEIGHT·e^(score − the block's highest) + int8_dither[i])
 *   values   a block of a column of v is quantised (int8_quantise); Σ weight·v is exact in int32
 * Blocks' sums, and those of their weights as they are rounded, are added times e^(the block's highest − the highest),
 * in float32 (ops/ref: in double); the quotient of the two is the output. Why the dither: a prompt is filled up with
 * tokens whose keys are nearly equal, hundreds of small weights that were all rounded the same way otherwise
 * (docs/performance.md: 1 to 9 % of the outputs; with it 0.5 to 0.8). */
#ifndef FLUX1_OPS_INT8_H
#define FLUX1_OPS_INT8_H

#include "base/checked.h"
#include "ops/ops.h"
#include "weights/recipe.h"

#include <stdint.h>

enum { INT8_GROUP = 32, INT8_LONG = 256, INT8_SHORTEST = 64 /* of rotated groups */, INT8_MOST = 127 };
enum { INT8_QUAD = 128 };
#define INT8_QUAD_SHARE (0.5f * INT8_MOST / (INT8_QUAD - 2))
enum { INT8_KEYS = 192 /* of a block; fewer than 256 */, INT8_WEIGHT = 255 /* the highest */ };

/* A group whose largest magnitude is below this is zeros with scale 0: 127 divided by it would be infinite. */
#define INT8_LEAST 0x1p-100f

/* Whole numbers of `count` values: scale = m/127 for the largest magnitude m, and each value times 127/m
 * (both divisions in float32) rounded to nearest, ties to even. If a value is not finite, the scale is NaN, so that the
 * products of the whole row are. */
void int8_quantise(const float *values, int64_t count, int8_t *numbers, float *scale);

/* Elements [first, first + count) of a tensor where its file has them as int8 with one scale, count <= INT8_GROUP: a
 * block of Q8_0, or from its begin, and int8 with a scale per row or tensor. Otherwise false, and nothing is written.
 */
bool int8_stored(const tensor *t, int64_t first, int64_t count, int8_t *numbers, float *scale);

/* The same of a recipe, where the group lies in one piece. */
bool int8_recipe_stored(const weight_recipe *r, int64_t row, int64_t col, int64_t count, int8_t *numbers, float *scale);

/* The sign that value `i` of a rotated group gets before the transform, +1 or −1: a bent function, (−1)^⟨low half of
 * i's bits, high half⟩, whose own transform is flat, so that the mean of a group, which GELU's outputs have, is spread
 * like everything else. */
extern const float int8_signs[INT8_LONG];

/* What is added to the weight of a block's key before it is rounded, within (−½, ½): the key's bits reversed (van der
 * Corput's sequence), so that neighbours' roundings cancel out. */
extern const float int8_dither[INT8_KEYS];

/* Whether attention of this head size is in int8, where it is asked for. */
static inline bool int8_attends(int8_kind kind, int64_t dim) { return kind == INT8_ROTATED && dim <= INT8_LONG; }

/* Turns a rotated group in place: signs, then Walsh-Hadamard without its factor 1/√length, as sums and differences of
 * values 1, 2, 4 … apart, in this order, in float32. length: a power of two, at most INT8_LONG. */
void int8_rotate(float *values, int64_t length);

/* The group of weights that begins at (row, col) of a recipe: `count` values, of which int8_length numbers come. A
 * rotated group's scale has the 1/length of both sides' turning. */
flux1_status int8_recipe_group(int8_kind kind, const weight_recipe *r, int64_t row, int64_t col, int64_t count,
                               int8_t *numbers, float *scale, flux1_error *err);

/* The same of `count` activations, in quads or not. */
void int8_input_group(int8_kind kind, bool quads, const float *values, int64_t count, int8_t *numbers, float *scale);

static inline int64_t int8_group(int8_kind kind) { return kind == INT8_ROTATED ? INT8_LONG : INT8_GROUP; }
static inline int64_t int8_groups(int8_kind kind, int64_t cols) { return i64_ceil_div(cols, int8_group(kind)); }

/* Numbers of a group of `count` values, and of a row of `cols`: zeros, or (rotated) what follows from zeros, fill up.
 */
int64_t int8_length(int8_kind kind, int64_t count);
int64_t int8_numbers(int8_kind kind, int64_t cols);

#endif
