/* A weight is a recipe: a logical matrix [rows = outputs, cols = inputs] tiled by pieces of file tensors. A fused qkv,
 * swapped halves and a rank's slice are recipes; the bytes stay in the mapped file. A backend prepares its own form of
 * a recipe (ops/ops.h). */
#ifndef FLUX1_WEIGHTS_RECIPE_H
#define FLUX1_WEIGHTS_RECIPE_H

#include "weights/store.h"

#define RECIPE_PIECES 8

/* What may be permuted or packed by the backend. */
typedef enum weight_role {
    WEIGHT_LINEAR, /* [out, in] */
    WEIGHT_QKV,    /* a linear weight whose rows are q, k and v of `heads` heads: [3·heads·dim, in] */
    WEIGHT_VECTOR, /* [n, 1]: bias, norm weight */
    WEIGHT_CONV,   /* file tensor [out, in, kh, kw]; logical [out, in·kh·kw] in the file's order */
    WEIGHT_TABLE,  /* [entries, width]: embeddings, looked up by row */
} weight_role;

/* rows×cols elements of the source at (source_row, source_col), placed at (row, col) of the logical matrix. The source
 * is seen as a matrix [shape[0], product of the rest]. */
typedef struct recipe_piece {
    const store_tensor *source;
    int64_t source_row, source_col;
    int64_t row, col;
    int64_t rows, cols;
} recipe_piece;

typedef struct weight_recipe {
    weight_role role;
    int64_t rows, cols; /* either may be 0: a rank that holds nothing */
    int kernel;         /* WEIGHT_CONV: 1 or 3; otherwise 0 */
    int64_t heads;      /* WEIGHT_QKV */
    bool coarse;        /* WEIGHT_LINEAR, WEIGHT_QKV: may be multiplied in e4m3 (ops.h, ops_config.fp8) */
    bool int8;          /* and in int8 (ops_config.int8) */
    int count;
    recipe_piece piece[RECIPE_PIECES];
} weight_recipe;

/* The whole of a tensor: one piece, or two where its file has the halves swapped. */
weight_recipe recipe_whole(weight_role role, const store_tensor *source);

/* Rows [begin, begin + count), or columns. */
weight_recipe recipe_rows(const weight_recipe *r, int64_t begin, int64_t count);
weight_recipe recipe_cols(const weight_recipe *r, int64_t begin, int64_t count);

/* b below a (same cols), or b right of a (same rows). FLUX1_ERR_INTERNAL if they do not fit or have too many pieces. */
flux1_status recipe_stack(const weight_recipe *a, const weight_recipe *b, weight_recipe *out, flux1_error *err);
flux1_status recipe_beside(const weight_recipe *a, const weight_recipe *b, weight_recipe *out, flux1_error *err);

/* Decodes logical row `row`, columns [col, col + count), to float. */
flux1_status recipe_decode(const weight_recipe *r, int64_t row, int64_t col, int64_t count, float *out,
                           flux1_error *err);

/* The same with another tensor_decode. */
typedef flux1_status recipe_decoder(const void *arg, const tensor *t, int64_t first, int64_t count, float *out,
                                    flux1_error *err);
flux1_status recipe_decode_by(recipe_decoder *decode, const void *arg, const weight_recipe *r, int64_t row, int64_t col,
                              int64_t count, float *out, flux1_error *err);

/* The same for `rows` rows from `row`, one after the other in `out`. */
flux1_status recipe_decode_rows(const weight_recipe *r, int64_t row, int64_t rows, int64_t col, int64_t count,
                                float *out, flux1_error *err);

/* Bytes of the file this recipe covers, with scales that grow with it (tensor_scale_beside). */
size_t recipe_bytes(const weight_recipe *r);

#endif
