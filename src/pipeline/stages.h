/* The three stages as bodies of a mesh, and what the dry run says of each before it runs. Only host tensors pass
 * between stages. */
#ifndef FLUX1_PIPELINE_STAGES_H
#define FLUX1_PIPELINE_STAGES_H

#include "mesh/mesh.h"
#include "model/dit.h"
#include "model/encoders.h"
#include "model/vae.h"
#include "pipeline/folder.h"

/* What a stage will take: arena bytes of each rank, counts of rank 0, and the FLOPs that rank 0 has done at each tick.
 */
typedef struct stage_plan {
    size_t *arena; /* [ranks] */
    size_t memory; /* of all ranks */
    ops_count count;
    double *ticks;
    size_t tick_count;
} stage_plan;

/* Receives a body's ticks on rank 0: records them in the dry run, reports them in the real one. */
typedef struct ticker {
    stage_plan *recording;                                             /* the dry run's; NULL in the real run */
    flux1_status (*report)(void *user, size_t tick, flux1_error *err); /* the real run's; may be NULL */
    void *user;
    size_t next;
} ticker;

typedef struct text_job {
    const struct flux1_model *model;
    const int32_t *clip_ids, *t5_ids;
    int clip_length, t5_length;
    tensor pooled, embeds; /* out: [1, hidden], [1, length, d_model]; data NULL in the dry run */
    ticker ticker;
} text_job;
flux1_status clip_body(void *job, mesh *m);
flux1_status t5_body(void *job, mesh *m);

typedef struct dit_job {
    const struct flux1_model *model;
    dit_request request;
    dit **rank; /* [ranks], made by dit_open_body */
    const tensor *noise;
    int64_t step;
    const float *sigma_next; /* dit_latent_body: see dit_latent */
    tensor *latent;
    bool preview; /* the dry run counts previews too */
    ticker ticker;
} dit_job;
flux1_status dit_dry_body(void *job, mesh *m); /* all below, on shapes */
flux1_status dit_open_body(void *job, mesh *m);
flux1_status dit_start_body(void *job, mesh *m);
flux1_status dit_step_body(void *job, mesh *m);
flux1_status dit_step_end_body(void *job, mesh *m);
flux1_status dit_whole_step_body(void *job, mesh *m); /* both */
flux1_status dit_latent_body(void *job, mesh *m);
void dit_job_close(dit_job *job, int ranks);

typedef struct vae_job {
    const struct flux1_model *model;
    int64_t h, w; /* of the latent (decode), or height and width of the picture (encode) */
    tensor in, out;
    ticker ticker;
} vae_job;
flux1_status vae_decode_body(void *job, mesh *m);
flux1_status vae_encode_body(void *job, mesh *m);

/* Dry-runs body for every rank. `t` is the job's ticker. */
flux1_status stage_plan_make(const mesh_config *c, const mesh_device *d, mesh_body *body, void *job, ticker *t,
                             stage_plan *out, flux1_error *err);
void stage_plan_free(stage_plan *p);

/* Opens a session of the plan's size, runs body once, closes it. */
flux1_status stage_run(const mesh_config *c, const mesh_device *d, const stage_plan *p, mesh_body *body, void *job,
                       flux1_error *err);

/* Builds all models of a folder on shapes, each claiming its tensors. */
flux1_status stage_claim_all(struct flux1_model *m, flux1_error *err);

#endif
