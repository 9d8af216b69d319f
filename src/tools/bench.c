/* flux1 bench: the stages at true size, planned, and timed beside the machine's own multiply-add peak, which is
 * measured in the same run. */
#include "pipeline/opening.h"
#include "pipeline/text_to_image.h"

#include "base/checked.h"
#include "base/json_write.h"
#include "base/pool.h"
#include "flux1_tools.h"
#include "mesh/trace.h"
#include "pipeline/profiling.h"
#include "tools/describe.h"
#include "tools/events.h"
#include "tools/peak.h"
#include "tools/runs.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define REPEATS_MAX 1000

void flux1_bench_params_defaults(flux1_bench_params *p)
{
    if (!p)
        return;
    *p = (flux1_bench_params){.size = sizeof *p,
                              .variant = "schnell",
                              .stage = "all",
                              .width = 256,
                              .height = 256,
                              .steps = 1,
                              .sequence_length = 256,
                              .repeats = 3,
                              .weights = FLUX1_DTYPE_BF16};
}

/* ---- the machine's peak ---- */

typedef struct peak_job {
    double (*one)(double seconds);
    double rate[256];
} peak_job;

static void peak_task(void *arg, int64_t index, int worker)
{
    (void)worker;
    peak_job *job = arg;
    job->rate[index] = job->one(0.2);
}

/* FLOP/s of all threads together in register-only multiply-adds of this arithmetic; 0 where it cannot be measured, as
 * on the hosts of other processes. */
static flux1_status measure_peak(flux1_context *c, double *rate)
{
    const char *isa = ops_cpu_isa();
    *rate = 0;
    if (c->device.device->info.memory || c->processes)
        return FLUX1_OK; /* a GPU's peak takes its own libraries to reach: bench/ */
    bool bf16 = c->device.config.arithmetic == DTYPE_BF16 && ops_cpu_multiplies_bf16();
    int ranks = mesh_ranks(&c->mesh), each = c->device.config.threads / ranks; /* a rank has one thread at least */
    int threads = (int)i64_min((int64_t)ranks * (each > 1 ? each : 1), 256);
    peak_job job = {.one = bf16 ? peak_avx512bf16 : strncmp(isa, "avx512", 6) == 0 ? peak_avx512 : peak_avx2};
    pool *workers;
    TRY(pool_create(threads, &workers, &c->error));
    pool_run(workers, threads, peak_task, &job);
    pool_destroy(workers);
    for (int i = 0; i < threads; i++)
        *rate += job.rate[i];
    return FLUX1_OK;
}

/* ---- stages ---- */

typedef struct bench {
    flux1_context *c;
    const flux1_bench_params *params;
    const flux1_model *m;
    request r;
    int repeats;
    double peak;
    json_writer report;
    events_file *events; /* the stages are written there, not timed */
} bench;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* What is told of a stage, or of its opening or one of its steps. */
typedef struct part {
    const char *name;
    const stage_plan *plan;
    double flops;
    size_t exchanged; /* bytes */
} part;

/* count 0: it was planned, not run. */
static void add_row(bench *b, const part *p, double *seconds, int count)
{
    json_writer *w = &b->report;
    json_begin_object(w, NULL);
    json_put_string(w, "stage", p->name);
    if (count) {
        qsort(seconds, (size_t)count, sizeof *seconds, by_value);
        double median = count % 2 ? seconds[count / 2] : (seconds[count / 2 - 1] + seconds[count / 2]) / 2;
        json_put_real(w, "seconds", median);
        if (b->params->timed)
            b->params->timed(b->params->timed_user, p->name, median);
        json_put_real(w, "seconds_min", seconds[0]);
        json_put_real(w, "seconds_max", seconds[count - 1]);
        json_put_real(w, "flops", p->flops);
        json_put_real(w, "flops_per_second", p->flops / median);
        json_put_real(w, "share_of_peak", b->peak > 0 ? p->flops / median / b->peak : 0.0);
    } else
        json_put_real(w, "flops", p->flops);
    describe_memory(w, p->plan);
    json_put_unsigned(w, "exchanged_bytes", p->exchanged);
    json_end_object(w);
}

/* On a session of its own from the first run on, as a program that makes one picture after the other has it. A run ends
 * when the slowest rank does. */
