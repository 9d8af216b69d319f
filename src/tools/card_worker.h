/* The insides of the plan of a card's memory: what a script's numbers name, what its calls share, and a function for
 * each call. */
#ifndef FLUX1_TOOLS_CARD_WORKER_H
#define FLUX1_TOOLS_CARD_WORKER_H

#include "mesh/exchange.h"
#include "pipeline/recording.h"
#include "tools/card_tensors.h"
#include "tools/machine.h"

enum { CARD_TILE = 32, CARD_BF16 = 2, CARD_F32 = 4 }; /* rows and columns; bytes of a value */

typedef struct card_weight {
    int64_t rows, cols, kernel;
    bool biased, taken; /* taken: a filter is on the device from its first convolution on */
} card_weight;

/* What stays: as what; of an exchange in which turn, along which axis and dimension. */
typedef struct card_buffer {
    int use, turn, axis, dim;
    card_tensor t;
} card_buffer;

/* A row of a table at the step's number, kept until the step ends. */
typedef struct card_now {
    int64_t act, col, cols;
} card_now;

typedef struct card_worker {
    card_space space;
    const recording *r;
    const mesh_config *shape;
    const machine *m;
    double weight_cell; /* bytes of a matrix's value */
    const script *s;
    size_t cell; /* the next one of the line that is made */
    card_act *act;
    card_weight *weight;
    int64_t *mark; /* the number that the next activation had */
    int64_t acts;  /* numbers so far */
    card_buffer *buffer;
    size_t buffers, buffer_room;
    card_now *now;
    size_t nows, now_room;
    int turn[2][2];       /* gathers, scatters; along each axis */
    bool ring;            /* between ring_begin and the cast behind it */
    bool attends;         /* its queries, keys and values are known */
    int64_t tokens, unit; /* of all ranks, in the ring; unit: a plane's width, 1 of tokens */
    mesh_axis along;
    card_operand q, k, v;
    int64_t heads;
    card_tensor *result; /* NULL: none yet */
} card_worker;

/* ---- what calls share ---- */

/* The line's next cells: a number, an activation, a weight (NULL: none). */
int64_t card_next(card_worker *w);
card_operand card_next_act(card_worker *w);
card_weight *card_next_weight(card_worker *w);

card_tensor *card_get(card_worker *w, card_operand at);
void card_put(card_worker *w, card_operand at, card_tensor *t);                            /* takes t */
double card_matrix(card_worker *w, int64_t rows, int64_t cols, double cell, bool by_rows); /* its bytes */

static inline void drop(card_worker *w, card_tensor *t) { card_drop(&w->space, t); }
static inline card_tensor *like(card_worker *w, const card_tensor *t) { return card_like(&w->space, t); }

/* x becomes the result of a call on it: for a moment both are there. card_changed_by: the call reads an activation too,
 * which may have to be cut out first. */
card_tensor *card_changed(card_worker *w, card_tensor *x);
card_tensor *card_changed_by(card_worker *w, card_tensor *x, card_operand at);

/* Room for one more element; false: there is none, which w->space.failed remembers. */
bool card_grow(card_worker *w, void **memory, size_t size, size_t count, size_t *room);

card_tensor *card_product(card_worker *w, card_tensor *x, const card_weight *by); /* takes x */

/* One that stays, if it is not there yet. use: CARD_END, or one of card_exchanges.c. */
enum { CARD_END };
void card_stay(card_worker *w, card_buffer b);

/* Axes of the mesh that ranks exchange along, innermost first. */
typedef struct card_ways {
    int count, axis[2], ranks[2];
} card_ways;
card_ways card_ways_of(const card_worker *w, mesh_axis along);

/* The shares of all ranks of an axis; keeps x. Those that are no whole tiles travel by rows; plain: as x is already. */
enum { CARD_ROWS = 2, CARD_COLS = 3 }; /* dimensions */
card_tensor *card_gathered(card_worker *w, card_tensor *x, int dim, int axis, int ranks, bool plain);

/* ---- calls ---- */

typedef void card_make_fn(card_worker *w);
/* card_calls.c, card_exchanges.c, card_planes.c */
card_make_fn make_linear, make_linear_norm, make_qkv_norm_rope, make_single_products, make_mlp, make_layer_norm,
    make_rms_norm, make_embed, make_copy_rows, make_activate, make_add, make_euler;
card_make_fn make_gather_rows, make_gather_columns, make_reduce_rows, make_attention, make_ring_begin,
    make_attention_part, make_cast;
card_make_fn make_conv, make_norm_conv, make_upsample_conv, make_group_stats, make_group_norm, make_group_apply;

#endif
