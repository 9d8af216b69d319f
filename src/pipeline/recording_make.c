/* A request's calls, written down rank by rank and folded. */
#include "pipeline/recording.h"

#include "mesh/script_record.h"
#include "pipeline/scheduler.h"
#include "pipeline/text_to_image.h"

#include <stdlib.h>
#include <string.h>

typedef struct maker {
    flux1_context *c;      /* the caller's */
    flux1_context *shadow; /* of the mesh that is recorded, on shapes */
    const flux1_model *m;
    const request *r;
    recording *out;
    script *rank; /* [parts][ranks] of the stage that is made */
    int ranks;    /* all of the mesh, or the first one alone */
} maker;

static char any[1]; /* stands for a result's memory, which nothing is written to */

flux1_status recording_takes(const request *r, flux1_error *err)
{
    const char *what = r->adapters.count > 0 ? "adapters (LoRA)"
                       : r->step_cache > 0   ? "a step cache"
                       : r->passes > 1       ? "true CFG"
                       : r->preview_every    ? "previews"
                                             : NULL;
    return what ? error_set(err, FLUX1_ERR_UNSUPPORTED, "a recording cannot have %s", what) : FLUX1_OK;
}

/* ---- a stage of one part or several: `first` … first + parts − 1 ---- */

typedef struct rank_job {
    void *job;     /* the body's */
    script *parts; /* where this rank's calls go: [ranks] apart */
    int apart;
} rank_job;

static flux1_status make_stage(maker *k, recording_stage first, int parts, mesh_body *body, rank_job *job)
{
    flux1_status st = FLUX1_OK;
    const mesh_config *shape = &k->out->mesh;
    const int sp = k->ranks > 1 ? shape->sp : 1, tp = k->ranks > 1 ? shape->tp : 1;
    k->rank = calloc((size_t)(parts * k->ranks), sizeof *k->rank);
    if (!k->rank)
        return error_oom(&k->c->error, 0, "a recording");
    for (int r = 0; st == FLUX1_OK && r < k->ranks; r++) {
        job->parts = k->rank + r;
        job->apart = k->ranks;
        st = mesh_script_record(shape, &k->shadow->device.config, r, body, job, &k->rank[r], &k->c->error);
    }
    for (int i = 0; st == FLUX1_OK && i < parts * k->ranks; i++) {
        script_prune(&k->rank[i]);
        st = script_end(&k->rank[i], &k->c->error);
    }
    for (int i = 0; st == FLUX1_OK && i < parts; i++)
        st = script_fold(k->rank + i * k->ranks, sp, tp, &k->out->stage[first + i], &k->c->error);
    for (int i = 0; i < parts * k->ranks; i++)
        script_free(&k->rank[i]);
    free(k->rank);
    return st;
}

static flux1_status record_clip(void *job, mesh *m) { return clip_body(((rank_job *)job)->job, m); }
static flux1_status record_t5(void *job, mesh *m) { return t5_body(((rank_job *)job)->job, m); }
static flux1_status record_vae(void *job, mesh *m) { return vae_decode_body(((rank_job *)job)->job, m); }

static flux1_status make_text(maker *k, recording_stage stage)
{
    flux1_text *ids = NULL;
    const flux1_model *m = k->m;
    TRY(text_tokenize(m, "", 0, k->r->length, &ids, NULL, NULL, &k->c->error));
    text_job text = {.model = m,
                     .clip_ids = ids->clip_ids,
                     .t5_ids = ids->t5_ids,
                     .clip_length = ids->clip_length,
                     .t5_length = ids->t5_length,
                     .pooled = {.type = DTYPE_F32, .dims = 2, .shape = {1, m->clip.hidden}, .data = any},
                     .embeds = {.type = DTYPE_F32, .dims = 3, .shape = {1, k->r->length, m->t5.d_model}, .data = any}};
    const flux1_status st =
        make_stage(k, stage, 1, stage == RECORDING_CLIP ? record_clip : record_t5, &(rank_job){.job = &text});
    flux1_text_free(ids);
    return st;
}

static flux1_status no_tick(void *user, mesh *m)
{
    (void)user, (void)m;
    return FLUX1_OK;
}

/* The step's calls alone: what a failed step is made again from, and the recording of calls, are its executor's. */
static flux1_status record_dit(void *arg, mesh *m)
{
    const rank_job *r = arg;
    dit_job *job = r->job;
    dit_rank *mine = &job->rank[m->rank];
    flux1_status st;
    TRY_CLEANUP(dit_open_body(job, m));
    TRY_CLEANUP(dit_start_body(job, m));
    ops_script_into(m->o, r->parts + r->apart);
    const dit_step_args step = {.weights = mine->weights,
                                .positive = mine->condition[0],
                                .negative = mine->condition[1],
                                .scale = job->scale,
                                .stream = mine->stream};
    TRY_CLEANUP(dit_step(&step, m, no_tick, NULL));
    ops_script_into(m->o, r->parts + 2 * r->apart);
    TRY_CLEANUP(dit_latent_body(job, m));
cleanup:
    session_model_done(NULL, BUILT_DIT, mine->weights);
    mine->weights = NULL;
    return st;
}