static flux1_status time_task(bench *b, const part *p, const mesh_device *d, task what, void *job, session **in)
{
    double seconds[REPEATS_MAX];
    flux1_context *c = b->c;
    TRY(session_take(c, d, b->m, NULL, in));
    flux1_status st = memory_reserve(c, *in, p->plan, NULL, NULL);
    for (int i = 0; st == FLUX1_OK && i < b->repeats; i++) {
        double begin = seconds_now();
        st = task_run(c, *in, what, job);
        seconds[i] = seconds_now() - begin;
    }
    session_give(c, *in);
    *in = NULL;
    if (st == FLUX1_OK)
        add_row(b, p, seconds, b->repeats);
    return st;
}

static flux1_status bench_task(bench *b, const char *name, const mesh_device *d, const stage_plan *plan, task what,
                               void *job, ticker *t, session **in)
{
    const part p = {name, plan, plan->count.flops, plan->count.exchanged};
    if (b->events)
        return events_stage(b->events, name, NULL, b->c, d, task_body(what), job, t);
    if (b->repeats)
        return time_task(b, &p, d, what, job, in);
    add_row(b, &p, NULL, 0);
    return FLUX1_OK;
}

static flux1_status bench_text(bench *b, bool clip_too, bool t5_too)
{
    flux1_text *text = NULL;
    text_plan plan;
    TRY(text_tokenize(b->m, "a photo", 7, b->r.length, &text, NULL, NULL, &b->c->error));
    flux1_status st = text_plan_make(b->c, b->m, NULL, text, &plan);
    if (st == FLUX1_OK) {
        text_job *job = &plan.job;
        if (clip_too)
            st = bench_task(b, "clip", text_device(b->c), &plan.clip, TASK_CLIP, job, &job->ticker, &job->session);
        if (st == FLUX1_OK && t5_too)
            st = bench_task(b, "t5", text_device(b->c), &plan.t5, TASK_T5, job, &job->ticker, &job->session);
        text_plan_free(&plan);
    }
    flux1_text_free(text);
    return st;
}

#define OPENING "dit opening"
#define STEP "dit step"

/* The opening (tables of all steps) and the steps have a row each. */
static flux1_status time_denoiser(bench *b, denoiser *d, const batch_row *row, const tensor *noise)
{
    const ops_count *all = &d->plan.count, *before = &d->plan.before;
    double first[1], step[REPEATS_MAX], begin = seconds_now(), flops;
    int runs = b->repeats ? 1 : 0;
    if (runs) {
        TRY(denoiser_open(d, row, NULL, NULL, &flops));
        first[0] = seconds_now() - begin;
        TRY(denoiser_start(d, noise));
    }
    for (int i = 0; i < b->repeats; i++) {
        begin = seconds_now();
        TRY(denoiser_step(d, i % b->r.steps));
        step[i] = seconds_now() - begin;
    }
    add_row(b, &(part){OPENING, &d->plan, before->flops, before->exchanged}, first, runs);
    add_row(b,
            &(part){STEP, &d->plan, (all->flops - before->flops) / (double)b->r.steps,
                    (all->exchanged - before->exchanged) / (size_t)b->r.steps},
            step, b->repeats);
    return FLUX1_OK;
}

static flux1_status bench_dit(bench *b)
{
    flux1_text *text = NULL;
    denoiser d = {0};
    tensor noise = {0};
    flux1_error *err = &b->c->error;
    flux1_status st;
    TRY(text_tokenize(b->m, "a photo", 7, b->r.length, &text, NULL, NULL, err));
    batch_row row = {.text = text, .guidance = b->r.guidance};
    TRY_CLEANUP(tensor_create(DTYPE_F32, 2, (int64_t[]){1, b->m->clip.hidden}, &text->pooled, err));
    TRY_CLEANUP(tensor_create(DTYPE_F32, 3, (int64_t[]){1, b->r.length, b->m->t5.d_model}, &text->embeds, err));
    TRY_CLEANUP(denoiser_plan(b->c, b->m, &b->r, 1, &d));
    TRY_CLEANUP(tensor_create(DTYPE_F32, 3, (int64_t[]){1, d.tokens, d.channels}, &noise, err));
    TRY_CLEANUP(make_noise(b->m, &b->r, 0, 0, noise.data, err));
    st = b->events ? events_stage(b->events, OPENING, STEP, b->c, &b->c->device, dit_dry_body, &d.job, &d.job.ticker)
                   : time_denoiser(b, &d, &row, &noise);
cleanup:
    denoiser_close(&d);
    tensor_free(&noise);
    flux1_text_free(text);
    return st;
}

