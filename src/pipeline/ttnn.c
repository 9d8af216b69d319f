#include "pipeline/ttnn.h"

#include "base/clock.h"
#include "base/units.h"
#include "pipeline/recording_inputs.h"
#include "pipeline/ttnn_supply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is there ---- */

static void forget_picture(ttnn *t)
{
    for (int i = 0; i < 2; i++) {
        free(t->latent[i]);
        t->latent[i] = NULL;
    }
    t->picture = NULL;
}

static void end_worker(ttnn *t)
{
    ttnn_worker_end(t->worker);
    t->worker = NULL;
    t->model = 0;
    memset(t->sent, 0, sizeof t->sent);
    forget_picture(t);
}

static flux1_status cards_check(flux1_context *c, const request *r)
{
    return r->step_cache > 0 ? error_set(&c->error, FLUX1_ERR_UNSUPPORTED, "device ttnn cannot have a step cache")
                             : FLUX1_OK;
}

/* ---- orders ---- */

/* The worker, started where there is none. */
static flux1_status start(flux1_context *c)
{
    ttnn *t = c->cards;
    return t->worker ? FLUX1_OK : ttnn_worker_start(c, t->machine, &t->mesh, t->weights, &t->worker);
}

/* What comes of an order: a lost worker is not used again. */
static flux1_status drop_if_lost(ttnn *t, flux1_status st)
{
    if (t->worker && ttnn_worker_lost(t->worker))
        end_worker(t);
    return st;
}

static flux1_status send_recording(ttnn *t, uint64_t model, ttnn_part_id part, flux1_error *err)
{
    void *memory;
    char *text;
    TRY(recording_text(&t->part[part].r, &text, err));
    const size_t bytes = strlen(text);
    flux1_status st = ttnn_worker_memory(t->worker, bytes, &memory, err);
    if (st == FLUX1_OK) {
        memcpy(memory, text, bytes);
        st = ttnn_worker_order(t->worker, NULL, "reading a recording", "recording bytes=%zu model=%llu edition=%llx",
                               bytes, (unsigned long long)model,
                               (unsigned long long)ttnn_program_edition(&t->part[part]));
    }
    free(text);
    return st;
}

/* A part's calls, at the worker. */
static flux1_status prepare(flux1_context *c, const flux1_model *m, const request *r, ttnn_part_id part)
{
    ttnn *t = c->cards;
    bool made;
    TRY(ttnn_program_make(c, m, r, &t->mesh, t->given, part, &t->part[part], &made));
    if (t->model != m->source.number) /* another model's recordings go, all of them */
        memset(t->sent, 0, sizeof t->sent);
    if (made)
        t->sent[part] = false;
    if (t->sent[part])
        return FLUX1_OK;
    TRY(drop_if_lost(t, send_recording(t, m->source.number, part, &c->error)));
    t->model = m->source.number;
    t->sent[part] = true;
    return FLUX1_OK;
}

typedef struct stage_run {
    flux1_context *c;
    ttnn_part_id part;
    recording_stage stage;
    const flux1_model *m;       /* NULL: its weights are no model's, or it asks for none */
    const script_sources *from; /* NULL: it asks for nothing */
    int64_t step;
    int times;          /* 0: it is made once; more: so many times more, each timed */
    int64_t rows, cols; /* of its result; 0: none */
    float *out;
} stage_run;

static void tell_weights(const stage_run *k, const ttnn_supplies *give, double seconds)
{
    char bytes[BYTES_TEXT], from_disk[BYTES_TEXT];
    format_bytes(bytes, sizeof bytes, give->bytes);
    format_bytes(from_disk, sizeof from_disk, give->from_disk);
    context_log(k->c, FLUX1_LOG_DETAIL, "device ttnn: %s of weights for %s in %.1f s%s%s%s", bytes,
                recording_names[k->stage], seconds, give->from_disk > 0 ? ", " : "",
                give->from_disk > 0 ? from_disk : "", give->from_disk > 0 ? " of them from the cache" : "");
}

