/* The three stages as mesh bodies (mesh.h), and their plans, made by the dry run before they run. Only host tensors
 * pass between stages. */
#ifndef FLUX1_PIPELINE_STAGES_H
#define FLUX1_PIPELINE_STAGES_H

#include "model/dit.h"
#include "model/encoders.h"
#include "model/vae.h"
#include "pipeline/session.h"

/* What a stage will need. Of a stage with steps, one step is planned (stage_plan_repeat). */
typedef struct stage_plan {
    size_t *arena;                           /* [ranks]: bytes */
    size_t *scratch, *held, *block, *mapped; /* [ranks]: what `count` calls own_bytes, held_bytes … */
    size_t *in_steps;                        /* [ranks]: step_bytes. Of held, mapped and in_steps, blocks that a rank
                                                before it in the same process has too are that one's alone */
    size_t memory;                           /* of activations, of all ranks */
    size_t picture;                          /* bytes of the latent that comes in and the picture that goes out, on the
                                                host of the first process; a decoder's */
    ops_count count;                         /* of all ranks and steps */
    double flops;                            /* of rank 0 and all steps: what its ticks count */
    double *ticks;                           /* [tick_count]: rank 0's FLOPs at each tick that was planned */
    size_t tick_count, tick_room;            /* tick_room: of a sum of tiles, how many there is memory for */
    double opening,
        step; /* a stage with steps: rank 0's FLOPs before the first one (at ticks[0 … opening_ticks)), and of each */
    size_t opening_ticks;
    int64_t steps;    /* 0: a stage without */
    ops_count before; /* `count` as it was before the first step */
} stage_plan;

/* Rank 0's FLOPs at its tick number `tick`. */
double stage_plan_done(const stage_plan *p, size_t tick);

/* Receives a body's ticks on rank 0: records them in the dry run, reports them in the real one. */
typedef struct ticker {
    stage_plan *recording;                                             /* the dry run's; NULL in the real run */
    flux1_status (*report)(void *user, size_t tick, flux1_error *err); /* the real run's; may be NULL */
    void *user;
    size_t next;
} ticker;

typedef struct text_job {
    const struct flux1_model *model;
    session *session;            /* NULL: a dry run */
    const adapter_set *adapters; /* NULL: none. In the real run the session has them */
    const int32_t *clip_ids, *t5_ids;
    int clip_length, t5_length;
    int clip_rows;         /* clip_input's */
    tensor pooled, embeds; /* out: [1, hidden], [1, length, d_model]; data NULL in the dry run */
    ticker ticker;
} text_job;
flux1_status clip_body(void *job, mesh *m);
flux1_status t5_body(void *job, mesh *m);

/* One rank's part of a batch in progress. */
typedef struct dit_rank {
    dit_weights *weights;
    dit_condition *condition[2]; /* positive, negative */
    dit_stream *stream;
    bool silent[OPS_STEPS_AHEAD]; /* by step % OPS_STEPS_AHEAD: it was replayed without ticks */
} dit_rank;

typedef struct dit_job {
    const struct flux1_model *model;
    session *session;
    const adapter_set *adapters; /* as text_job's */
    dit_prompts prompts[2];      /* positive, and negative where layout.passes is 2 */
    tensor embeds[2], pooled[2]; /* theirs */
    dit_layout layout;
    float scale;    /* of true CFG */
    dit_rank *rank; /* [ranks], filled by dit_open_body */
    tensor noise;   /* [batch, tokens, channels] */
    int64_t step;
    bool failed; /* it did: the latent is to be the one before it */
    uint64_t recording;
    bool expected;    /* dit_latent_body: see dit_latent; with sigma_next */
    float sigma_next; /* σ[step + 1] */
    tensor *latent;   /* NULL: the result is another process's */
    ticker ticker;
} dit_job;
flux1_status dit_dry_body(void *job, mesh *m); /* all of the following in a dry run, with one step */
flux1_status dit_open_body(void *job, mesh *m);
flux1_status dit_start_body(void *job, mesh *m);
/* Enqueues the step. On a device that runs ahead it may not have begun when this returns; one more may be enqueued
 * before dit_step_end_body, which waits. */
flux1_status dit_step_body(void *job, mesh *m);
flux1_status dit_step_end_body(void *job, mesh *m);
flux1_status dit_whole_step_body(void *job, mesh *m); /* both */
flux1_status dit_latent_body(void *job, mesh *m);
void dit_job_close(dit_job *job, int ranks); /* conditions and streams; weights stay with the session */

typedef struct vae_job {
    const struct flux1_model *model;
    session *session;
    int64_t h, w; /* of the latent (decode), or height and width of the picture (encode) */
    int64_t band; /* vae_decode's */
    tensor in, out;
    ticker ticker;
} vae_job;
flux1_status vae_decode_body(void *job, mesh *m);
flux1_status vae_encode_body(void *job, mesh *m);

/* Dry-runs body for every rank. `t` is the job's ticker; the job's session must be NULL. */
flux1_status stage_plan_make(const mesh_config *c, const mesh_device *d, mesh_body *body, void *job, ticker *t,
                             stage_plan *out, flux1_error *err);
/* Gives a plan its tables by rank, zeroed. */
flux1_status stage_plan_create(int ranks, stage_plan *p, flux1_error *err);
/* Turns a plan of one step into one of `steps`. */
void stage_plan_repeat(stage_plan *p, int64_t steps);
/* Of a stage that runs elsewhere: it takes no memory here. */
void stage_plan_elsewhere(stage_plan *p, int ranks);
void stage_plan_free(stage_plan *p);

/* Builds all models of a folder in a dry run; each claims its tensors. */
flux1_status stage_claim_all(struct flux1_model *m, flux1_error *err);

#endif
