#include "tools/estimate.h"

#include "tools/card_memory.h"

#include <stdlib.h>

const char *const estimate_names[ESTIMATE_PARTS] = {
#define ESTIMATE_NAME(id, name) [ESTIMATE_##id] = name,
    ESTIMATE_MAP(ESTIMATE_NAME)
#undef ESTIMATE_NAME
};

/* ---- one stage on one mesh ---- */

/* What hears a rank's dry run. */
typedef struct hearing {
    cost_clock clock;
    stage_plan plan; /* what the body records beside: when the opening ends */
    cost cost[2];    /* opening, or a stage without steps; a step */
    bool in_step;
    timeline *draw;
} hearing;

static void hear(void *user, const ops_event *e)
{
    hearing *h = user;
    if (!h->in_step && h->plan.before.operations > 0) {
        h->in_step = true;
        h->clock.into = &h->cost[1];
        if (h->draw) {
            h->draw->origin = h->clock.now;
            h->clock.listener = timeline_hear;
            h->clock.user = h->draw;
        }
    }
    cost_event(&h->clock, e);
}

static flux1_status hear_rank(estimator *p, int rank, mesh_body *body, void *job, ticker *t, hearing *h,
                              ops_count *count)
{
    flux1_context *s = p->shadow;
    mesh_device d = s->device;
    h->clock.m = p->job.machine;
    h->clock.mesh = &s->mesh;
    h->clock.dtype = p->job.dtype.exact;
    h->clock.share = machine_share(p->job.machine, mesh_ranks(&s->mesh));
    h->clock.into = &h->cost[0];
    d.config.event = hear;
    d.config.event_user = h;
    t->recording = &h->plan;
    flux1_status st = mesh_dry_run(&s->mesh, &d, rank, body, job, count, &s->error);
    t->recording = NULL;
    t->next = 0;
    stage_plan_free(&h->plan);
    return st;
}

static double memory_of_rank(const ops_count *c)
{
    return (double)c->arena_peak + (double)c->own_bytes + (double)c->held_bytes + (double)c->block_bytes;
}

/* Shares are the largest on rank 0, but one at the border of a picture has less to exchange: the slower of the first
 * and a middle one. `first` and, of a stage with steps, `step` are filled in. */
static flux1_status hear_stage(estimator *p, mesh_body *body, void *job, ticker *t, estimate_part *first,
                               estimate_part *step)
{
    int ranks = mesh_ranks(&p->shadow->mesh);
    for (int i = 0; i < (ranks > 1 ? 2 : 1); i++) {
        hearing h = {0};
        ops_count count;
        TRY(hear_rank(p, i ? ranks / 2 : 0, body, job, t, &h, &count));
        double memory = memory_of_rank(&count);
        if (h.cost[0].seconds >= first->cost.seconds)
            first->cost = h.cost[0];
        first->memory = memory > first->memory ? memory : first->memory;
        if (!step)
            continue;
        if (h.cost[1].seconds >= step->cost.seconds)
            step->cost = h.cost[1];
        step->memory = first->memory;
    }
    return FLUX1_OK;
}

static void count(estimate_part *part, const ops_count *c)
{
    part->flops = c->flops;
    part->moved_by_all = (double)c->exchanged;
}

static flux1_status hear_texts(estimator *p, estimate_part part[ESTIMATE_PARTS])
{
    text_plan texts;
    TRY(text_plan_make(p->shadow, p->job.model, &p->job.r->adapters, p->job.text, &texts));
    count(&part[ESTIMATE_CLIP], &texts.clip.count);
    count(&part[ESTIMATE_T5], &texts.t5.count);
    flux1_status st = hear_stage(p, clip_body, &texts.job, &texts.job.ticker, &part[ESTIMATE_CLIP], NULL);
    if (st == FLUX1_OK)
        st = hear_stage(p, t5_body, &texts.job, &texts.job.ticker, &part[ESTIMATE_T5], NULL);
    text_plan_free(&texts);
    return st;
}

static flux1_status hear_denoiser(estimator *p, estimate_part part[ESTIMATE_PARTS])
{
    denoiser d;
    TRY(denoiser_plan(p->shadow, p->job.model, p->job.r, p->job.batch, &d));
    const ops_count *all = &d.plan.count, *before = &d.plan.before;
    const double steps = (double)p->job.r->steps;
    count(&part[ESTIMATE_OPENING], before);
    part[ESTIMATE_STEP].flops = (all->flops - before->flops) / steps;
    part[ESTIMATE_STEP].moved_by_all = (double)(all->exchanged - before->exchanged) / steps;
    flux1_status st = hear_stage(p, dit_dry_body, &d.job, &d.job.ticker, &part[ESTIMATE_OPENING], &part[ESTIMATE_STEP]);
    denoiser_close(&d);
    return st;
}

static flux1_status hear_decoder(estimator *p, estimate_part *part)
{
    decoder d;
    request whole = *p->job.r;
    whole.tiling = FLUX1_TILING_NO;
    TRY(decoder_plan(p->shadow, p->job.model, &whole, SIZE_MAX, &d));
    count(part, &d.plan.count);
    flux1_status st = hear_stage(p, vae_decode_body, &d.job, &d.job.ticker, part, NULL);
    decoder_close(&d);
    return st;
}

