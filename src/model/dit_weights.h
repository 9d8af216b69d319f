/* The transformer's weights on one rank, as dit_weights.c loads them, block by block. */
#ifndef FLUX1_MODEL_DIT_WEIGHTS_H
#define FLUX1_MODEL_DIT_WEIGHTS_H

#include "model/dit.h"

#define DIT_MLP_RATIO 4

/* One stream (prompt or image) of a joint block. */
typedef struct joint_stream {
    linear_weight mod; /* hidden → 6 hidden: shift, scale, gate of attention, then of the MLP */
    linear_weight qkv, out, up, down;
    weight *norm_q, *norm_k;
} joint_stream;

typedef struct joint_block {
    held_block mods, body;
    joint_stream part[2]; /* by act_part */
    char name[48];
} joint_block;

typedef struct single_block {
    held_block mods, body;
    linear_weight mod; /* hidden → 3 hidden: shift, scale, gate */
    linear_weight qkv, up, out;
    weight *norm_q, *norm_k;
    char name[48];
} single_block;

struct dit_weights {
    dit_config config;
    block_list blocks;
    int64_t heads; /* this rank's */
    held_block embedders, final_mods, final;
    linear_weight image_in, text_in, time1, time2, guidance1, guidance2, pooled1, pooled2, final_mod, image_out;
    joint_block *joint;
    single_block *single;
    const char **names; /* by finite slot */
};

#endif
