#include "tools/runs.h"

#include "base/checked.h"
#include "pipeline/tasks.h"
#include "tools/spread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- one run ---- */

/* The events of a run, as they are numbered; then one for each step. */
enum { CLIP, T5, ENCODER, DENOISING, VAE, TOTAL, STEP };

typedef struct runs {
    flux1_context *c;
    const flux1_model *m;
    const request *r;
    flux1_text *text;
    text_plan text_plan;
    denoiser denoiser;
    decoder decoder;
    tensor latent;
    int count;
    double *seconds; /* [STEP + steps][count] */
} runs;

static void note(runs *b, int event, int run, double begin)
{
    if (run >= 0)
        b->seconds[event * b->count + run] = seconds_now() - begin;
}

static flux1_status run_encoder(runs *b, text_job *job, const stage_plan *plan, task t, int event, int run)
{
    double begin = seconds_now();
    TRY(memory_reserve(b->c, job->session, plan, NULL, NULL));
    TRY(task_run(b->c, job->session, t, job));
    note(b, event, run, begin);
    return FLUX1_OK;
}

static flux1_status run_encoders(runs *b, int run)
{
    double begin = seconds_now();
    text_job job = b->text_plan.job;
    job.pooled = b->text->pooled;
    job.embeds = b->text->embeds;
    TRY(session_take(b->c, text_device(b->c), b->m, NULL, &job.session));
    flux1_status st = run_encoder(b, &job, &b->text_plan.clip, TASK_CLIP, CLIP, run);
    if (st == FLUX1_OK)
        st = run_encoder(b, &job, &b->text_plan.t5, TASK_T5, T5, run);
    session_give(b->c, job.session);
    note(b, ENCODER, run, begin);
    return st;
}

static flux1_status run_denoiser(runs *b, int run)
{
    double begin = seconds_now(), opening;
    denoiser *d = &b->denoiser;
    const batch_row row = {.text = b->text, .guidance = b->r->guidance};
    TRY(make_noise(b->m, b->r, 0, b->r->seed, b->latent.data, &b->c->error));
    TRY(denoiser_open(d, &row, NULL, NULL, &opening));
    TRY(denoiser_start(d, &b->latent));
    for (int64_t i = 0; i < b->r->steps; i++) {
        double step = seconds_now();
        TRY(denoiser_step(d, i));
        note(b, STEP + (int)i, run, step);
    }
    TRY(denoiser_latent(d, -1, &b->latent));
    denoiser_rest(d);
    note(b, DENOISING, run, begin);
    return FLUX1_OK;
}

static flux1_status run_decoder(runs *b, int run)
{
    double begin = seconds_now();
    flux1_image picture = {.size = sizeof picture};
    TRY(decoder_run(&b->decoder, b->latent.data, NULL, NULL, NULL, &picture));
    free(picture.pixels);
    decoder_rest(&b->decoder);
    note(b, VAE, run, begin);
    return FLUX1_OK;
}

/* run < 0: it is not timed. */
static flux1_status run_once(runs *b, int run)
{
    double begin = seconds_now();
    TRY(run_encoders(b, run));
    TRY(run_denoiser(b, run));
    TRY(run_decoder(b, run));
    note(b, TOTAL, run, begin);
    return FLUX1_OK;
}

/* ---- all of them ---- */

static flux1_status plan_all(runs *b, int clip_tokens)
{
    flux1_error *err = &b->c->error;
    size_t count;
    TRY(text_stand_in(b->m, clip_tokens, (int)b->r->length, &b->text, err));
    TRY(tensor_create(DTYPE_F32, 2, (int64_t[]){1, b->m->clip.hidden}, &b->text->pooled, err));
    TRY(tensor_create(DTYPE_F32, 3, (int64_t[]){1, b->r->length, b->m->t5.d_model}, &b->text->embeds, err));
    TRY(text_plan_make(b->c, b->m, NULL, b->text, &b->text_plan));
    TRY(denoiser_plan(b->c, b->m, b->r, 1, &b->denoiser));
    TRY(decoder_plan(b->c, b->m, b->r, SIZE_MAX, &b->decoder));
    TRY(tensor_create(DTYPE_F32, 3, (int64_t[]){1, b->denoiser.tokens, b->denoiser.channels}, &b->latent, err));
    if (!size_mul((size_t)b->r->steps + STEP, (size_t)b->count, &count) ||
        !(b->seconds = calloc(count, sizeof *b->seconds)))
        return error_oom(err, 0, "the times of the runs");
    return FLUX1_OK;
}

