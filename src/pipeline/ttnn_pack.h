/* Weights in the form in which cards hold them, cut by rank: packed from their recipes. */
#ifndef FLUX1_PIPELINE_TTNN_PACK_H
#define FLUX1_PIPELINE_TTNN_PACK_H

#include "base/pool.h"
#include "pipeline/ttnn_program.h"
#include "tensor/tiles.h"

/* Forms, and the worker's names for them: the matrix turned and in tiles, or as it is, row by row. */
#define TTNN_FORMS(X)               \
    X(BF16_TILES, "bfloat16.tile")  \
    X(BFP8_TILES, "bfloat8_b.tile") \
    X(BF16_ROWS, "bfloat16.row")    \
    X(F32_ROWS, "float32.row")

typedef enum ttnn_form {
#define TTNN_FORM_ENUM(id, name) TTNN_##id,
    TTNN_FORMS(TTNN_FORM_ENUM)
#undef TTNN_FORM_ENUM
        TTNN_FORM_COUNT
} ttnn_form;

/* TTNN_FORM_COUNT: there is none of that name. */
ttnn_form ttnn_form_find(const char *name);

/* A weight, or its bias, that is wanted as [rows, cols]: turned where it is in tiles. */
typedef struct ttnn_wish {
    int64_t w, rows, cols;
    bool bias;
    ttnn_form form;
} ttnn_wish;

/* All that the worker will ask of a part, if cards hold its matrices as `weights`: ttnn_wishes(…, NULL) is their
 * number. Weights that no rank has a share of are left out. */
size_t ttnn_wishes(const ttnn_program *p, ttnn_part_id part, tile_format weights, ttnn_wish *out);

/* What answers a wish: an array for each that ranks differ in, in their order. */
typedef struct ttnn_arrays {
    ttnn_form form;
    int64_t rows; /* of each recipe */
    script_vary vary;
    int count;
    size_t each, bytes;           /* of one; of all */
    const weight_recipe **recipe; /* [count]; NULL: zeros, where ranks have no share of the weight */
} ttnn_arrays;

/* FLUX1_ERR_FORMAT, without a message: the wish is for no weight of the part, or for another shape. */
flux1_status ttnn_arrays_find(const ttnn_program *p, const ttnn_wish *q, ttnn_arrays *out, flux1_error *err);
void ttnn_arrays_free(ttnn_arrays *a);

/* What determines the bytes: contents of files where these are known (kept_key_recipe), adapters, cut and form. */
void ttnn_arrays_key(const ttnn_arrays *a, uint64_t key[2]);

/* Packs all of them into `out`, one behind the other. Any status of decoding. */
flux1_status ttnn_arrays_pack(const ttnn_arrays *a, pool *workers, unsigned char *out, flux1_error *err);

#endif