static flux1_status order_stage(const stage_run *k, ttnn_supplies *give)
{
    flux1_context *c = k->c;
    ttnn *t = c->cards;
    const char *name = recording_names[k->stage];
    char doing[48];
    void *memory;
    const ttnn_supply supply = {.give = ttnn_supplies_give, .user = give};
    const double began = clock_seconds();
    snprintf(doing, sizeof doing, "stage %s", name);
    TRY(ttnn_worker_memory(t->worker, (size_t)(k->rows * k->cols) * sizeof(float), &memory, &c->error));
    flux1_status st = ttnn_worker_order(t->worker, k->from ? &supply : NULL, doing,
                                        "run stage=%s step=%lld times=%d rows=%lld cols=%lld", name, (long long)k->step,
                                        k->times, (long long)k->rows, (long long)k->cols);
    if (st == FLUX1_OK && k->out)
        st = ttnn_worker_result(t->worker, doing, k->rows, k->cols, k->out);
    if (give->bytes > 0) {
        tell_weights(k, give, clock_seconds() - began);
        ttnn_worker_memory_drop(t->worker);
    }
    return st;
}

static flux1_status run_stage(const stage_run *k)
{
    flux1_context *c = k->c;
    ttnn *t = c->cards;
    const ttnn_program *p = &t->part[k->part];
    if (!t->workers)
        TRY(pool_create(c->device.config.threads, &t->workers, &c->error));
    ttnn_supplies give = {.program = p, .from = k->from, .workers = t->workers};
    if (k->m)
        TRY(ttnn_disk_open(c, k->m, p, k->part, t->weights, t->workers, &give.disk));
    const flux1_status st = order_stage(k, &give);
    ttnn_disk_end(&give.disk, st == FLUX1_OK);
    sessions_tell_cache(c);
    return drop_if_lost(t, st);
}

/* ---- encoders ---- */

/* A request of this prompt length; its picture is the smallest. */
static request smallest(const flux1_model *m, int length)
{
    const int64_t unit = folder_size_multiple(m);
    return (request){.width = unit, .height = unit, .steps = 1, .length = length, .count = 1, .passes = 1};
}

static flux1_status run_encoder(flux1_context *c, const flux1_model *m, ttnn_part_id part, const text_job *job,
                                tensor *out)
{
    ttnn *t = c->cards;
    recording_inputs in;
    recording_results results;
    const recording_request nothing = {.prompt = ""};
    flux1_status st = recording_inputs_make(c, m, &t->part[part].r, "", &in, &results);
    if (st == FLUX1_OK) {
        memcpy(in.ids->clip_ids, job->clip_ids, (size_t)job->clip_length * sizeof *job->clip_ids);
        memcpy(in.ids->t5_ids, job->t5_ids, (size_t)job->t5_length * sizeof *job->t5_ids);
        in.pooled_row = clip_pooled_row(&m->clip, in.ids->clip_ids, in.ids->clip_length);
        if (part == TTNN_TEXT_T5)
            st = ttnn_program_tensor(&t->part[part], m, part, T5_BIAS_TENSOR, &in.t5_bias, &c->error);
    }
    in.stage = ttnn_first_stage(part);
    const script_sources from = recording_sources(&in, NULL);
    if (st == FLUX1_OK)
        st = recording_inputs_fill(&in, &nothing, &results);
    if (st == FLUX1_OK)
        st = run_stage(&(stage_run){.c = c,
                                    .part = part,
                                    .stage = ttnn_first_stage(part),
                                    .m = m,
                                    .from = &from,
                                    .rows = part == TTNN_TEXT_CLIP ? 1 : job->t5_length,
                                    .cols = part == TTNN_TEXT_CLIP ? m->clip.hidden : m->t5.d_model,
                                    .out = out->data});
    recording_results_free(&results);
    recording_inputs_free(&in);
    return st;
}

static flux1_status cards_encode(flux1_context *c, ttnn_part_id part, const text_job *job, tensor *out)
{
    const flux1_model *m = job->model;
    request r = smallest(m, job->t5_length);
    if (job->adapters)
        r.adapters = *job->adapters;
    TRY(start(c));
    TRY(prepare(c, m, &r, part));
    return run_encoder(c, m, part, job, out);
}

/* ---- the denoiser ---- */

