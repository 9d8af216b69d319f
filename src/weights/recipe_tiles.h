/* Recipes packed into the tiles of Tenstorrent's cards (tensor/tiles.h). */
#ifndef FLUX1_WEIGHTS_RECIPE_TILES_H
#define FLUX1_WEIGHTS_RECIPE_TILES_H

#include "base/checked.h"
#include "tensor/tiles.h"
#include "weights/recipe.h"

/* As the recipe has it, [rows, cols], or turned to [cols, rows]: what ttnn's products take of a linear layer. */
typedef enum tile_turn { TILES_PLAIN, TILES_TURNED } tile_turn;

/* Bands of TILE_SIDE rows of the recipe. */
static inline int64_t recipe_bands(const weight_recipe *r) { return i64_ceil_div(r->rows, TILE_SIDE); }

/* Packs bands [first, first + bands) into their places of `out`, the tiles of the whole matrix (tiles_bytes); other
 * bands may be packed at the same time, by other threads. FLUX1_ERR_LIMIT if the matrix has more bytes than can be
 * counted, FLUX1_ERR_MEMORY, or what decoding says. */
flux1_status recipe_tiles(const weight_recipe *r, tile_format f, tile_turn turn, int64_t first, int64_t bands,
                          unsigned char *out, flux1_error *err);

#endif
