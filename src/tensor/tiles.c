#include "tensor/tiles.h"

#include "base/checked.h"
#include "tensor/encode.h"

#include <math.h>
#include <string.h>

enum { NUMBER_BITS = 7, DROPPED = 24 - NUMBER_BITS, NUMBER_MOST = 127, SIGN = 0x80 };
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

uint8_t bfp8_group(const float x[BFP8_GROUP], unsigned char numbers[BFP8_GROUP])
{
    uint32_t bits[BFP8_GROUP], exponent = 0;
    memcpy(bits, x, sizeof bits);
    for (int i = 0; i < BFP8_GROUP; i++) {
        const uint32_t own = bits[i] >> 23 & 0xff;
        exponent = own > exponent ? own : exponent;
    }
    for (int i = 0; i < BFP8_GROUP; i++) { /* no branches: a vector of them */
        const uint32_t own = bits[i] >> 23 & 0xff, below = exponent - own < 24 ? exponent - own : 24;
        const uint32_t m = (own ? 1u << 23 | (bits[i] & 0x7fffff) : 0) >> below;
        const uint32_t rounded = (m + (1u << (DROPPED - 1)) - 1 + (m >> DROPPED & 1)) >> DROPPED;
        const uint32_t number = rounded < NUMBER_MOST ? rounded : NUMBER_MOST;
        numbers[i] = (unsigned char)(number | (number ? bits[i] >> 24 & SIGN : 0));
    }
    return (uint8_t)exponent;
}

/* 2^(exponent - 133) times the number; the vendor's unpacking, but where that leaves the range of normal values. */
static float meaning(unsigned char number, uint8_t exponent)
{
    const int size = number & NUMBER_MOST;
    if (exponent == 255 && size >= 64)
        return number == 64 ? INFINITY : number == (SIGN | 64) ? -INFINITY : NAN;
    const float value = ldexpf((float)size, exponent - 133);
    return number & SIGN ? -value : value;
}

void bfp8_round(float *x, int64_t step, int count)
{
    float group[BFP8_GROUP] = {0};
    unsigned char numbers[BFP8_GROUP];
    for (int i = 0; i < count; i++)
        group[i] = x[i * step];
    const uint8_t exponent = bfp8_group(group, numbers);
    for (int i = 0; i < count; i++)
        x[i * step] = meaning(numbers[i], exponent);
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
