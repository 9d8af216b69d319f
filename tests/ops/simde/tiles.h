/* The tile instructions of AMX in plain C, by the operations that Intel's manual gives for them, for kernels that are
 * compiled over this folder's immintrin.h. An instruction that would fault (tiles of no shape, operands whose shapes do
 * not fit each other) ends the program, and so do tiles that a task has left behind. */
#ifndef FLUX1_TESTS_SIMDE_TILES_H
#define FLUX1_TESTS_SIMDE_TILES_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TILES = 8, TILE_MOST_ROWS = 16, TILE_MOST_BYTES = 64 };

typedef struct emulated_tiles {
    int rows[TILES], bytes[TILES]; /* 0: no shape */
    unsigned char data[TILES][TILE_MOST_ROWS][TILE_MOST_BYTES];
} emulated_tiles;

static _Thread_local emulated_tiles tiles_now;

static void tiles_fault(const char *what)
{
    fprintf(stderr, "emulated tiles: %s\n", what);
    abort();
}

/* What is in tiles of no shape is poison. */
static inline void emulated_tilerelease(void)
{
    memset(&tiles_now, 0xff, sizeof tiles_now);
    memset(tiles_now.rows, 0, sizeof tiles_now.rows);
    memset(tiles_now.bytes, 0, sizeof tiles_now.bytes);
}

static inline void emulated_loadconfig(const void *config)
{
    const unsigned char *p = config;
    for (int t = 0; t < TILES; t++)
        if (tiles_now.rows[t])
            tiles_fault("the task before has not released its tiles");
    emulated_tilerelease();
    if (p[0] != 1)
        tiles_fault("not palette 1");
    for (int i = 1; i < 64; i++)
        if ((i < 16 || (i >= 32 && i < 48) || i >= 56) && p[i])
            tiles_fault("a reserved byte of the configuration is not 0");
    for (int t = 0; t < TILES; t++) {
        uint16_t bytes;
        memcpy(&bytes, p + 16 + 2 * t, 2);
        tiles_now.rows[t] = p[48 + t];
        tiles_now.bytes[t] = bytes;
        if (tiles_now.rows[t] > TILE_MOST_ROWS || bytes > TILE_MOST_BYTES || !tiles_now.rows[t] != !bytes)
            tiles_fault("a tile's shape is impossible");
    }
    memset(tiles_now.data, 0, sizeof tiles_now.data);
}

static inline void emulated_shaped(int t)
{
    if (!tiles_now.rows[t])
        tiles_fault("a tile without a shape is used");
}

/* Rows behind the tile's, and bytes behind a row's, become 0. */
static inline void emulated_tileload(int t, const void *base, int64_t stride)
{
    emulated_shaped(t);
    memset(tiles_now.data[t], 0, sizeof tiles_now.data[t]);
    for (int i = 0; i < tiles_now.rows[t]; i++)
        memcpy(tiles_now.data[t][i], (const unsigned char *)base + i * stride, (size_t)tiles_now.bytes[t]);
}

static inline void emulated_tilestore(int t, void *base, int64_t stride)
{
    emulated_shaped(t);
    for (int i = 0; i < tiles_now.rows[t]; i++)
        memcpy((unsigned char *)base + i * stride, tiles_now.data[t][i], (size_t)tiles_now.bytes[t]);
}

static inline void emulated_tilezero(int t)
{
    emulated_shaped(t);
    memset(tiles_now.data[t], 0, sizeof tiles_now.data[t]);
}

static inline void emulated_product_fits(int c, int a, int b)
{
    emulated_shaped(a), emulated_shaped(b), emulated_shaped(c);
    if (a == b || b == c || c == a || tiles_now.rows[c] != tiles_now.rows[a] ||
        tiles_now.bytes[a] != 4 * tiles_now.rows[b] || tiles_now.bytes[b] != tiles_now.bytes[c])
        tiles_fault("the tiles of a product do not fit each other");
}

/* The loops of products are most of what the tests over SIMDe compute: as vectors, however the kernels are compiled. */
#pragma GCC push_options
#pragma GCC optimize("O3")

/* Denormals are 0. */
__attribute__((always_inline)) static inline float emulated_flushed(float f)
{
    return fabsf(f) < 0x1p-126f ? copysignf(0, f) : f;
}

__attribute__((always_inline)) static inline float emulated_bf16(const unsigned char *p)
{
    uint16_t h;
    memcpy(&h, p, 2);
    const uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return emulated_flushed(f);
}

/* tdpbf16ps: even and odd products are summed apart, then added to each other and to c. Bytes and rows that a tile does
 * not have are 0. */
static inline void emulated_dpbf16(int c, int a, int b)
{
    float columns[2][TILE_MOST_ROWS][TILE_MOST_ROWS]; /* [half][k][n] */
    emulated_product_fits(c, a, b);
    for (int k = 0; k < TILE_MOST_ROWS; k++)
        for (int n = 0; n < TILE_MOST_ROWS; n++)
            for (int half = 0; half < 2; half++)
                columns[half][k][n] = emulated_bf16(tiles_now.data[b][k] + 4 * n + 2 * half);
    for (int m = 0; m < tiles_now.rows[c]; m++) {
        float sum[2][TILE_MOST_ROWS] = {{0}}, before[TILE_MOST_ROWS];
        memcpy(before, tiles_now.data[c][m], sizeof before);
        for (int k = 0; k < tiles_now.rows[b]; k++)
            for (int half = 0; half < 2; half++) {
                const float w = emulated_bf16(tiles_now.data[a][m] + 4 * k + 2 * half);
                for (int n = 0; n < TILE_MOST_ROWS; n++)
                    sum[half][n] = emulated_flushed(__builtin_fmaf(w, columns[half][k][n], sum[half][n]));
            }
        for (int n = 0; n < TILE_MOST_ROWS; n++)
            before[n] = emulated_flushed(emulated_flushed(before[n]) + emulated_flushed(sum[0][n] + sum[1][n]));
        memcpy(tiles_now.data[c][m], before, (size_t)tiles_now.bytes[c]);
    }
}

/* tdpbssd: bytes with a sign on both sides, exact sums that wrap. */
static inline void emulated_dpbssd(int c, int a, int b)
{
    emulated_product_fits(c, a, b);
    for (int m = 0; m < tiles_now.rows[c]; m++) {
        uint32_t sum[TILE_MOST_ROWS];
        memcpy(sum, tiles_now.data[c][m], sizeof sum);
        for (int k = 0; k < tiles_now.bytes[a]; k++) {
            const int w = (int8_t)tiles_now.data[a][m][k];
            for (int n = 0; n < TILE_MOST_ROWS; n++)
                sum[n] += (uint32_t)(w * (int8_t)tiles_now.data[b][k / 4][4 * n + k % 4]);
        }
        memcpy(tiles_now.data[c][m], sum, (size_t)tiles_now.bytes[c]);
    }
}

#pragma GCC pop_options

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#undef _tile_dpbssd
#define _tile_loadconfig(p) emulated_loadconfig(p)
#define _tile_release() emulated_tilerelease()
#define _tile_loadd(t, p, stride) emulated_tileload(t, p, stride)
#define _tile_stored(t, p, stride) emulated_tilestore(t, p, stride)
#define _tile_zero(t) emulated_tilezero(t)
#define _tile_dpbf16ps(c, a, b) emulated_dpbf16(c, a, b)
#define _tile_dpbssd(c, a, b) emulated_dpbssd(c, a, b)

#endif