static flux1_status bench_vae(bench *b)
{
    decoder d;
    vae_job *job = &d.job;
    int64_t scale = vae_scale(&b->m->vae);
    TRY(decoder_plan(b->c, b->m, &b->r, SIZE_MAX, &d));
    flux1_status st =
        tensor_create(DTYPE_F32, 3, (int64_t[]){1, job->h * job->w, b->m->vae.latent_channels}, &job->in, &b->c->error);
    if (st == FLUX1_OK)
        st = tensor_create(DTYPE_F32, 3, (int64_t[]){1, job->h * job->w * scale * scale, 3}, &job->out, &b->c->error);
    if (st == FLUX1_OK)
        st = bench_task(b, "vae decode", &b->c->device, &d.plan, TASK_VAE_DECODE, job, &job->ticker, &job->session);
    tensor_free(&job->in);
    tensor_free(&job->out);
    decoder_close(&d);
    return st;
}

static flux1_status run_stages(bench *b, const char *stage)
{
    bool all = strcmp(stage, "all") == 0, is_clip = all || strcmp(stage, "clip") == 0,
         is_t5 = all || strcmp(stage, "t5") == 0;
    bool is_dit = all || strcmp(stage, "dit") == 0, is_vae = all || strcmp(stage, "vae") == 0;
    if (!is_clip && !is_t5 && !is_dit && !is_vae)
        return error_set(&b->c->error, FLUX1_ERR_ARGUMENT, "stage \"%s\": it should be all, clip, t5, dit or vae",
                         stage);
    if (is_clip || is_t5)
        TRY(bench_text(b, is_clip, is_t5));
    if (is_dit)
        TRY(bench_dit(b));
    return is_vae ? bench_vae(b) : FLUX1_OK;
}

static flux1_status take_params(flux1_context *c, const flux1_bench_params *p, flux1_model **m, bench *b)
{
    flux1_generate_params g;
    flux1_generate_params_defaults(&g);
    g.width = p->width;
    g.height = p->height;
    g.steps = p->steps;
    g.max_sequence_length = p->sequence_length;
    g.tiling = FLUX1_TILING_NO;
    if (p->repeats < 0 || p->repeats > REPEATS_MAX)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "repeats %d: it should be 0 to %d", p->repeats, REPEATS_MAX);
    if (p->runs < 0 || p->runs > RUNS_MAX)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "runs %d: it should be 1 to %d, or 0 to time the stages alone",
                         p->runs, RUNS_MAX);
    model_paths paths = {.model = p->path};
    if (p->parts)
        TRY(opening_paths(c, p->parts, &paths));
    if (p->parts || p->path)
        TRY(opening_run(c, &paths, m));
    else
        TRY(folder_synthetic(p->variant, p->weights == FLUX1_DTYPE_F32 ? DTYPE_F32 : DTYPE_BF16, true, m, &c->error));
    *b = (bench){.c = c, .params = p, .m = *m, .repeats = p->repeats, .report = {.style = JSON_INDENTED}};
    return request_make(c, *m, &g, &b->r);
}

/* Members that say what is planned. */
static void describe_run(json_writer *w, const bench *b, const flux1_bench_params *p)
{
    const mesh_config *shape = &b->c->mesh;
    json_put_string(w, "model", p->path || p->parts ? b->m->name ? b->m->name : b->m->path : p->variant);
    json_put_string(w, "dtype", context_dtype(b->c));
    json_put_string(w, "isa", b->c->device.device->info.name);
    json_put_integer(w, "threads", b->c->device.config.threads);
    json_put_integer(w, "ranks", mesh_ranks(shape));
    json_put_integer(w, "sp", shape->sp);
    json_put_integer(w, "tp", shape->tp);
    json_put_integer(w, "width", b->r.width);
    json_put_integer(w, "height", b->r.height);
    json_put_integer(w, "steps", b->r.steps);
    json_put_integer(w, "max_sequence_length", b->r.length);
}