static flux1_status make_denoiser(maker *k)
{
    denoiser d;
    flux1_status st = denoiser_plan(k->shadow, k->m, k->r, 1, &d);
    if (st != FLUX1_OK)
        return error_set(&k->c->error, st, "%s", k->shadow->error.message);
    tensor latent = {.type = DTYPE_F32, .dims = 3, .shape = {1, d.tokens, d.channels}, .data = any};
    d.job.noise = (tensor){.type = DTYPE_F32, .dims = 3, .shape = {1, d.tokens, d.channels}};
    d.job.latent = &latent;
    st = make_stage(k, RECORDING_DIT_OPEN, 3, record_dit, &(rank_job){.job = &d.job});
    denoiser_close(&d);
    return st;
}

/* The picture is decoded whole: how it is cut to fit a memory is its executor's. */
static flux1_status make_decoder(maker *k)
{
    const int64_t scale = vae_scale(&k->m->vae), h = k->r->height / scale, w = k->r->width / scale;
    vae_job vae = {
        .model = k->m,
        .h = h,
        .w = w,
        .in = {.type = DTYPE_F32, .dims = 3, .shape = {1, h * w, k->m->vae.latent_channels}},
        .out = {
            .type = DTYPE_F32, .dims = 3, .shape = {1, h * w * scale * scale, k->m->vae.out_channels}, .data = any}};
    return make_stage(k, RECORDING_VAE, 1, record_vae, &(rank_job){.job = &vae});
}

static flux1_status describe(maker *k, const mesh_config *shape, const char *path)
{
    const request *r = k->r;
    flux1_error *err = &k->c->error;
    *k->out = (recording){.guidance = k->m->dit.guidance,
                          .mesh = *shape,
                          .width = r->width,
                          .height = r->height,
                          .steps = r->steps,
                          .clip_tokens = k->m->clip_length,
                          .t5_tokens = r->length,
                          .guidance_scale = r->guidance};
    if (path && !(k->out->path = strdup(path)))
        return error_oom(err, strlen(path), "a recording");
    if (!(k->out->sigmas = malloc((size_t)(r->steps + 1) * sizeof *k->out->sigmas)))
        return error_oom(err, 0, "a recording");
    scheduler_sigmas(&k->m->scheduler, r->steps, request_grid_h(r, k->m) * request_grid_w(r, k->m), k->out->sigmas);
    return FLUX1_OK;
}

static flux1_status make_stages(maker *k, recording_stage first, int stages)
{
    for (int i = first; i < (int)first + stages; i++)
        switch ((recording_stage)i) {
        case RECORDING_CLIP:
        case RECORDING_T5: TRY(make_text(k, (recording_stage)i)); break;
        case RECORDING_DIT_OPEN: TRY(make_denoiser(k)); break;
        case RECORDING_VAE: TRY(make_decoder(k)); break;
        default: break; /* made with dit.open */
        }
    return FLUX1_OK;
}

static flux1_status make(maker *k, const mesh_config *shape, const char *path, recording_stage first, int stages)
{
    flux1_context *c = k->c;
    if (!(k->shadow = calloc(1, sizeof *k->shadow)))
        return error_oom(&c->error, sizeof *k->shadow, "a recording");
    k->shadow->mesh = *shape;
    k->shadow->device = (mesh_device){.kind = &ops_ref_device,
                                      .config = {.arithmetic = DTYPE_F32, .threads = 1, .cancel = &c->cancel},
                                      .alike = true};
    k->shadow->ready = true;
    flux1_status st = describe(k, shape, path);
    if (st == FLUX1_OK)
        st = make_stages(k, first, stages);
    free(k->shadow);
    if (st != FLUX1_OK)
        recording_free(k->out);
    return st;
}

flux1_status recording_make_stages(flux1_context *c, const flux1_model *m, const request *r, const mesh_config *shape,
                                   recording_stage first, int stages, recording *out)
{
    maker k = {.c = c, .m = m, .r = r, .out = out, .ranks = mesh_ranks(shape)};
    return make(&k, shape, NULL, first, stages);
}

flux1_status recording_make_first(flux1_context *c, const flux1_model *m, const request *r, const mesh_config *shape,
                                  recording_stage first, int stages, recording *out)
{
    maker k = {.c = c, .m = m, .r = r, .out = out, .ranks = 1};
    return make(&k, shape, NULL, first, stages);
}

flux1_status recording_make(flux1_context *c, const flux1_model *m, const request *r, const mesh_config *shape,
                            const char *path, recording *out)
{
    maker k = {.c = c, .m = m, .r = r, .out = out, .ranks = mesh_ranks(shape)};
    TRY(recording_takes(r, &c->error));
    return make(&k, shape, path, RECORDING_CLIP, RECORDING_STAGES);
}
