#include "pipeline/stages.h"

#include "ops/profile.h"
#include "pipeline/alike.h"

#include <stdlib.h>
#include <string.h>

/* ---- ticks and plans ---- */

static flux1_status record_tick(stage_plan *p, mesh *m)
{
    if ((p->tick_count & (p->tick_count + 1)) == 0) { /* 0, 1, 3, 7, …: room for twice as many */
        double *more = realloc(p->ticks, 2 * (p->tick_count + 1) * sizeof *more);
        if (!more)
            return error_oom(m->err, 0, "the plan");
        p->ticks = more;
    }
    p->ticks[p->tick_count++] = ops_dry_count(m->o)->flops;
    return FLUX1_OK;
}

static flux1_status tick(void *user, mesh *m)
{
    ticker *t = user;
    if (!mesh_leads(m))
        return FLUX1_OK;
    if (t->recording)
        return record_tick(t->recording, m);
    return t->report ? t->report(t->user, t->next++, m->err) : FLUX1_OK;
}

static void add_counts(ops_count *sum, const ops_count *one)
{
    sum->arena_peak += one->arena_peak;
    sum->own_bytes += one->own_bytes;
    sum->weight_bytes += one->weight_bytes;
    sum->held_bytes += one->held_bytes;
    sum->packed_bytes += one->packed_bytes;
    sum->form_bytes = sum->form_bytes > one->form_bytes ? sum->form_bytes : one->form_bytes;
    sum->block_bytes += one->block_bytes;
    sum->mapped_bytes += one->mapped_bytes;
    sum->step_bytes += one->step_bytes;
    sum->flops += one->flops;
    sum->linear_flops += one->linear_flops;
    sum->attention_flops += one->attention_flops;
    sum->conv_flops += one->conv_flops;
    sum->exchanged += one->exchanged;
    sum->operations += one->operations;
}

flux1_status stage_plan_create(int ranks, stage_plan *p, flux1_error *err)
{
    size_t n = (size_t)ranks;
    if (!(p->arena = calloc(6 * n, sizeof *p->arena)))
        return error_oom(err, 0, "the plan");
    p->scratch = p->arena + n;
    p->held = p->scratch + n;
    p->block = p->held + n;
    p->mapped = p->block + n;
    p->in_steps = p->mapped + n;
    return FLUX1_OK;
}

/* ---- what ranks of a process have together ---- */

/* A block of weights. The ranks of a process map one file, and find the forms that one of them has made (ops/kept.h).
 */
typedef struct common_block {
    uint64_t which;
    int rank;     /* that began it last */
    int stepping; /* that began it in a step last; −1: none did */
} common_block;

/* Hears the dry runs of a process's ranks, one after the other. */
typedef struct common {
    common_block *blocks;
    size_t count, room;
    int rank;
    size_t mapped, held, in_steps; /* of the rank, what one before it has too */
    bool in_step, failed;
    ops_event_sink *then; /* whoever hears too; may be NULL */
    void *then_user;
} common;

/* A new one has no rank yet. NULL: out of memory. */
static common_block *find_block(common *c, uint64_t which)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->blocks[i].which == which)
            return &c->blocks[i];
    if (c->count == c->room) {
        const size_t room = c->room ? 2 * c->room : 64;
        common_block *more = realloc(c->blocks, room * sizeof *more);
        if (!more)
            return NULL;
        c->blocks = more;
        c->room = room;
    }
    c->blocks[c->count] = (common_block){which, -1, -1};
    return &c->blocks[c->count++];
}

static void hear_begin(common *c, const ops_event *e)
{
    common_block *b = find_block(c, e->which_weights);
    if (!b) {
        c->failed = true;
        return;
    }
    if (b->rank >= 0 && b->rank != c->rank) {
        c->mapped += e->bytes_weights;
        c->held += e->bytes_out;
    }
    b->rank = c->rank;
    if (!c->in_step)
        return;
    if (b->stepping >= 0 && b->stepping != c->rank)
        c->in_steps += e->bytes_weights;
    b->stepping = c->rank;
}

