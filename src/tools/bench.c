/* flux1 bench: the stages at true size, planned, and timed beside the machine's own multiply-add peak, which is
 * measured in the same run. */
#include "pipeline/opening.h"
#include "pipeline/text_to_image.h"

#include "base/checked.h"
#include "base/file.h"
#include "base/json_write.h"
#include "base/sysfile.h"
#include "flux1_tools.h"
#include "mesh/trace.h"
#include "pipeline/profiling.h"
#include "tools/describe.h"
#include "tools/events.h"
#include "tools/kernels.h"
#include "tools/machine_cpu.h"
#include "tools/peak.h"
#include "tools/peaks.h"
#include "tools/runs.h"
#include "tools/spread.h"

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

/* ---- stages ---- */

typedef struct bench {
    flux1_context *c;
    const flux1_bench_params *params;
    const flux1_model *m;
    request r;
    int repeats;
    peaks peaks;
    bool checks;         /* the stages' needs are compared with the memory there is, and nothing runs */
    bool profiled;       /* kernels are timed */
    json_writer report;  /* the list of stages is open */
    json_writer kernels; /* a list of its own */
    events_file *events; /* the stages are written there, not timed */
} bench;

/* What is told of a stage, or of its opening or one of its steps. */
typedef struct part {
    const char *name;
    const stage_plan *plan;
    double flops;
    size_t exchanged; /* bytes */
    int64_t rows;     /* of an encoder; 0: another stage */
} part;

/* The runs of a part. */
typedef struct timing {
    int count;
    double seconds[REPEATS_MAX], processor[REPEATS_MAX];
    double began, began_processor;
    kernel_table *kernels; /* NULL: they are not timed */
} timing;

/* Memory for `runs` runs. */
static flux1_status timing_open(bench *b, int runs, timing *t)
{
    *t = (timing){0};
    if (b->profiled && runs > 0 && !(t->kernels = kernels_create(mesh_ranks(&b->c->mesh), runs)))
        return error_oom(&b->c->error, 0, "the times of the kernels");
    return FLUX1_OK;
}

static void run_begins(const bench *b, timing *t)
{
    if (t->kernels) {
        if (!b->params->profile) /* else the trace has all spans */
            profile_rewind(b->c->profile);
        kernels_begin(t->kernels, b->c->profile);
    }
    t->began = seconds_now();
    t->began_processor = now_cpu();
}

static void run_ends(const bench *b, timing *t)
{
    t->seconds[t->count] = seconds_now() - t->began;
    t->processor[t->count++] = now_cpu() - t->began_processor;
    if (t->kernels)
        kernels_end(t->kernels, b->c->profile);
}

/* Of the peak of each call's own type, where the calls are known. */
static double share_of_peak(const bench *b, const part *p, const timing *t, double seconds)
{
    if (t->kernels)
        return kernels_at_peak(t->kernels, &b->peaks) / seconds;
    return b->peaks.exact > 0 && b->peaks.int8 <= 0 ? p->flops / seconds / b->peaks.exact : 0;
}

static void put_times(bench *b, const part *p, timing *t)
{
    json_writer *w = &b->report;
    const spread s = spread_of(t->seconds, t->count);
    json_put_real(w, "seconds", s.median);
    if (b->params->timed)
        b->params->timed(b->params->timed_user, p->name, s.median);
    json_put_real(w, "seconds_min", s.min);
    json_put_real(w, "seconds_max", s.max);
    json_put_real(w, "seconds_mad", s.mad);
    const double processor = spread_of(t->processor, t->count).median, share = share_of_peak(b, p, t, s.median);
    json_put_real(w, "processor_seconds", processor);
    json_put_real(w, "flops", p->flops);
    json_put_real(w, "flops_per_second", p->flops / s.median);
    json_put_real(w, "share_of_peak", share);
    json_put_real(w, "processor_share_of_peak", processor > 0 ? share * s.median * b->peaks.threads / processor : 0.0);
    if (t->kernels)
        kernels_put(t->kernels, &b->kernels, p->name, s.median, &b->peaks);
}

