/* A picture in overlapping tiles, decoded one by one and blended: the arithmetic of diffusers'
 * AutoencoderKL.tiled_decode. Each tile has its own group norms and attention, so tones may differ slightly from those
 * of a picture decoded whole. */
#ifndef FLUX1_PIPELINE_VAE_TILES_H
#define FLUX1_PIPELINE_VAE_TILES_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tile_grid {
    int64_t h, w;  /* of the latent */
    int64_t scale; /* pixels per latent row */
    int64_t side;  /* of a tile, latent rows; tiles at the right and lower border are cut off */
    int64_t step;  /* from the start of one tile to the start of the next */
} tile_grid;

/* Tiles of sample_size pixels (the VAE's training size) that overlap by a quarter. */
tile_grid tile_grid_make(int64_t h, int64_t w, int64_t scale, int64_t sample_size);

/* Whether there is more than one tile. */
bool tile_grid_divides(const tile_grid *g);

int64_t tile_rows(const tile_grid *g);
int64_t tile_columns(const tile_grid *g);

/* Latent rows or columns of tile i along a side of `whole`. */
int64_t tile_extent(const tile_grid *g, int64_t whole, int64_t i);

/* Decodes the tile of height × width latents at (y, x) into pixels [height·scale, width·scale, 3]. */
typedef flux1_status decode_tile(void *user, int64_t y, int64_t x, int64_t height, int64_t width, float *pixels);

/* Cells of the largest tile's latent. */
int64_t tile_grid_cells(const tile_grid *g);

/* Bytes that tiles_decode takes: two rows of tiles. */
size_t tile_grid_bytes(const tile_grid *g);

/* All tiles into out [h·scale, w·scale, 3]. */
flux1_status tiles_decode(const tile_grid *g, decode_tile *decode, void *user, float *out, flux1_error *err);

#endif
