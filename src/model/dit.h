/* The FLUX.1 transformer: joint (double) blocks on prompt and image, then single blocks on both together, predicting
 * the velocity of rectified flow. (diffusers: models/transformers/transformer_flux.py; BFL: src/flux/model.py.) */
#ifndef FLUX1_MODEL_DIT_H
#define FLUX1_MODEL_DIT_H

#include "model/config.h"
#include "model/loader.h"

typedef struct dit dit;

/* One picture's conditions, on the host. */
typedef struct dit_request {
    int64_t text_rows;      /* prompt tokens */
    int64_t grid_h, grid_w; /* image tokens, row-major */
    int64_t steps;
    const float *sigmas;         /* [steps + 1], the last 0 */
    float guidance;              /* used where the model has the embedding */
    const tensor *prompt_embeds; /* [1, text_rows, joint_dim] */
    const tensor *pooled;        /* [1, pooled_dim] */
} dit_request;

flux1_status dit_create(loader *l, const dit_config *c, dit **out);
void dit_destroy(dit *model);

/* Uploads, and everything that does not change from step to step: embedded prompt, RoPE table, modulation of all steps
 * and blocks. */
flux1_status dit_begin(dit *model, mesh *m, const dit_request *r, model_tick *tick, void *user);

/* A picture begins: noise [1, grid_h·grid_w, in_channels], float32. Any number of pictures may follow one dit_begin. */
flux1_status dit_start(dit *model, mesh *m, const tensor *noise);

/* Enqueues step k: latent += (σ[k+1] − σ[k]) · velocity(latent, σ[k]). On a GPU it may not even have begun when this
 * returns; one more step may be enqueued behind it before dit_step_end. */
flux1_status dit_step(dit *model, mesh *m, int64_t k, model_tick *tick, void *user);

/* Waits for step k. FLUX1_ERR_NUMERIC if it made a NaN or infinity. */
flux1_status dit_step_end(dit *model, mesh *m, int64_t k, model_tick *tick, void *user);

/* The latent of all ranks, [1, tokens, in_channels], on ranks that pass a host tensor. With `sigma_next` (σ[k+1]), the
 * picture that step k's velocity points at (x − σ[k+1]·v) in its place: call it after dit_step(k). */
flux1_status dit_latent(dit *model, mesh *m, const float *sigma_next, tensor *host);

#endif