/* No runs: it was planned. */
static void add_row(bench *b, const part *p, timing *t)
{
    json_writer *w = &b->report;
    json_begin_object(w, NULL);
    json_put_string(w, "stage", p->name);
    if (p->rows)
        json_put_integer(w, "rows", p->rows);
    if (t->count)
        put_times(b, p, t);
    else
        json_put_real(w, "flops", p->flops);
    describe_memory(w, p->plan);
    json_put_unsigned(w, "exchanged_bytes", p->exchanged);
    json_end_object(w);
}

/* The first run builds the model and touches its memory: it does not count where there are others. */
static int warm_ups(const bench *b) { return b->repeats > 1 ? 1 : 0; }

/* On a session of its own from the first run on, as a program that makes one picture after the other has it. A run ends
 * when the slowest rank does. */
static flux1_status time_task(bench *b, const part *p, const mesh_device *d, task what, void *job, session **in)
{
    timing t;
    flux1_context *c = b->c;
    TRY(session_take(c, d, b->m, NULL, in));
    flux1_status st = timing_open(b, b->repeats, &t);
    if (st == FLUX1_OK)
        st = memory_reserve(c, *in, p->plan, NULL, NULL);
    for (int i = -warm_ups(b); st == FLUX1_OK && i < b->repeats; i++) {
        if (i < 0) {
            st = task_run(c, *in, what, job);
            continue;
        }
        run_begins(b, &t);
        st = task_run(c, *in, what, job);
        run_ends(b, &t);
    }
    session_give(c, *in);
    *in = NULL;
    if (st == FLUX1_OK)
        add_row(b, p, &t);
    kernels_destroy(t.kernels);
    return st;
}

static flux1_status check_memory(const bench *b, const char *name, const stage_plan *plan, const mesh_device *d)
{
    return memory_check(b->c, memory_of(b->c, d, plan, NULL), HINT_OPTIONS, "timing %s", name);
}

static flux1_status bench_task(bench *b, const part *p, const mesh_device *d, task what, void *job, ticker *t,
                               session **in)
{
    if (b->checks)
        return check_memory(b, p->name, p->plan, d);
    if (b->events)
        return events_stage(b->events, p->name, NULL, b->c, d, task_body(what), job, t);
    if (b->repeats)
        return time_task(b, p, d, what, job, in);
    add_row(b, p, &(timing){0});
    return FLUX1_OK;
}

/* Whether stages run, and so need values; otherwise their shapes are enough. */
static bool computes(const bench *b) { return b->repeats > 0 && !b->events && !b->checks; }

static part part_of_plan(const char *name, const stage_plan *plan, int64_t rows)
{
    return (part){name, plan, plan->count.flops, plan->count.exchanged, rows};
}

static flux1_status bench_text(bench *b, bool clip_too, bool t5_too)
{
    flux1_text *text = NULL;
    text_plan plan;
    TRY(text_stand_in(b->m, bench_clip_tokens(b->m, b->params), (int)b->r.length, &text, &b->c->error));
    flux1_status st = text_plan_make(b->c, b->m, NULL, text, &plan);
    if (st == FLUX1_OK) {
        text_job *job = &plan.job;
        const part pooled = part_of_plan("clip", &plan.clip, job->clip_rows ? job->clip_rows : job->clip_length),
                   sequence = part_of_plan("t5", &plan.t5, job->t5_length);
        if (clip_too)
            st = bench_task(b, &pooled, text_device(b->c), TASK_CLIP, job, &job->ticker, &job->session);
        if (st == FLUX1_OK && t5_too)
            st = bench_task(b, &sequence, text_device(b->c), TASK_T5, job, &job->ticker, &job->session);
        text_plan_free(&plan);
    }
    flux1_text_free(text);
    return st;
}

#define OPENING "dit opening"
#define STEP "dit step"

static flux1_status time_opening(bench *b, denoiser *d, const batch_row *row, const tensor *noise, timing *t)
{
    double flops;
    run_begins(b, t);
    TRY(denoiser_open(d, row, NULL, NULL, &flops));
    run_ends(b, t);
    return denoiser_start(d, noise);
}

static flux1_status time_steps(bench *b, denoiser *d, timing *t)
{
    for (int i = -warm_ups(b); i < b->repeats; i++) {
        if (i >= 0)
            run_begins(b, t);
        TRY(denoiser_step(d, i < 0 ? 0 : i % b->r.steps));
        if (i >= 0)
            run_ends(b, t);
    }
    return FLUX1_OK;
}

