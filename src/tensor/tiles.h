/* Tiles: the form in which Tenstorrent's cards hold matrices. A tile is 32×32 values as four faces of 16×16 (upper
 * left, upper right, lower left, lower right), each row by row; a matrix is its tiles row by row, filled up with zeros.
 *
 * bf16: each value rounded to nearest even; every NaN is 0x7fc0. bfp8 ("bfloat8_b"): the 16 values of a face's row
 * share the exponent of the largest; each is a sign and 7 bits. Bits are those of the vendor's own packing
 * (tools/oracle/tile_goldens.py), also where that is odd (tiles.c). */
#ifndef FLUX1_TENSOR_TILES_H
#define FLUX1_TENSOR_TILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TILE_SIDE = 32, TILE_FACE = 16, TILE_VALUES = TILE_SIDE * TILE_SIDE, BFP8_GROUP = TILE_FACE };

/* id, ttnn's name, bytes of a tile: bfp8's are 64 exponents (those of face 0's rows, then of the others), then 1024
 * values. */
#define TILE_FORMATS(X)                  \
    X(BF16, "bfloat16", TILE_VALUES * 2) \
    X(BFP8, "bfloat8_b", TILE_VALUES + TILE_VALUES / BFP8_GROUP)

typedef enum tile_format {
#define TILE_FORMAT_ENUM(id, name, bytes) TILE_##id,
    TILE_FORMATS(TILE_FORMAT_ENUM)
#undef TILE_FORMAT_ENUM
} tile_format;

size_t tile_bytes(tile_format f);

/* Bytes of a matrix [rows, cols], both at least 0. False if they are more than can be counted. */
bool tiles_bytes(tile_format f, int64_t rows, int64_t cols, size_t *bytes);

/* One tile: its value (r, c) is from[r * row_step + c * col_step] for r < rows and c < cols (both up to 32), and 0
 * elsewhere. With the steps exchanged a matrix is transposed on the way. */
void tile_pack(tile_format f, const float *from, int64_t row_step, int64_t col_step, int rows, int cols,
               unsigned char *out);

/* Replaces the values of `cols` columns of up to BFP8_GROUP rows, which lie `step` apart, by what their numbers mean; a
 * column is a group. Below 2^-120 the vendor's unpacking leaves the range of normal values; here it does not. */
void bfp8_round_columns(float *x, int64_t step, int rows, int64_t cols);

#endif
