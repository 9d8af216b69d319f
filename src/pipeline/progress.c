#include "pipeline/progress.h"

#include "base/clock.h"

static const char *const STAGE_NAMES[] = {"load", "text encoders", "denoise", "decode"};

double seconds_now(void) { return clock_seconds(); }

void progress_begin(progress *p, flux1_context *c, const request *r, int n, int64_t images, double total_flops)
{
    *p = (progress){.context = c, .request = r, .requests = n, .total = total_flops, .began = seconds_now()};
    p->state = (flux1_progress){.size = sizeof p->state,
                                .stage_name = STAGE_NAMES[FLUX1_STAGE_LOAD],
                                .images = (int)images,
                                .seconds_left = -1};
}

/* Whether somebody wants what the requests ask for. */
static bool is_wanted(const progress *p)
{
    int cancelled = 0;
    while (cancelled < p->requests && token_is_cancelled(p->request[cancelled].cancel))
        cancelled++;
    return cancelled < p->requests;
}

flux1_status progress_report(progress *p, flux1_error *err)
{
    const request *r = p->request;
    if (!is_wanted(p)) {
        flux1_cancel(p->context);
        return error_set(err, FLUX1_ERR_CANCELLED, "cancelled");
    }
    if (!r->progress)
        return FLUX1_OK;
    p->state.seconds = seconds_now() - p->began;
    if (r->progress(r->progress_user, &p->state) == 0)
        return FLUX1_OK;
    flux1_cancel(p->context);
    return error_set(err, FLUX1_ERR_CANCELLED, "cancelled by the progress callback");
}

/* `done` FLOPs of the request; within the stage `stage_fraction`. */
static void set_fractions(progress *p, double done, double stage_fraction)
{
    double now = seconds_now();
    p->state.stage_fraction = stage_fraction;
    p->state.fraction = p->total > 0 ? done / p->total : 0;
    if (p->state.fraction > 1)
        p->state.fraction = 1;
    p->state.seconds_left =
        p->state.fraction > 0.01 ? (now - p->began) * (1 - p->state.fraction) / p->state.fraction : -1;
}

static flux1_status on_tick(void *user, size_t tick, flux1_error *err)
{
    progress *p = user;
    const stage_plan *s = p->plan;
    double done = stage_plan_done(s, tick);
    set_fractions(p, p->before + done - p->base, s->flops > 0 ? done / s->flops : 1);
    return progress_report(p, err);
}

void progress_stage(progress *p, flux1_stage stage, const stage_plan *plan, ticker *t)
{
    p->plan = plan;
    p->base = 0;
    p->state.stage = stage;
    p->state.stage_name = STAGE_NAMES[stage];
    p->state.stage_fraction = 0;
    p->state.step = p->state.steps = 0;
    p->state.preview = NULL;
    *t = (ticker){.report = on_tick, .user = p};
}

void progress_advance(progress *p, double flops)
{
    p->before += flops;
    set_fractions(p, p->before, p->state.stage_fraction);
}