/* The opening (tables of all steps; once, with the building of the model) and the steps have a row each. */
static flux1_status time_denoiser(bench *b, denoiser *d, const batch_row *row, const tensor *noise)
{
    const ops_count *all = &d->plan.count, *before = &d->plan.before;
    timing opening = {0}, step = {0};
    flux1_status st;
    TRY_CLEANUP(timing_open(b, 1, &opening));
    TRY_CLEANUP(timing_open(b, b->repeats, &step));
    if (b->repeats) {
        TRY_CLEANUP(time_opening(b, d, row, noise, &opening));
        TRY_CLEANUP(time_steps(b, d, &step));
    }
    add_row(b, &(part){OPENING, &d->plan, before->flops, before->exchanged, 0}, &opening);
    add_row(b,
            &(part){STEP, &d->plan, (all->flops - before->flops) / (double)b->r.steps,
                    (all->exchanged - before->exchanged) / (size_t)b->r.steps, 0},
            &step);
cleanup:
    kernels_destroy(opening.kernels);
    kernels_destroy(step.kernels);
    return st;
}

/* What the denoiser begins with. */
static flux1_status make_inputs(const bench *b, const denoiser *d, flux1_text *text, tensor *noise)
{
    flux1_error *err = &b->c->error;
    TRY(tensor_create(DTYPE_F32, 2, (int64_t[]){1, b->m->clip.hidden}, &text->pooled, err));
    TRY(tensor_create(DTYPE_F32, 3, (int64_t[]){1, b->r.length, b->m->t5.d_model}, &text->embeds, err));
    TRY(tensor_create(DTYPE_F32, 3, (int64_t[]){1, d->tokens, d->channels}, noise, err));
    return make_noise(b->m, &b->r, 0, 0, noise->data, err);
}

static flux1_status bench_dit(bench *b)
{
    flux1_text *text = NULL;
    denoiser d = {0};
    tensor noise = {0};
    flux1_status st;
    TRY(text_stand_in(b->m, bench_clip_tokens(b->m, b->params), (int)b->r.length, &text, &b->c->error));
    batch_row row = {.text = text, .guidance = b->r.guidance};
    TRY_CLEANUP(denoiser_plan(b->c, b->m, &b->r, 1, &d));
    if (b->checks) {
        st = check_memory(b, STEP, &d.plan, &b->c->device);
        goto cleanup;
    }
    if (computes(b))
        TRY_CLEANUP(make_inputs(b, &d, text, &noise));
    st = b->events ? events_stage(b->events, OPENING, STEP, b->c, &b->c->device, dit_dry_body, &d.job, &d.job.ticker)
                   : time_denoiser(b, &d, &row, &noise);
cleanup:
    denoiser_close(&d);
    tensor_free(&noise);
    flux1_text_free(text);
    return st;
}

static flux1_status make_planes(const bench *b, vae_job *job)
{
    const int64_t scale = vae_scale(&b->m->vae), cells = job->h * job->w;
    TRY(tensor_create(DTYPE_F32, 3, (int64_t[]){1, cells, b->m->vae.latent_channels}, &job->in, &b->c->error));
    return tensor_create(DTYPE_F32, 3, (int64_t[]){1, cells * scale * scale, 3}, &job->out, &b->c->error);
}

static flux1_status bench_vae(bench *b)
{
    decoder d;
    vae_job *job = &d.job;
    TRY(decoder_plan(b->c, b->m, &b->r, SIZE_MAX, &d));
    flux1_status st = computes(b) ? make_planes(b, job) : FLUX1_OK;
    const part p = part_of_plan("vae decode", &d.plan, 0);
    if (st == FLUX1_OK)
        st = bench_task(b, &p, &b->c->device, TASK_VAE_DECODE, job, &job->ticker, &job->session);
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
    if (is_clip || is_t5)
        TRY(bench_text(b, is_clip, is_t5));
    if (is_dit)
        TRY(bench_dit(b));
    return is_vae ? bench_vae(b) : FLUX1_OK;
}

/* All stages before the first one is timed, which may take minutes. */
static flux1_status check_stages(bench *b, const char *stage)
{
    b->checks = true;
    const flux1_status st = run_stages(b, stage);
    b->checks = false;
    return st;
}