/* The plans of the stages as a file of events. */
static flux1_status write_events(bench *b, const flux1_bench_params *p)
{
    events_file file = {0};
    json_writer w = {.style = JSON_LINE};
    flux1_error *err = &b->c->error;
    flux1_status st;
    char *header = NULL;
    TRY(events_begin(&file, p->events, err));
    json_begin_object(&w, NULL);
    describe_run(&w, b, p);
    json_put_string(&w, "about",
                    "one line for each event of the plan, for every rank; \"" STEP "\" is one of `steps` equal steps");
    json_end_object(&w);
    TRY_CLEANUP(json_take(&w, "the events", &header, err));
    TRY_CLEANUP(events_header(&file, header));
    b->events = &file;
    TRY_CLEANUP(run_stages(b, p->stage));
    st = events_commit(&file);
cleanup:
    b->events = NULL;
    free(header);
    events_abandon(&file);
    return st;
}

/* The stages, a row each, or whole pipelines. */
static flux1_status time_all(bench *b, const flux1_bench_params *p)
{
    json_writer *w = &b->report;
    if (p->runs)
        return runs_report(b->c, b->m, &b->r, p, w);
    if (b->repeats)
        TRY(measure_peak(b->c, &b->peak));
    json_put_real(w, "peak_flops_per_second", b->peak);
    json_begin_array(w, "stages");
    TRY(run_stages(b, p->stage));
    json_end_array(w);
    return FLUX1_OK;
}

static void put_exchange(json_writer *w, exchange_time t)
{
    json_put_real(w, "exchange_seconds", t.seconds);
    json_put_real(w, "hidden_share", t.seconds > 0 ? t.hidden / t.seconds : 0.0);
    json_put_real(w, "ring_seconds", t.ring_seconds);
    json_put_real(w, "ring_hidden_share", t.ring_seconds > 0 ? t.ring_hidden / t.ring_seconds : 0.0);
}

/* Of all ranks together. */
static flux1_status report_profile(bench *b, const char *path)
{
    json_writer *w = &b->report;
    const profile *p = b->c->profile;
    TRY(profiling_write(b->c, path));
    json_begin_object(w, "profile");
    json_put_string(w, "file", path);
    put_exchange(w, trace_exchange(p, -1));
    json_begin_array(w, "steps");
    for (int64_t k = 0; k < trace_steps(p); k++) {
        json_begin_object(w, NULL);
        json_put_integer(w, "step", k + 1);
        put_exchange(w, trace_exchange(p, k));
        json_end_object(w);
    }
    json_end_array(w);
    json_end_object(w);
    return FLUX1_OK;
}

static flux1_status make_report(bench *b, const flux1_bench_params *p, char **json)
{
    struct rusage use;
    json_writer *w = &b->report;
    json_begin_object(w, NULL);
    describe_run(w, b, p);
    if (p->profile)
        TRY(profiling_begin(b->c));
    TRY(time_all(b, p));
    if (p->profile)
        TRY(report_profile(b, p->profile));
    getrusage(RUSAGE_SELF, &use);
    json_put_integer(w, "peak_rss_bytes", (int64_t)use.ru_maxrss * 1024);
    json_end_object(w);
    return json_take(w, "the table", json, &b->c->error);
}

flux1_status flux1_bench_json(flux1_context *c, const flux1_bench_params *params, char **json)
{
    bench b = {0};
    flux1_model *m = NULL;
    flux1_status st;
    TRY(context_begin(c));
    TRY(context_needs(c, json, "json"));
    *json = NULL;
    if (!params || params->size < offsetof(flux1_bench_params, reserved))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "the parameters were not set up by flux1_bench_params_defaults");
    TRY(context_needs(c, params->stage, "stage"));
    if (!params->path && !params->parts)
        TRY(context_needs(c, params->variant, "variant"));
    TRY_CLEANUP(take_params(c, params, &m, &b));
    if (params->events)
        TRY_CLEANUP(write_events(&b, params));
    st = make_report(&b, params, json);
cleanup:
    profiling_end(c);
    json_abandon(&b.report);
    folder_close(m);
    return st;
}