static void hear_common(void *user, const ops_event *e)
{
    common *c = user;
    if (strcmp(e->operation, "step_set") == 0)
        c->in_step = true;
    else if (strcmp(e->operation, "block_begin") == 0 && e->bytes_weights + e->bytes_out > 0)
        hear_begin(c, e);
    if (c->then)
        c->then(c->then_user, e);
}

/* The dry run of a rank, the first of its process or one behind the last. */
static flux1_status run_dry(const mesh_config *c, const mesh_device *d, int rank, mesh_body *body, void *job,
                            common *of, ops_count *count, flux1_error *err)
{
    mesh_device heard = *d;
    if (mesh_together(c, d, rank).begin == rank)
        of->count = 0;
    *of = (common){of->blocks, of->count, of->room, rank, .then = d->config.event, .then_user = d->config.event_user};
    heard.config.event = hear_common;
    heard.config.event_user = of;
    TRY(mesh_dry_run(c, &heard, rank, body, job, count, err));
    return of->failed ? error_oom(err, 0, "the plan") : FLUX1_OK;
}

/* ---- the plan ---- */

static void add_rank(stage_plan *out, int r, const ops_count *count, const common *with, bool keeps)
{
    if (r == 0)
        out->flops = count->flops;
    add_counts(&out->count, count);
    out->arena[r] = count->arena_peak;
    out->scratch[r] = count->own_bytes;
    out->held[r] = count->held_bytes - (keeps ? with->held : 0); /* others keep none in common */
    out->block[r] = count->block_bytes;
    out->mapped[r] = count->mapped_bytes - with->mapped;
    out->in_steps[r] = count->step_bytes - with->in_steps;
    out->memory += count->arena_peak;
}

static flux1_status plan_each(const mesh_config *c, const mesh_device *d, mesh_body *body, void *job, stage_plan *out,
                              flux1_error *err)
{
    common with = {0};
    ops_count count;
    flux1_status st = FLUX1_OK;
    for (int r = 0; st == FLUX1_OK && r < mesh_ranks(c); r++) {
        st = run_dry(c, d, r, body, job, &with, &count, err);
        if (st == FLUX1_OK)
            add_rank(out, r, &count, &with, d->kind->kept_limit);
    }
    free(with.blocks);
    return st;
}

static flux1_status plan_alike(const mesh_config *c, const mesh_device *d, mesh_body *body, void *job, stage_plan *out,
                               flux1_error *err)
{
    const common none = {0};
    const int ranks = mesh_ranks(c);
    rank_counts *all = calloc((size_t)ranks, sizeof *all);
    if (!all)
        return error_oom(err, 0, "the plan");
    flux1_status st = alike_run(c, d, body, job, &out->before, all, err);
    for (int r = 0; st == FLUX1_OK && r < ranks; r++) {
        add_counts(&out->before, &all[r].before);
        add_rank(out, r, &all[r].count, &none, false);
    }
    free(all);
    return st;
}

flux1_status stage_plan_make(const mesh_config *c, const mesh_device *d, mesh_body *body, void *job, ticker *t,
                             stage_plan *out, flux1_error *err)
{
    *out = (stage_plan){0};
    TRY(stage_plan_create(mesh_ranks(c), out, err));
    t->recording = out;
    const flux1_status st = (d->alike ? plan_alike : plan_each)(c, d, body, job, out, err);
    t->recording = NULL;
    t->next = 0;
    if (st != FLUX1_OK)
        stage_plan_free(out);
    return st;
}

