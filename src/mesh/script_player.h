/* The insides of a player: what a script's numbers name, and one function for each of its calls. */
#ifndef FLUX1_MESH_SCRIPT_PLAYER_H
#define FLUX1_MESH_SCRIPT_PLAYER_H

#include "mesh/exchange.h"
#include "mesh/script_play.h"

typedef struct played_mark {
    size_t at;    /* of the arena */
    int64_t made; /* activations before it */
    bool set;
} played_mark;

typedef struct played_weight {
    weight *made; /* NULL: not prepared */
    weight_recipe w, bias;
    int64_t block;
    bool known, has_bias;
} played_weight;

/* What a number names; arrays grow with the numbers. */
struct player {
    mesh *m;
    const script_sources *from;
    const script *s;
    script_call call; /* that is made */
    size_t cell;      /* the next one of the line that is made */
    act *acts;
    int64_t *order; /* [made]: numbers of the activations that are there, oldest first */
    int64_t made;
    size_t act_room, order_room;
    played_weight *weights;
    size_t weight_room;
    block **blocks;
    size_t block_room;
    played_mark *marks;
    size_t mark_room;
    kv_ring ring;
    bool turning;   /* a ring has begun, and not all has come */
    size_t ring_at; /* of the arena: what the ring exchanges lies before it */
    bool gave;      /* the script that runs, or ran last, has made an output */
};

/* FLUX1_ERR_FORMAT "<call>: …" */
flux1_status player_refuse(const player *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Room for number `id` in an array that is zeroed where it grows. */
flux1_status player_room(const player *p, void **memory, size_t size, size_t *room, int64_t id);

/* The line's next cells: a number, a real, a text (NULL: left out), an activation, a weight, a block, … as this rank
 * has them. FLUX1_ERR_FORMAT for what is not there; player_act and player_weight may be of none, the need_ functions
 * and the others may not. */
int64_t player_take(player *p);
float player_real(player *p);
const char *player_text(player *p);
flux1_status player_act(player *p, act *out);
flux1_status player_need_act(player *p, act *out);
flux1_status player_weight(player *p, weight **out);
flux1_status player_need_weight(player *p, weight **out);
flux1_status player_linear(player *p, linear_weight *out);
flux1_status player_block(player *p, block **out);
flux1_status player_epilogue(player *p, epilogue *e);

/* Make the line's call. */
typedef flux1_status play_fn(player *p);
/* script_play_weights.c, script_play_exchanges.c, script_play_calls.c */
play_fn play_block, play_weight, play_bias, play_piece, play_prepare, play_begin, play_end;
play_fn play_gather_rows, play_gather_columns, play_reduce_rows, play_ring_begin, play_ring_receive, play_halo_row;
play_fn play_linear, play_linear_norm, play_qkv_norm_rope, play_mlp, play_single_products, play_layer_norm,
    play_rms_norm, play_head_norm_rope, play_attention, play_attention_part, play_attention_merge, play_conv,
    play_upsample_conv, play_norm_conv, play_group_norm, play_group_stats, play_group_apply, play_upsample, play_embed,
    play_activate, play_add, play_euler, play_cast, play_copy_rows;

#endif