static flux1_status check_memory(const runs *b, const char *stage, const stage_plan *plan, const mesh_device *d)
{
    return memory_check(b->c, memory_of(b->c, d, plan, NULL), HINT_OPTIONS, "%s", stage);
}

static flux1_status check_all(const runs *b)
{
    const mesh_device *own = &b->c->device;
    TRY(check_memory(b, "encoding the prompt (CLIP)", &b->text_plan.clip, text_device(b->c)));
    TRY(check_memory(b, "encoding the prompt (T5)", &b->text_plan.t5, text_device(b->c)));
    TRY(check_memory(b, "denoising", &b->denoiser.plan, own));
    return check_memory(b, "decoding", &b->decoder.plan, own);
}

static void free_all(runs *b)
{
    denoiser_close(&b->denoiser);
    decoder_close(&b->decoder);
    text_plan_free(&b->text_plan);
    flux1_text_free(b->text);
    tensor_free(&b->latent);
    free(b->seconds);
}

static spread spread_of_event(const runs *b, int event) { return spread_of(b->seconds + event * b->count, b->count); }

static void put_event(json_writer *w, const runs *b, const char *name, int event)
{
    spread s = spread_of_event(b, event);
    json_begin_object(w, NULL);
    json_put_string(w, "event", name);
    json_put_real(w, "mean_seconds", s.mean);
    json_put_real(w, "deviation_seconds", s.deviation);
    json_put_real(w, "min_seconds", s.min);
    json_put_real(w, "max_seconds", s.max);
    json_end_object(w);
}

static void put_all(json_writer *w, const runs *b)
{
    char name[40];
    json_put_integer(w, "warm_ups", RUNS_WARM_UPS);
    json_put_integer(w, "runs", b->count);
    json_put_real(w, "steps_per_second", (double)b->r->steps / spread_of_event(b, DENOISING).mean);
    json_put_real(w, "images_per_second", 1 / spread_of_event(b, TOTAL).mean);
    json_begin_array(w, "events");
    put_event(w, b, "clip_encoding", CLIP);
    put_event(w, b, "t5_encoding", T5);
    put_event(w, b, "encoder", ENCODER);
    put_event(w, b, "denoising", DENOISING);
    for (int i = 0; i < b->r->steps; i++) {
        snprintf(name, sizeof name, "denoising_step_%d", i);
        put_event(w, b, name, STEP + i);
    }
    put_event(w, b, "vae", VAE);
    put_event(w, b, "total", TOTAL);
    json_end_array(w);
}

static void tell_run(const runs *b, const flux1_bench_params *params, int run)
{
    char name[40];
    if (!params->timed || run < 0)
        return;
    snprintf(name, sizeof name, "run %d of %d", run + 1, b->count);
    params->timed(params->timed_user, name, b->seconds[TOTAL * b->count + run]);
}

flux1_status runs_report(flux1_context *c, const flux1_model *m, const request *r, const flux1_bench_params *params,
                         json_writer *report)
{
    runs b = {.c = c, .m = m, .r = r, .count = params->runs};
    flux1_status st;
    TRY_CLEANUP(plan_all(&b, bench_clip_tokens(m, params)));
    TRY_CLEANUP(check_all(&b));
    for (int i = -RUNS_WARM_UPS; i < b.count; i++) {
        TRY_CLEANUP(run_once(&b, i));
        tell_run(&b, params, i);
    }
    put_all(report, &b);
cleanup:
    free_all(&b);
    return st;
}
