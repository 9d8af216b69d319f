#include "tensor/tiles.h"

#include "base/checked.h"
#include "tensor/encode.h"

#include <math.h>
#include <string.h>

enum { NUMBER_BITS = 7, DROPPED = 24 - NUMBER_BITS, STEPS_MOST = 127, NUMBER_ONE = 64, SIGN = 0x80, CHUNK = 64 };
enum { TILE_FACES = 4, FACE_VALUES = TILE_FACE * TILE_FACE, EXPONENTS = TILE_FACES * TILE_FACE };

static const size_t bytes_of[] = {
#define TILE_FORMAT_BYTES(id, name, bytes) (bytes),
    TILE_FORMATS(TILE_FORMAT_BYTES)
#undef TILE_FORMAT_BYTES
};

size_t tile_bytes(tile_format f) { return bytes_of[f]; }

bool tiles_bytes(tile_format f, int64_t rows, int64_t cols, size_t *bytes)
{
    int64_t down, across, count;
    if (!i64_add(rows, TILE_SIDE - 1, &down) || !i64_add(cols, TILE_SIDE - 1, &across))
        return false;
    return i64_mul(down / TILE_SIDE, across / TILE_SIDE, &count) && size_mul((size_t)count, bytes_of[f], bytes);
}

/* ---- bfp8 ---- */

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static uint32_t exponent_of(float x) { return bits_of(x) >> 23 & 0xff; }

static uint32_t greater(uint32_t a, uint32_t b) { return a > b ? a : b; }

/* |x| in steps of a group of this exponent. No branches: loops over it become vectors. */
static uint32_t steps_of(float x, uint32_t exponent)
{
    const uint32_t bits = bits_of(x), own = bits >> 23 & 0xff, below = exponent - own < 24 ? exponent - own : 24;
    const uint32_t m = (own ? 1u << 23 | (bits & 0x7fffff) : 0) >> below;
    const uint32_t rounded = (m + (1u << (DROPPED - 1)) - 1 + (m >> DROPPED & 1)) >> DROPPED;
    return rounded < STEPS_MOST ? rounded : STEPS_MOST;
}

/* BFP8_GROUP values as numbers: sign, then |value| / 2^(exponent - 133) rounded to nearest, ties to even, and at most
 * 127. Returns the exponent, the largest one of the values, biased by 127.
 * As the vendor's packing does it: bits more than 23 places below the group's leading bit are dropped before rounding,
 * so what lies just above a tie counts as one; subnormal values and what rounds to 0 become +0; NaN and infinity, of
 * exponent 255, are numbers like others, and beside them ordinary values become 0. */
static uint8_t bfp8_group(const float x[BFP8_GROUP], unsigned char numbers[BFP8_GROUP])
{
    uint32_t exponent = 0;
    for (int i = 0; i < BFP8_GROUP; i++)
        exponent = greater(exponent, exponent_of(x[i]));
    for (int i = 0; i < BFP8_GROUP; i++) {
        const uint32_t steps = steps_of(x[i], exponent);
        numbers[i] = (unsigned char)(steps | (steps ? bits_of(x[i]) >> 24 & SIGN : 0));
    }
    return (uint8_t)exponent;
}

/* What a number of a group with NaN or infinity means: the vendor's unpacking. */
static float meaning_beyond(uint32_t steps)
{
    return steps > NUMBER_ONE ? NAN : steps == NUMBER_ONE ? INFINITY : ldexpf((float)steps, 255 - 133);
}

/* Columns of up to CHUNK: their exponents, then their values. */
static void round_chunk(float *x, int64_t step, int rows, int cols)
{
    uint32_t exponent[CHUNK] = {0};
    float unit[CHUNK];
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < cols; c++)
            exponent[c] = greater(exponent[c], exponent_of(x[r * step + c]));
    for (int c = 0; c < cols; c++)
        unit[c] = ldexpf(1, (int)exponent[c] - 133);
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < cols; c++) {
            const uint32_t steps = steps_of(x[r * step + c], exponent[c]);
            const float size = exponent[c] == 255 ? meaning_beyond(steps) : (float)steps * unit[c];
            x[r * step + c] = steps ? copysignf(size, x[r * step + c]) : 0;
        }
}

void bfp8_round_columns(float *x, int64_t step, int rows, int64_t cols)
{
    for (int64_t c = 0; c < cols; c += CHUNK)
        round_chunk(x + c, step, rows, (int)i64_min(CHUNK, cols - c));
}

/* ---- tiles ---- */

/* A face's values, with zeros where the tile has none. */
static void take_face(const float *from, int64_t row_step, int64_t col_step, int rows, int cols,
                      float face[TILE_FACE][TILE_FACE])
{
    if (rows < TILE_FACE || cols < TILE_FACE)
        memset(face, 0, TILE_FACE * sizeof *face);
    for (int r = 0; r < TILE_FACE && r < rows; r++)
        for (int c = 0; c < TILE_FACE && c < cols; c++)
            face[r][c] = from[r * row_step + c * col_step];
}

/* Every NaN is the same one. */
static void bf16_face(float face[TILE_FACE][TILE_FACE], unsigned char *out)
{
    for (int r = 0; r < TILE_FACE; r++)
        for (int c = 0; c < TILE_FACE; c++)
            face[r][c] = isnan(face[r][c]) ? NAN : face[r][c];
    encode_bf16(face[0], FACE_VALUES, out);
}

void tile_pack(tile_format f, const float *from, int64_t row_step, int64_t col_step, int rows, int cols,
               unsigned char *out)
{
    float face[TILE_FACE][TILE_FACE];
    for (int i = 0; i < TILE_FACES; i++) {
        const int row = i / 2 * TILE_FACE, col = i % 2 * TILE_FACE;
        const int left = cols - col, down = rows - row;
        take_face(left > 0 && down > 0 ? from + row * row_step + col * col_step : from, row_step, col_step, down, left,
                  face);
        if (f == TILE_BF16) {
            bf16_face(face, out + i * FACE_VALUES * 2);
            continue;
        }
        for (int r = 0; r < TILE_FACE; r++)
            out[i * TILE_FACE + r] = bfp8_group(face[r], out + EXPONENTS + (i * TILE_FACE + r) * BFP8_GROUP);
    }
}
