/* What the worker for Tenstorrent's cards (tools/ttnn/flux1_ttnn.py) holds of a device: tensors, which lie in whole
 * pages (tiles of 32 × 32, or rows) over the memory's banks until nobody holds them, and activations, which are made of
 * tensors of some of their rows and columns. Its rules, and nothing of the values. */
#ifndef FLUX1_TOOLS_CARD_TENSORS_H
#define FLUX1_TOOLS_CARD_TENSORS_H

#include "ops/script.h"

typedef struct card_tensor {
    int64_t heads, rows, cols;
    double cell;  /* bytes of a value */
    bool by_rows; /* not in tiles */
    int holders;
} card_tensor;

/* Zeroed but for banks. */
typedef struct card_space {
    int banks;
    double used, most; /* bytes of all banks; most: behind any call */
    bool failed;       /* out of memory: the numbers mean nothing */
    card_tensor none;  /* what calls work on then */
} card_space;

/* Bytes of a tensor in whole pages on each bank. */
double card_bytes(const card_space *s, const card_tensor *t);

/* A new tensor, which the caller holds, like `t` in all but its holders. */
card_tensor *card_make(card_space *s, card_tensor t);
card_tensor *card_like(card_space *s, const card_tensor *t);
card_tensor *card_keep(card_tensor *t);                              /* one more holder */
void card_drop(card_space *s, card_tensor *t);                       /* one less; NULL is allowed */
void card_take(card_space *s, double bytes);                         /* what stays */
card_tensor *card_rows(card_space *s, card_tensor *t, int64_t rows); /* some rows of a tensor that is held elsewhere */

/* Functions that return a tensor give the caller a hold on it; those that say so take the caller's hold on another. */
card_tensor *card_flat(card_space *s, card_tensor *t);               /* heads side by side; takes t */
card_tensor *card_laid(card_space *s, card_tensor *t, bool by_rows); /* in tiles or by rows; keeps t */

/* A window of an activation. act −1: left out; rows, cols −1: all there are. */
typedef struct card_operand {
    int64_t act;
    act_part part;
    int64_t row, rows, col, cols;
} card_operand;

typedef struct card_piece {
    act_part part; /* PART_WHOLE: prompt and picture */
    int64_t row;   /* −1: all of the part's; otherwise some of a table, written one behind the other */
    int64_t col, cols;
    card_tensor *t;
} card_piece;

typedef struct card_act {
    int64_t rows[2], cols, height, width;
    card_piece *piece;
    size_t pieces, room;
} card_act;

/* Rows and columns that are all there become numbers, a part that is all there PART_WHOLE or the one there is. */
card_operand card_window(const card_act *a, card_operand at);

card_tensor *card_read(card_space *s, card_act *a, card_operand at);
void card_write(card_space *s, card_act *a, card_operand at, card_tensor *t); /* takes t */
void card_act_drop(card_space *s, card_act *a);                               /* its tensors and its own memory */

#endif
