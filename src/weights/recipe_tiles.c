#include "weights/recipe_tiles.h"

#include <inttypes.h>
#include <stdlib.h>

/* The tiles of one band, whose values lie row by row. */
static void pack_band(const weight_recipe *r, tile_format f, tile_turn turn, int64_t band, const float *values,
                      unsigned char *out)
{
    const int rows = (int)i64_min(TILE_SIDE, r->rows - band * TILE_SIDE);
    const int64_t across = i64_ceil_div(r->cols, TILE_SIDE), down = recipe_bands(r);
    for (int64_t t = 0; t < across; t++) {
        const int cols = (int)i64_min(TILE_SIDE, r->cols - t * TILE_SIDE);
        const float *from = values + t * TILE_SIDE;
        if (turn == TILES_TURNED)
            tile_pack(f, from, 1, r->cols, cols, rows, out + (size_t)(t * down + band) * tile_bytes(f));
        else
            tile_pack(f, from, r->cols, 1, rows, cols, out + (size_t)(band * across + t) * tile_bytes(f));
    }
}

flux1_status recipe_tiles(const weight_recipe *r, tile_format f, tile_turn turn, int64_t first, int64_t bands,
                          unsigned char *out, flux1_error *err)
{
    size_t bytes, work;
    flux1_status st = FLUX1_OK;
    if (!tiles_bytes(f, r->rows, r->cols, &bytes) || !size_mul((size_t)r->cols, TILE_SIDE * sizeof(float), &work))
        return error_set(err, FLUX1_ERR_LIMIT, "a weight [%" PRId64 ", %" PRId64 "] in tiles is too large", r->rows,
                         r->cols);
    if (bytes == 0)
        return FLUX1_OK;
    float *values = malloc(work);
    if (!values)
        return error_oom(err, work, "packing a weight into tiles");
    for (int64_t band = first; band < first + bands && st == FLUX1_OK; band++) {
        const int64_t row = band * TILE_SIDE;
        st = recipe_decode_rows(r, row, i64_min(TILE_SIDE, r->rows - row), 0, r->cols, values, err);
        if (st == FLUX1_OK)
            pack_band(r, f, turn, band, values, out);
    }
    free(values);
    return st;
}