/* a + steps·(b − a) of what adds up from step to step. */
static void repeat_counts(ops_count *b, const ops_count *a, double steps)
{
    b->flops = a->flops + steps * (b->flops - a->flops);
    b->linear_flops = a->linear_flops + steps * (b->linear_flops - a->linear_flops);
    b->attention_flops = a->attention_flops + steps * (b->attention_flops - a->attention_flops);
    b->conv_flops = a->conv_flops + steps * (b->conv_flops - a->conv_flops);
    b->exchanged = a->exchanged + (size_t)steps * (b->exchanged - a->exchanged);
    b->operations = a->operations + (int64_t)steps * (b->operations - a->operations);
}

void stage_plan_repeat(stage_plan *p, int64_t steps)
{
    p->steps = steps;
    p->step = p->flops - p->opening;
    p->flops = p->opening + (double)steps * p->step;
    repeat_counts(&p->count, &p->before, (double)steps);
}

void stage_plan_elsewhere(stage_plan *p, int ranks)
{
    ops_count *const counts[] = {&p->count, &p->before};
    memset(p->arena, 0, 6 * (size_t)ranks * sizeof *p->arena);
    p->memory = 0;
    for (int i = 0; i < 2; i++) {
        ops_count *c = counts[i];
        c->arena_peak = c->own_bytes = c->weight_bytes = c->held_bytes = c->packed_bytes = 0;
        c->block_bytes = c->mapped_bytes = c->step_bytes = c->form_bytes = 0;
    }
}

double stage_plan_done(const stage_plan *p, size_t tick)
{
    size_t in_step = p->tick_count - p->opening_ticks;
    if (p->steps == 0 || tick < p->opening_ticks)
        return tick < p->tick_count ? p->ticks[tick] : p->flops;
    size_t k = (tick - p->opening_ticks) / in_step, i = p->opening_ticks + (tick - p->opening_ticks) % in_step;
    double done = p->ticks[i] + (double)k * p->step;
    return done < p->flops ? done : p->flops;
}

void stage_plan_free(stage_plan *p)
{
    free(p->arena);
    free(p->ticks);
    *p = (stage_plan){0};
}

/* ---- bodies ---- */

/* The result goes to one rank. */
static tensor *for_rank(const mesh *m, tensor *t) { return mesh_leads(m) && t->data ? t : NULL; }

flux1_status clip_body(void *arg, mesh *m)
{
    text_job *job = arg;
    profile_open(m->o, SPAN_STAGE, "clip", -1);
    void *model = NULL;
    TRY(session_model(job->session, job->model, job->adapters, BUILT_CLIP, m, &model));
    const clip_input in = {job->clip_ids, job->clip_length, job->clip_rows};
    flux1_status st = clip_encode(model, m, &in, for_rank(m, &job->pooled), tick, &job->ticker);
    session_model_done(job->session, BUILT_CLIP, model);
    return st;
}

flux1_status t5_body(void *arg, mesh *m)
{
    text_job *job = arg;
    profile_open(m->o, SPAN_STAGE, "t5", -1);
    void *model = NULL;
    TRY(session_model(job->session, job->model, job->adapters, BUILT_T5, m, &model));
    flux1_status st = t5_encode(model, m, job->t5_ids, job->t5_length, for_rank(m, &job->embeds), tick, &job->ticker);
    session_model_done(job->session, BUILT_T5, model);
    return st;
}

/* Weights, conditions and a stream, for `job->rank` or a dry run's own. */
static flux1_status open_rank(dit_job *job, mesh *m, dit_rank *r)
{
    void *weights = NULL;
    TRY(session_model(job->session, job->model, job->adapters, BUILT_DIT, m, &weights));
    r->weights = weights;
    TRY(dit_condition_create(r->weights, m, job->prompts, job->layout.passes, tick, &job->ticker, r->condition));
    return dit_stream_create(r->weights, m, &job->layout, &r->stream);
}

static void close_rank(dit_rank *r)
{
    dit_condition_destroy(r->condition[0]);
    dit_condition_destroy(r->condition[1]);
    dit_stream_destroy(r->stream);
    *r = (dit_rank){0};
}