static flux1_status open_picture(denoiser *d, const tensor *noise)
{
    flux1_context *c = d->context;
    ttnn *t = c->cards;
    recording_inputs in;
    recording_results results;
    const flux1_text *text = d->rows[0].text, *negative = d->rows[0].negative;
    const recording_request q = {.prompt = "", .guidance = d->rows[0].guidance};
    flux1_status st = recording_inputs_make(c, d->model, &t->part[TTNN_DENOISER].r, "", &in, &results);
    if (st == FLUX1_OK)
        st = recording_inputs_fill(&in, &q, &results);
    if (st == FLUX1_OK) {
        memcpy(in.in[IN_EMBEDS].data, text->embeds.data, tensor_bytes(&in.in[IN_EMBEDS]));
        memcpy(in.in[IN_POOLED].data, text->pooled.data, tensor_bytes(&in.in[IN_POOLED]));
        memcpy(in.in[IN_NOISE].data, noise->data, tensor_bytes(&in.in[IN_NOISE]));
    }
    if (st == FLUX1_OK && d->shape.passes > 1) {
        memcpy(in.in[IN_EMBEDS_NEGATIVE].data, negative->embeds.data, tensor_bytes(&in.in[IN_EMBEDS_NEGATIVE]));
        memcpy(in.in[IN_POOLED_NEGATIVE].data, negative->pooled.data, tensor_bytes(&in.in[IN_POOLED_NEGATIVE]));
    }
    const script_sources from = recording_sources(&in, NULL);
    if (st == FLUX1_OK)
        st = run_stage(
            &(stage_run){.c = c, .part = TTNN_DENOISER, .stage = RECORDING_DIT_OPEN, .m = d->model, .from = &from});
    recording_results_free(&results);
    recording_inputs_free(&in);
    return st;
}

/* Of previews: the latent that the next step begins with. */
static flux1_status keep_latent(denoiser *d, const float *from)
{
    ttnn *t = d->context->cards;
    const size_t bytes = (size_t)(d->tokens * d->channels) * sizeof *from;
    if (!d->previews)
        return FLUX1_OK;
    float *oldest = t->latent[1] ? t->latent[1] : malloc(bytes);
    if (!oldest)
        return error_oom(&d->context->error, bytes, "a latent");
    t->latent[1] = t->latent[0];
    t->latent[0] = oldest;
    if (from) {
        memcpy(oldest, from, bytes);
        return FLUX1_OK;
    }
    return run_stage(&(stage_run){.c = d->context,
                                  .part = TTNN_DENOISER,
                                  .stage = RECORDING_DIT_LATENT,
                                  .rows = d->tokens,
                                  .cols = d->channels,
                                  .out = oldest});
}

static flux1_status cards_start(denoiser *d, const tensor *noise)
{
    flux1_context *c = d->context;
    ttnn *t = c->cards;
    const int64_t unit = folder_size_multiple(d->model);
    const request r = {.width = d->shape.grid_w * unit,
                       .height = d->shape.grid_h * unit,
                       .steps = d->shape.steps,
                       .length = (int)d->shape.text_rows,
                       .count = 1,
                       .passes = (int)d->shape.passes,
                       .true_cfg_scale = d->shape.scale,
                       .adapters = d->adapters};
    TRY(start(c));
    forget_picture(t);
    TRY(prepare(c, d->model, &r, TTNN_DENOISER));
    TRY(open_picture(d, noise));
    t->picture = d;
    return keep_latent(d, noise->data);
}

/* Whether its picture is on the cards. */
static flux1_status check_picture(const denoiser *d)
{
    return d->context->cards->picture == d
               ? FLUX1_OK
               : error_set(&d->context->error, FLUX1_ERR_UNSUPPORTED,
                           "device ttnn has one picture at a time, and this one is not on the cards any more");
}

/* The progress of a step that is done: at its last tick. */
static flux1_status tick(denoiser *d, int64_t k)
{
    ticker *t = &d->job.ticker;
    const size_t each = d->plan.tick_count - d->plan.opening_ticks;
    t->next = d->plan.opening_ticks + (size_t)(k + 1) * each;
    return t->report && t->next ? t->report(t->user, t->next - 1, &d->context->error) : FLUX1_OK;
}