static bool is_stage(const char *name)
{
    static const char *const stages[] = {"all", "clip", "t5", "dit", "vae"};
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++)
        if (strcmp(name, stages[i]) == 0)
            return true;
    return false;
}

/* What needs no model to be judged. */
static flux1_status check_params(flux1_context *c, const flux1_bench_params *p)
{
    flux1_error *err = &c->error;
    if (!p || p->size < offsetof(flux1_bench_params, reserved))
        return error_set(err, FLUX1_ERR_ARGUMENT, "the parameters were not set up by flux1_bench_params_defaults");
    TRY(context_needs(c, p->stage, "stage"));
    if (!is_stage(p->stage))
        return error_set(err, FLUX1_ERR_ARGUMENT, "stage \"%s\": it should be all, clip, t5, dit or vae", p->stage);
    if (!p->path && !p->parts)
        TRY(context_needs(c, p->variant, "variant"));
    if (p->repeats < 0 || p->repeats > REPEATS_MAX)
        return error_set(err, FLUX1_ERR_ARGUMENT, "repeats %d: it should be 0 to %d", p->repeats, REPEATS_MAX);
    if (p->runs < 0 || p->runs > RUNS_MAX)
        return error_set(err, FLUX1_ERR_ARGUMENT, "runs %d: it should be 1 to %d, or 0 to time the stages alone",
                         p->runs, RUNS_MAX);
    if (p->weights != FLUX1_DTYPE_F32 && p->weights != FLUX1_DTYPE_BF16)
        return error_set(err, FLUX1_ERR_ARGUMENT, "weights %d: it should be FLUX1_DTYPE_F32 or FLUX1_DTYPE_BF16",
                         (int)p->weights);
    return p->profile ? file_check_writable(p->profile, err) : FLUX1_OK;
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
    model_paths paths = {.model = p->path};
    if (p->parts)
        TRY(opening_paths(c, p->parts, &paths));
    if (p->parts || p->path)
        TRY(opening_run(c, &paths, m));
    else
        TRY(folder_synthetic(p->variant, p->weights == FLUX1_DTYPE_F32 ? DTYPE_F32 : DTYPE_BF16, true, m, &c->error));
    if (p->clip_tokens < 0 || p->clip_tokens > (*m)->clip_length)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "clip_tokens %d: this model's CLIP has 1 to %d, or 0 for all",
                         p->clip_tokens, (*m)->clip_length);
    *b = (bench){.c = c,
                 .params = p,
                 .m = *m,
                 .repeats = p->repeats,
                 .report = {.style = JSON_INDENTED},
                 .kernels = {.style = JSON_LINE}};
    return request_make(c, *m, &g, &b->r);
}

/* What else was asked for that changes times: one of the defaults has no member. */
static void describe_choices(json_writer *w, const flux1_context *c)
{
    const ops_config *device = &c->device.config;
    if (device->eager || device->branches)
        json_put_string(w, "capture", device->eager ? "no" : "branches");
    if (device->held != HELD_AUTO)
        json_put_string(w, "device_weights", device->held == HELD_PACKED ? "packed" : "decoded");
    if (c->has_text_device)
        json_put_string(w, "encoder_device", c->text_device.device->info.id);
    if (c->asked_memory)
        json_put_unsigned(w, "max_memory", c->asked_memory);
    if (c->asked_device_memory)
        json_put_unsigned(w, "max_device_memory", c->asked_device_memory);
}

/* Members that say what is planned. */
static void describe_run(json_writer *w, const bench *b, const flux1_bench_params *p)
{
    const mesh_config *shape = &b->c->mesh;
    json_put_string(w, "model", p->path || p->parts ? b->m->name ? b->m->name : b->m->path : p->variant);
    if (!p->path && !p->parts)
        json_put_string(w, "weights", p->weights == FLUX1_DTYPE_F32 ? "f32" : "bf16");
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
    json_put_integer(w, "clip_tokens", bench_clip_tokens(b->m, p));
    describe_choices(w, b->c);
}