flux1_status dit_open_body(void *arg, mesh *m)
{
    dit_job *job = arg;
    profile_open(m->o, SPAN_STAGE, "dit open", -1);
    return open_rank(job, m, &job->rank[m->rank]);
}

flux1_status dit_start_body(void *arg, mesh *m)
{
    dit_job *job = arg;
    profile_open(m->o, SPAN_STAGE, "dit start", -1);
    const dit_rank *r = &job->rank[m->rank];
    return dit_stream_start(r->weights, m, r->stream, &job->noise);
}

typedef struct step_calls {
    dit_job *job;
    const dit_rank *rank;
} step_calls;

static flux1_status make_step_calls(void *arg, mesh *m)
{
    const step_calls *s = arg;
    const dit_rank *r = s->rank;
    dit_step_args a = {.weights = r->weights,
                       .positive = r->condition[0],
                       .negative = r->condition[1],
                       .scale = s->job->scale,
                       .stream = r->stream};
    return dit_step(&a, m, mesh_tick, NULL);
}

static flux1_status step_tick(void *arg, mesh *m)
{
    const step_calls *s = arg;
    return tick(&s->job->ticker, m);
}

static flux1_status step_of(dit_job *job, mesh *m, dit_rank *r)
{
    step_calls calls = {job, r};
    const mesh_step_calls step = {make_step_calls, step_tick, &calls, .in_parts = job->layout.step_cache > 0};
    TRY(dit_stream_keep(r->stream, m, job->step));
    return mesh_step(m, job->step, job->recording, &step, &r->silent[job->step % OPS_STEPS_AHEAD]);
}

/* What a NaN may come from beside the model's weights. */
static flux1_status told(const dit_job *job, mesh *m, const dit_rank *r, int slot)
{
    flux1_status st = dit_told(r->weights, m, slot, job->step);
    if (st == FLUX1_ERR_NUMERIC && job->session && job->session->adapters.count > 0)
        return error_append(m->err, "; or an adapter is damaged, or its scale too large");
    return st;
}

static flux1_status end_of_step(dit_job *job, mesh *m, const dit_rank *r)
{
    int slot;
    TRY(mesh_step_wait(m, job->step, &slot));
    TRY(told(job, m, r, slot));
    int64_t ticks = r->silent[job->step % OPS_STEPS_AHEAD] ? dit_ticks(&job->model->dit, job->layout.passes) : 0;
    for (int64_t i = 0; i < ticks; i++)
        TRY(tick(&job->ticker, m)); /* all at once: a step that is replayed whole has no middle */
    return FLUX1_OK;
}

flux1_status dit_step_body(void *arg, mesh *m)
{
    dit_job *job = arg;
    return step_of(job, m, &job->rank[m->rank]);
}

flux1_status dit_step_end_body(void *arg, mesh *m)
{
    dit_job *job = arg;
    return end_of_step(job, m, &job->rank[m->rank]);
}

flux1_status dit_whole_step_body(void *arg, mesh *m)
{
    TRY(dit_step_body(arg, m));
    return dit_step_end_body(arg, m);
}

flux1_status dit_latent_body(void *arg, mesh *m)
{
    dit_job *job = arg;
    profile_open(m->o, SPAN_STAGE, "dit latent", -1);
    if (job->failed)
        TRY(dit_stream_keep(job->rank[m->rank].stream, m, job->step));
    return dit_latent(job->rank[m->rank].stream, m, job->expected ? &job->sigma_next : NULL,
                      job->latent ? for_rank(m, job->latent) : NULL);
}

void dit_job_close(dit_job *job, int ranks)
{
    for (int r = 0; job->rank && r < ranks; r++)
        close_rank(&job->rank[r]);
}

/* What was counted so far comes once, what follows at every step. */
static void end_of_opening(stage_plan *p, mesh *m)
{
    const ops_count *count = ops_dry_count(m->o);
    add_counts(&p->before, count);
    if (mesh_leads(m)) {
        p->opening = count->flops;
        p->opening_ticks = p->tick_count;
    }
}