static flux1_status cards_step(denoiser *d, int64_t k)
{
    TRY(check_picture(d));
    TRY(run_stage(&(stage_run){.c = d->context, .part = TTNN_DENOISER, .stage = RECORDING_DIT_STEP, .step = k}));
    TRY(keep_latent(d, NULL));
    return tick(d, k);
}

/* x + (0 − σ)·v, where v is the step's (after − before) / (σ' − σ). */
static flux1_status expect(const denoiser *d, int64_t k, float *out)
{
    const ttnn *t = d->context->cards;
    const float *after = t->latent[0], *before = t->latent[1];
    if (!after || !before)
        return error_set(&d->context->error, FLUX1_ERR_INTERNAL, "no latents to expect a picture from");
    const float ratio = d->sigmas[k + 1] / (d->sigmas[k] - d->sigmas[k + 1]);
    for (int64_t i = 0; i < d->tokens * d->channels; i++)
        out[i] = after[i] + ratio * (after[i] - before[i]);
    return FLUX1_OK;
}

static flux1_status cards_latent(denoiser *d, int64_t expected_of, tensor *latent)
{
    TRY(check_picture(d));
    if (expected_of >= 0)
        return expect(d, expected_of, latent->data);
    return run_stage(&(stage_run){.c = d->context,
                                  .part = TTNN_DENOISER,
                                  .stage = RECORDING_DIT_LATENT,
                                  .rows = d->tokens,
                                  .cols = d->channels,
                                  .out = latent->data});
}

static void cards_rest(denoiser *d)
{
    if (d->context->cards->picture == d)
        forget_picture(d->context->cards);
}

/* ---- the decoder ---- */

static flux1_status cards_decode(decoder *d, const float *rows, float *pixels)
{
    flux1_context *c = d->context;
    const flux1_model *m = d->model;
    const tile_grid *g = &d->grid;
    request r = smallest(m, m->t5_length);
    recording_inputs in;
    recording_results results;
    r.width = g->w * g->scale;
    r.height = g->h * g->scale;
    TRY(start(c));
    TRY(prepare(c, m, &r, TTNN_DECODER));
    flux1_status st = recording_inputs_make(c, m, &c->cards->part[TTNN_DECODER].r, "", &in, &results);
    if (st == FLUX1_OK)
        st = recording_inputs_fill(&in, &(recording_request){.prompt = ""}, &results);
    if (st == FLUX1_OK) {
        const script_sources from = recording_sources(&in, NULL);
        memcpy(in.in[IN_LATENT_PLANE].data, rows, tensor_bytes(&in.in[IN_LATENT_PLANE]));
        st = run_stage(&(stage_run){.c = c,
                                    .part = TTNN_DECODER,
                                    .stage = RECORDING_VAE,
                                    .m = m,
                                    .from = &from,
                                    .rows = r.width * r.height,
                                    .cols = m->vae.out_channels,
                                    .out = pixels});
    }
    recording_results_free(&results);
    recording_inputs_free(&in);
    return st;
}

/* ---- a recording of given values ---- */

static flux1_status try_stage(flux1_context *c, ttnn_part_id part, int stage, int64_t step, const script_sources *from,
                              tensor *out)
{
    return run_stage(&(stage_run){.c = c,
                                  .part = part,
                                  .stage = (recording_stage)stage,
                                  .from = from,
                                  .step = step,
                                  .rows = out ? out->shape[0] : 0,
                                  .cols = out ? out->shape[1] : 0,
                                  .out = out ? out->data : NULL});
}

/* The worker forgets what it had of a model; this is of none, so it is of another one each time. */
flux1_status ttnn_try(flux1_context *c, recording *r, ttnn_part_id part, const script_sources *from)
{
    ttnn *t = c->cards;
    TRY(start(c));
    forget_picture(t);
    TRY(ttnn_program_take(c, r, part, from, &t->part[part]));
    memset(t->sent, 0, sizeof t->sent);
    t->model = 0;
    TRY(drop_if_lost(t, send_recording(t, --t->tried, part, &c->error)));
    return ttnn_stages(part) > 1 ? try_stage(c, part, ttnn_first_stage(part), 0, from, NULL) : FLUX1_OK;
}