/* Of the last minute: how many threads of the whole machine ran or wanted to; null where nothing says so. */
static void put_load(json_writer *w)
{
    sysfile f;
    uint64_t whole, hundredths;
    if (!sysfile_open(&f, "/proc", "/loadavg")) {
        json_put_null(w, "load_average");
        return;
    }
    const char *line = sysfile_line(&f);
    if (line && sysfile_number(&line, &whole) && *line++ == '.' && sysfile_number(&line, &hundredths))
        json_put_real(w, "load_average", (double)whole + (double)hundredths / 100);
    else
        json_put_null(w, "load_average");
    sysfile_close(&f);
}

/* Members that say what else times depend on. */
static void describe_setup(json_writer *w, const bench *b)
{
    char cpu[CPU_NAME];
    machine_cpu_name(cpu);
    json_put_string(w, "version", flux1_version());
    json_put_string(w, "cpu", cpu);
    put_load(w);
    if (b->params->runs)
        return;
    json_put_integer(w, "repeats", b->repeats);
    json_put_integer(w, "uncounted_repeats", b->repeats ? warm_ups(b) : 0);
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

/* The list of kernels, which was written beside that of the stages. */
static flux1_status put_kernels(bench *b)
{
    char *text;
    json_value *list;
    TRY(json_take(&b->kernels, "the kernels", &text, &b->c->error));
    flux1_status st = json_parse(text, strlen(text), "the kernels", &list, &b->c->error);
    free(text);
    if (st == FLUX1_OK && json_array_size(list) > 0)
        json_put_value(&b->report, "kernels", list);
    json_free(list);
    return st;
}

/* The stages, a row each, or whole pipelines. */
static flux1_status time_all(bench *b, const flux1_bench_params *p)
{
    json_writer *w = &b->report;
    if (p->runs)
        return runs_report(b->c, b->m, &b->r, p, w);
    if (b->repeats) {
        TRY(check_stages(b, p->stage));
        TRY(peaks_measure(b->c, &b->peaks));
    }
    json_put_real(w, "peak_flops_per_second", b->peaks.exact);
    json_put_string(w, "peak_type", peaks_type(&b->peaks, false));
    if (b->c->device.config.int8)
        json_put_real(w, "peak_int8_flops_per_second", b->peaks.int8);
    json_begin_array(w, "stages");
    json_begin_array(&b->kernels, NULL);
    TRY(run_stages(b, p->stage));
    json_end_array(w);
    json_end_array(&b->kernels);
    return put_kernels(b);
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

/* On a device that runs ahead a call only enqueues; other processes' calls come when all is over. */
static bool times_kernels(const bench *b)
{
    const flux1_context *c = b->c;
    const bool ahead = c->device.device->info.runs_ahead || text_device(c)->device->info.runs_ahead;
    return b->repeats > 0 && b->params->runs == 0 && !ahead && !c->processes;
}

static flux1_status make_report(bench *b, const flux1_bench_params *p, char **json)
{
    struct rusage use;
    json_writer *w = &b->report;
    json_begin_object(w, NULL);
    describe_setup(w, b);
    describe_run(w, b, p);
    b->profiled = times_kernels(b);
    if (p->profile || b->profiled)
        TRY(profiling_begin(b->c));
    TRY(time_all(b, p));
    const flux1_status written = p->profile ? report_profile(b, p->profile) : FLUX1_OK;
    getrusage(RUSAGE_SELF, &use);
    json_put_integer(w, "peak_rss_bytes", (int64_t)use.ru_maxrss * 1024);
    json_end_object(w);
    TRY(json_take(w, "the table", json, &b->c->error));
    return written;
}

flux1_status flux1_bench_json(flux1_context *c, const flux1_bench_params *params, char **json)
{
    bench b = {0};
    flux1_model *m = NULL;
    flux1_status st;
    TRY(context_begin(c));
    TRY(context_needs(c, json, "json"));
    *json = NULL;
    TRY(context_computes(c));
    TRY(check_params(c, params));
    if (c->cards)
        return error_set(&c->error, FLUX1_ERR_UNSUPPORTED,
                         "bench measures stages on the host and on GPUs; for device ttnn there is flux1 plan");
    TRY_CLEANUP(take_params(c, params, &m, &b));
    if (params->events)
        TRY_CLEANUP(write_events(&b, params));
    st = make_report(&b, params, json);
cleanup:
    profiling_end(c);
    json_abandon(&b.report);
    json_abandon(&b.kernels);
    folder_close(m);
    return st;
}
