/* The FLUX.1 transformer: joint (double) blocks on prompt and image, then single blocks on both together, predicting
 * the velocity of rectified flow. (diffusers: models/transformers/transformer_flux.py; BFL: src/flux/model.py.)
 *
 * Three objects, each created once and used many times: the weights of a rank, what a batch is conditioned on (prompts,
 * guidance and noise levels), and the activations of a batch (a stream). All belong to one rank and one backend.
 * Conditions and streams lie in the backend's arena from their creation on; releasing the arena frees that memory,
 * their _destroy functions only the host's part. */
#ifndef FLUX1_MODEL_DIT_H
#define FLUX1_MODEL_DIT_H

#include "model/config.h"
#include "model/loader.h"

typedef struct dit_weights dit_weights;
typedef struct dit_condition dit_condition;
typedef struct dit_stream dit_stream;

flux1_status dit_weights_create(loader *l, const dit_config *c, dit_weights **out);
void dit_weights_destroy(dit_weights *w); /* NULL is fine */

/* What the rows of a batch are conditioned on, in host memory. Read only during dit_condition_create. */
typedef struct dit_prompts {
    int64_t batch;
    int64_t text_rows; /* prompt tokens, the same for all */
    int64_t steps;
    const float *sigmas;         /* [steps + 1], the last 0; the same for all */
    const float *guidance;       /* [batch]; used where the model has the embedding */
    const tensor *prompt_embeds; /* [batch, text_rows, joint_dim]; no data in a dry run */
    const tensor *pooled;        /* [batch, pooled_dim] */
    bool negative;               /* of true CFG: its inputs are named so (ops_upload_input) */
} dit_prompts;

/* Everything that does not change from step to step: the embedded prompts, the modulation of all steps and blocks. Of
 * all passes together (p, out: [passes], 1 or 2, of the same batch and steps), so that the modulation's weights are
 * read once. FLUX1_ERR_NUMERIC if it contains a NaN or infinity. A tick a pass at the end. */
flux1_status dit_condition_create(const dit_weights *w, mesh *m, const dit_prompts *p, int passes, model_tick *tick,
                                  void *user, dit_condition **out);
void dit_condition_destroy(dit_condition *c); /* the host's part; NULL is fine */

/* The positions of a batch's rows, which RoPE encodes, text rows first (diffusers: txt_ids, img_ids). The tables are
 * read only during dit_stream_create. */
typedef struct dit_layout {
    int64_t batch, text_rows, image_rows;
    const float *text_ids, *image_ids; /* [rows, DIT_ID_AXES] */
    float step_cache; /* step_cache.h's threshold; 0: none. With one, steps may differ in their calls */
    int passes;       /* 1; 2 with a negative condition (true CFG) */
} dit_layout;

flux1_status dit_stream_create(const dit_weights *w, mesh *m, const dit_layout *l, dit_stream **out);
void dit_stream_destroy(dit_stream *s); /* NULL is fine */

/* Starts a batch of pictures from noise [batch, image_rows, in_channels], float32. May be called again for the next
 * batch. */
flux1_status dit_stream_start(const dit_weights *w, mesh *m, dit_stream *s, const tensor *noise);

/* The calls of one step, the same every time: latent += (σ[k+1] − σ[k]) · velocity(latent, σ[k]) at the step counter k.
 * negative (NULL: none): velocity = v(negative) + scale·(v(positive) − v(negative)), true CFG as diffusers has it. */
typedef struct dit_step_args {
    const dit_weights *weights;
    const dit_condition *positive, *negative;
    float scale;
    dit_stream *stream;
} dit_step_args;
flux1_status dit_step(const dit_step_args *a, mesh *m, model_tick *tick, void *user);

/* Passes since dit_stream_start whose blocks behind the first did not run. */
int64_t dit_stream_reused(const dit_stream *s);

/* Host memory of a stream, for `image_rows` rows on this rank. */
size_t dit_stream_host_bytes(const dit_config *c, const dit_layout *l, int64_t image_rows);

/* Ticks that dit_step gives. */
int64_t dit_ticks(const dit_config *c, int passes);

/* Before a step, outside what is recorded of it: keeps the latent; where this rank has begun the same step before,
 * which then failed here or elsewhere, goes back to what was kept. */
flux1_status dit_stream_keep(dit_stream *s, mesh *m, int64_t step);

/* FLUX1_ERR_NUMERIC naming the block that produced a NaN or infinity, if `slot` (from mesh_step_wait) is not −1. */
flux1_status dit_told(const dit_weights *w, mesh *m, int slot, int64_t step);

/* Collects the latents of all ranks, [batch, image_rows, in_channels], on ranks that pass a host tensor. With
 * `sigma_next` (σ[k+1]) after step k: the pictures that its velocity points at, x − σ[k+1]·v, instead. */
flux1_status dit_latent(const dit_stream *s, mesh *m, const float *sigma_next, tensor *host);

#endif