flux1_status dit_dry_body(void *arg, mesh *m)
{
    dit_job *job = arg;
    dit_rank r = {0};
    flux1_status st;
    float sigma = 0;
    tensor noise = {.type = DTYPE_F32,
                    .dims = 3,
                    .shape = {job->layout.batch, job->layout.image_rows, job->model->dit.in_channels}};
    TRY_CLEANUP(open_rank(job, m, &r));
    TRY_CLEANUP(dit_stream_start(r.weights, m, r.stream, &noise));
    TRY_CLEANUP(dit_latent(r.stream, m, &sigma, NULL));
    end_of_opening(job->ticker.recording, m);
    TRY_CLEANUP(step_of(job, m, &r));
    TRY_CLEANUP(end_of_step(job, m, &r));
cleanup:
    session_model_done(NULL, BUILT_DIT, r.weights);
    close_rank(&r);
    return st;
}

flux1_status vae_decode_body(void *arg, mesh *m)
{
    vae_job *job = arg;
    profile_open(m->o, SPAN_STAGE, "vae decode", -1);
    void *model = NULL;
    TRY(session_model(job->session, job->model, NULL, BUILT_DECODER, m, &model));
    flux1_status st =
        vae_decode(model, m, &job->in, job->h, job->w, job->band, for_rank(m, &job->out), tick, &job->ticker);
    session_model_done(job->session, BUILT_DECODER, model);
    return st;
}

flux1_status vae_encode_body(void *arg, mesh *m)
{
    vae_job *job = arg;
    profile_open(m->o, SPAN_STAGE, "vae encode", -1);
    void *model = NULL;
    TRY(session_model(job->session, job->model, NULL, BUILT_ENCODER, m, &model));
    flux1_status st = vae_encode(model, m, &job->in, job->h, job->w, for_rank(m, &job->out), tick, &job->ticker);
    session_model_done(job->session, BUILT_ENCODER, model);
    return st;
}

static flux1_status claim_body(void *arg, mesh *m)
{
    struct flux1_model *f = arg;
    flux1_status st;
    clip *c = NULL;
    t5 *t = NULL;
    dit_weights *d = NULL;
    vae_decoder *v = NULL;
    vae_encoder *e = NULL;
    TRY_CLEANUP(clip_create(&(loader){.m = m, .s = f->store[COMPONENT_CLIP], .claim = true}, &f->clip, &c));
    TRY_CLEANUP(t5_create(&(loader){.m = m, .s = f->store[COMPONENT_T5], .claim = true}, &f->t5, &t));
    TRY_CLEANUP(dit_weights_create(&(loader){.m = m, .s = f->store[COMPONENT_DIT], .claim = true}, &f->dit, &d));
    TRY_CLEANUP(vae_decoder_create(&(loader){.m = m, .s = f->store[COMPONENT_VAE], .claim = true}, &f->vae, &v));
    /* text to image needs no encoder: files without one are whole */
    if (f->source.synthetic || store_find(f->store[COMPONENT_VAE], "encoder.conv_in.weight"))
        TRY_CLEANUP(vae_encoder_create(&(loader){.m = m, .s = f->store[COMPONENT_VAE], .claim = true}, &f->vae, &e));
cleanup:
    clip_destroy(c);
    t5_destroy(t);
    dit_weights_destroy(d);
    vae_decoder_destroy(v);
    vae_encoder_destroy(e);
    return st;
}

flux1_status stage_claim_all(struct flux1_model *m, flux1_error *err)
{
    mesh_config one = {.shape = {1, 1}, .sp = 1, .tp = 1, .tp_axis = 1};
    mesh_device shapes = {.kind = &ops_ref_device, .config = {.arithmetic = DTYPE_F32, .threads = 1}};
    ops_count count;
    return mesh_dry_run(&one, &shapes, 0, claim_body, m, &count, err);
}