/* ---- what the worker holds of a card ---- */

static flux1_status hold(estimator *p, recording_stage first, int stages, double weight_cell, estimate_part *out)
{
    recording r;
    const mesh_config *shape = &p->shadow->mesh;
    TRY(recording_make_first(p->job.c, p->job.model, p->job.r, shape, first, stages, &r));
    card_held held = {0};
    flux1_status st = card_memory(&r, first, stages, p->job.machine, weight_cell, &held, &p->job.c->error);
    recording_free(&r);
    out->memory = held.most;
    out->kept = held.kept;
    return st;
}

static flux1_status hold_texts(estimator *p, estimate_part part[ESTIMATE_PARTS])
{
    if (!p->job.machine->tiles)
        return FLUX1_OK;
    TRY(hold(p, RECORDING_CLIP, 1, 2, &part[ESTIMATE_CLIP]));
    return hold(p, RECORDING_T5, 1, p->job.machine->weight_cell, &part[ESTIMATE_T5]);
}

static flux1_status hold_pictures(estimator *p, estimate_part part[ESTIMATE_PARTS])
{
    if (!p->job.machine->tiles)
        return FLUX1_OK;
    TRY(hold(p, RECORDING_DIT_OPEN, 3, p->job.machine->weight_cell, &part[ESTIMATE_OPENING]));
    part[ESTIMATE_STEP].memory = part[ESTIMATE_OPENING].memory;
    part[ESTIMATE_STEP].kept = part[ESTIMATE_OPENING].kept;
    return hold(p, RECORDING_VAE, 1, 2, &part[ESTIMATE_DECODE]);
}

/* ---- all of them ---- */

/* On the CPU the backend itself says what things take. */
flux1_status estimator_open(estimator *e, const estimate_job *job)
{
    const machine *m = job->machine;
    flux1_context *s = calloc(1, sizeof *s);
    if (!s)
        return error_oom(&job->c->error, sizeof *s, "the plan");
    e->job = *job;
    e->device = (machine_device){.head = {.kind = &machine_kind}, .m = m};
    e->device.head.info.memory = m->this_cpu ? 0 : 1;
    s->device = (mesh_device){.kind = m->this_cpu ? &ops_cpu_device : &machine_kind,
                              .device = &e->device.head,
                              .config = {.arithmetic = job->dtype.exact ? DTYPE_BF16 : DTYPE_F32,
                                         .int8 = job->dtype.int8,
                                         .threads = job->c->device.config.threads,
                                         .cancel = &job->c->cancel,
                                         .device = &e->device.head},
                              .alike = true};
    s->ready = true;
    e->shadow = s;
    return FLUX1_OK;
}

void estimator_close(estimator *e)
{
    free(e->shadow);
    *e = (estimator){0};
}

/* The shadow's message is the caller's. */
static flux1_status told(estimator *e, flux1_status st)
{
    return st == FLUX1_OK ? st : error_set(&e->job.c->error, st, "%s", e->shadow->error.message);
}

/* On a CPU the ranks of a chip are threads of one process, those of others are behind a network. */
static void take_shape(estimator *e, const mesh_config *shape)
{
    const machine *m = e->job.machine;
    e->shadow->mesh = *shape;
    e->shadow->device.together = m->this_cpu ? (int)machine_share(m, mesh_ranks(shape)) : 0;
}

flux1_status estimator_texts(estimator *e, const mesh_config *shape, estimate_part part[ESTIMATE_PARTS])
{
    take_shape(e, shape);
    part[ESTIMATE_CLIP].times = part[ESTIMATE_T5].times = 1;
    TRY(told(e, hear_texts(e, part)));
    return hold_texts(e, part);
}

flux1_status estimator_pictures(estimator *e, const mesh_config *shape, estimate_part part[ESTIMATE_PARTS])
{
    take_shape(e, shape);
    part[ESTIMATE_OPENING].times = part[ESTIMATE_DECODE].times = 1;
    part[ESTIMATE_STEP].times = e->job.r->steps;
    flux1_status st = hear_denoiser(e, part);
    if (st == FLUX1_OK)
        st = hear_decoder(e, &part[ESTIMATE_DECODE]);
    TRY(told(e, st));
    return hold_pictures(e, part);
}

double estimate_memory(const estimate_part part[ESTIMATE_PARTS])
{
    double kept = 0, beside = 0;
    for (int i = 0; i < ESTIMATE_PARTS; i++) {
        const double own = part[i].memory - part[i].kept;
        kept += i == ESTIMATE_OPENING ? 0 : part[i].kept; /* the step's are the same weights */
        beside = own > beside ? own : beside;
    }
    return kept + beside;
}

flux1_status estimator_draw(estimator *e, const mesh_config *shape, timeline *t, double *seconds)
{
    denoiser d;
    ops_count count;
    take_shape(e, shape);
    flux1_status st = denoiser_plan(e->shadow, e->job.model, e->job.r, 1, &d);
    if (st != FLUX1_OK)
        return told(e, st);
    hearing h = {.draw = t};
    st = hear_rank(e, 0, dit_dry_body, &d.job, &d.job.ticker, &h, &count);
    *seconds = h.cost[1].seconds;
    denoiser_close(&d);
    return told(e, st);
}