flux1_status ttnn_try_step(flux1_context *c, ttnn_part_id part, int64_t step, const script_sources *from, tensor *out)
{
    const int first = ttnn_first_stage(part);
    if (ttnn_stages(part) == 1)
        return try_stage(c, part, first, 0, from, out);
    TRY(try_stage(c, part, first + 1, step, from, NULL));
    return try_stage(c, part, first + 2, 0, from, out);
}

flux1_status ttnn_try_times(flux1_context *c, ttnn_part_id part, int64_t step, int times, double *seconds)
{
    int64_t ns;
    TRY(run_stage(&(stage_run){
        .c = c, .part = part, .stage = (recording_stage)(ttnn_first_stage(part) + 1), .step = step, .times = times}));
    if (!ttnn_worker_told(c->cards->worker, "ns", &ns))
        return error_set(&c->error, FLUX1_ERR_DEVICE, "device ttnn: the worker does not tell how long the calls took");
    *seconds = (double)ns * 1e-9;
    return FLUX1_OK;
}

void ttnn_try_end(flux1_context *c, ttnn_part_id part)
{
    ttnn_program_free(&c->cards->part[part]);
    c->cards->sent[part] = false;
}

/* ---- the context's ---- */

bool ttnn_is_device(const char *name) { return name && strncmp(name, "ttnn", 4) == 0 && (!name[4] || name[4] == ':'); }

static flux1_status find_machine(flux1_context *c, const char *name, ttnn *t)
{
    cards found = {0};
    if (!*name)
        TRY(cards_find("", &found, &c->error));
    TRY(ttnn_machine_find(name, &found, &t->machine, &c->error));
    return FLUX1_OK;
}

static flux1_status find_mesh(flux1_context *c, const flux1_context_params *p, ttnn *t)
{
    char shape[32];
    const ttnn_machine *m = t->machine;
    snprintf(shape, sizeof shape, "%dx%d", m->rows, m->cols);
    TRY(mesh_parse(p->mesh && *p->mesh ? p->mesh : shape, p->sp, p->tp, &t->mesh, &c->error));
    if (mesh_ranks(&t->mesh) > m->rows * m->cols)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "mesh %dx%d: %s has %d chips", t->mesh.shape[0],
                         t->mesh.shape[1], m->name, m->rows * m->cols);
    return FLUX1_OK;
}

static const ttnn_calls calls = {.check = cards_check,
                                 .encode = cards_encode,
                                 .start = cards_start,
                                 .step = cards_step,
                                 .latent = cards_latent,
                                 .rest = cards_rest,
                                 .decode = cards_decode};

flux1_status ttnn_open(flux1_context *c, const flux1_context_params *p)
{
    const char *name = p->device + strlen("ttnn");
    ttnn *t = c->cards = calloc(1, sizeof *t);
    if (!t)
        return error_oom(&c->error, sizeof *t, "the cards");
    t->call = &calls;
    if (p->dtype == FLUX1_DTYPE_INT8 || p->dtype == FLUX1_DTYPE_INT8_FAST || p->dtype == FLUX1_DTYPE_FP8)
        return error_set(&c->error, FLUX1_ERR_UNSUPPORTED,
                         "device ttnn multiplies in bf16: dtypes int8, int8-fast and fp8 cannot be used");
    if (p->processes)
        return error_set(&c->error, FLUX1_ERR_UNSUPPORTED, "device ttnn has a mesh of its own, in one process");
    if (name[0] == ':' && !name[1])
        return error_set(&c->error, FLUX1_ERR_UNSUPPORTED,
                         "device \"%s\": a machine's name is missing behind the colon", p->device);
    TRY(find_machine(c, *name ? name + 1 : name, t));
    TRY(find_mesh(c, p, t));
    t->weights = p->weight_rounding == FLUX1_ROUNDING_BFP8 ? TILE_BFP8 : t->machine->weights;
    return FLUX1_OK;
}

void ttnn_close(flux1_context *c)
{
    ttnn *t = c->cards;
    if (!t)
        return;
    end_worker(t);
    pool_destroy(t->workers);
    for (int i = 0; i < TTNN_PART_COUNT; i++)
        ttnn_program_free(&t->part[i]);
    free(t);
    c->cards = NULL;
}
