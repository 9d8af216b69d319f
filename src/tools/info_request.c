#include "tools/info_request.h"

#include "base/units.h"
#include "pipeline/memory_course.h"
#include "tools/describe.h"
#include "tools/estimate.h"
#include "tools/machine_cpu.h"

#include <stdio.h>

enum { STAGE_CLIP, STAGE_T5, STAGE_DENOISE, STAGE_DECODE, STAGES };
static const char *const NAMES[STAGES] = {"CLIP", "T5", "denoise", "decode"};

/* A request with the plans of its stages, and the seconds that they take. */
typedef struct planned {
    flux1_context *c;
    const flux1_model *m;
    request r;
    int64_t batch;
    flux1_text *text;
    text_plan texts;
    denoiser denoise;
    decoder decode;
    char machine[400]; /* whose seconds they are, or why there are none */
    bool known;        /* there are */
    double seconds[STAGES], step_seconds;
} planned;

static const stage_plan *plan_of(const planned *p, int stage)
{
    const stage_plan *const plans[STAGES] = {&p->texts.clip, &p->texts.t5, &p->denoise.plan, &p->decode.plan};
    return plans[stage];
}

static const mesh_device *device_of(const planned *p, int stage)
{
    return stage < STAGE_DENOISE ? text_device(p->c) : &p->c->device;
}

/* How often a stage runs: one prompt is encoded once. */
static double times_of(const planned *p, int stage)
{
    return stage < STAGE_DENOISE    ? 1
           : stage == STAGE_DENOISE ? (double)p->r.count / (double)p->batch
                                    : (double)p->r.count;
}

/* ---- seconds ---- */

/* What is known of a device's speed. */
typedef struct rates {
    machine m;
    machine_dtype type;
    char unknown[200]; /* why nothing is; empty otherwise */
} rates;

static flux1_status find_rates(flux1_context *c, const mesh_device *d, rates *out)
{
    const ops_device_info *info = &d->device->info;
    *out = (rates){.type = machine_dtype_of(&d->config)};
    if (c->cards) {
        snprintf(out->unknown, sizeof out->unknown, "not known: flux1 plan predicts Tenstorrent's machines");
        return FLUX1_OK;
    }
    if (d->kind == &ops_cpu_device)
        return machine_kept(c, out->type, &out->m);
    const char *name = machine_of_device(info->name);
    if (!name)
        snprintf(out->unknown, sizeof out->unknown, "not known: no rates of %s (%s) are built in", info->id,
                 info->name);
    else if (d->config.fp8 != FP8_NO)
        snprintf(out->unknown, sizeof out->unknown, "not known: no rates of %s in fp8 are built in", info->name);
    else if (mesh_ranks(context_mesh(c, d)) > 1)
        snprintf(out->unknown, sizeof out->unknown, "not known: no rates of links between %s are built in", info->name);
    return out->unknown[0] ? FLUX1_OK : machine_find(name, &out->m, &c->error);
}

static estimate_job job_of(const planned *p, const rates *have)
{
    return (estimate_job){.c = p->c,
                          .model = p->m,
                          .r = &p->r,
                          .text = p->text,
                          .batch = p->batch,
                          .machine = &have->m,
                          .dtype = have->type};
}

static flux1_status time_texts(planned *p, const rates *have)
{
    estimate_part part[ESTIMATE_PARTS] = {0};
    const estimate_job job = job_of(p, have);
    estimator e;
    TRY(estimator_open(&e, &job));
    flux1_status st = estimator_texts(&e, context_mesh(p->c, text_device(p->c)), part);
    p->seconds[STAGE_CLIP] = part[ESTIMATE_CLIP].cost.seconds;
    p->seconds[STAGE_T5] = part[ESTIMATE_T5].cost.seconds;
    estimator_close(&e);
    return st;
}

/* The estimator decodes whole; tiles overlap, and take more in the share of their work. */
static flux1_status time_pictures(planned *p, const rates *have)
{
    estimate_part part[ESTIMATE_PARTS] = {0};
    const estimate_job job = job_of(p, have);
    const estimate_part *decode = &part[ESTIMATE_DECODE];
    estimator e;
    TRY(estimator_open(&e, &job));
    flux1_status st = estimator_pictures(&e, context_mesh(p->c, &p->c->device), part);
    p->step_seconds = part[ESTIMATE_STEP].cost.seconds;
    p->seconds[STAGE_DENOISE] =
        part[ESTIMATE_OPENING].cost.seconds + times_of(p, STAGE_DENOISE) * (double)p->r.steps * p->step_seconds;
    if (st == FLUX1_OK && decode->flops > 0)
        p->seconds[STAGE_DECODE] =
            times_of(p, STAGE_DECODE) * decode->cost.seconds * p->decode.plan.count.flops / decode->flops;
    estimator_close(&e);
    return st;
}

static flux1_status time_stages(planned *p)
{
    rates have, of_texts;
    TRY(find_rates(p->c, &p->c->device, &have));
    of_texts = have;
    if (p->c->has_text_device)
        TRY(find_rates(p->c, &p->c->text_device, &of_texts));
    const rates *missing = have.unknown[0] ? &have : of_texts.unknown[0] ? &of_texts : NULL;
    p->known = !missing;
    if (missing) {
        snprintf(p->machine, sizeof p->machine, "%s", missing->unknown);
        return FLUX1_OK;
    }
    snprintf(p->machine, sizeof p->machine, "%.190s (%s)", have.m.about,
             !have.m.this_cpu   ? "built in"
             : have.m.disturbed ? "measured while it was busy"
                                : "measured");
    TRY(time_texts(p, &of_texts));
    return time_pictures(p, &have);
}

/* ---- what is told ---- */

static void put_seconds(json_writer *w, const planned *p, const char *key, double seconds)
{
    if (p->known)
        json_put_real(w, key, seconds);
    else
        json_put_null(w, key);
}

static void put_stage(json_writer *w, const planned *p, int stage)
{
    const stage_plan *plan = plan_of(p, stage);
    json_begin_object(w, NULL);
    json_put_string(w, "stage", NAMES[stage]);
    json_put_real(w, "flops", plan->count.flops);
    describe_memory(w, plan);
    json_put_unsigned(w, "exchanged_bytes", plan->count.exchanged);
    json_end_object(w);
}

static void put_row(json_writer *w, const planned *p, const char *name, uint64_t memory, uint64_t peak, double flops,
                    double seconds)
{
    json_begin_object(w, NULL);
    json_put_string(w, "stage", name);
    json_put_unsigned(w, "memory_bytes", memory);
    json_put_unsigned(w, "peak_bytes", peak);
    json_put_real(w, "flops", flops);
    put_seconds(w, p, "seconds", seconds);
    json_end_object(w);
}

/* Several batches are decoded each before the next one is denoised, where both fit. */
static memory_course course_of(const planned *p)
{
    const flux1_context *c = p->c;
    const memory_need both = memory_of(c, &c->device, &p->denoise.plan, &p->decode.plan);
    const bool alternate = p->r.count > p->batch && memory_fits(c, both);
    memory_stage stages[STAGES];
    for (int s = 0; s < STAGES; s++)
        stages[s] = (memory_stage){device_of(p, s), plan_of(p, s), NULL};
    if (alternate)
        stages[STAGE_DENOISE].beside = plan_of(p, STAGE_DECODE);
    return memory_over(c, stages, alternate ? STAGES - 1 : STAGES);
}

/* One stage is in memory after the other: of all together the largest counts. */
static void put_estimate(json_writer *w, const planned *p)
{
    const memory_course course = course_of(p);
    uint64_t most = 0;
    double flops = 0, seconds = 0;
    bool fits = true;
    for (int s = 0; s < STAGES; s++)
        fits = fits && memory_fits(p->c, memory_of(p->c, device_of(p, s), plan_of(p, s), NULL));
    json_put_bool(w, "fits", fits);
    json_put_unsigned(w, "later_peak_bytes", course.later);
    json_begin_array(w, "estimate");
    for (int s = 0; s < STAGES; s++) {
        const stage_plan *plan = plan_of(p, s);
        const memory_need need = memory_of(p->c, device_of(p, s), plan, NULL);
        const uint64_t memory = memory_total(need), with_weights = memory_peak(p->c, &need);
        const double work = plan->count.flops * times_of(p, s);
        put_row(w, p, NAMES[s], memory, with_weights, work, p->seconds[s]);
        most = memory > most ? memory : most;
        flops += work;
        seconds += p->seconds[s];
    }
    put_row(w, p, "all", most, course.first, flops, seconds);
    json_end_array(w);
}

/* The transformer's weights are not on the device where they are used. */
static bool weights_move(const planned *p)
{
    const flux1_context *c = p->c;
    const stage_plan *plan = &p->denoise.plan;
    return plan->count.held_bytes + plan->memory + c->device.kind->sizing->spare > c->max_device_memory;
}

/* What the seconds leave out. */
static void put_beside(json_writer *w, const planned *p)
{
    const flux1_context *c = p->c;
    const memory_need need = memory_of(c, &c->device, &p->denoise.plan, NULL);
    char bytes[BYTES_TEXT], there[BYTES_TEXT], text[240];
    if (!p->known)
        return;
    format_bytes(bytes, sizeof bytes, (double)(need.device ? p->denoise.plan.count.held_bytes : need.in_steps));
    format_bytes(there, sizeof there, (double)(need.device ? c->max_device_memory : c->max_memory));
    if (need.device && weights_move(p))
        snprintf(text, sizeof text,
                 "streaming or decoding the transformer's weights (%s) in every step, as they do not stay in the %s of "
                 "the device",
                 bytes, there);
    else if (memory_steps_stream(c, &need))
        snprintf(text, sizeof text,
                 "reading, in every step, what does not stay in the %s of memory of the %s of weights that a step uses",
                 there, bytes);
    else
        snprintf(text, sizeof text, "reading the files, for %s picture",
                 memory_streams(c, &need) ? "each" : "the first");
    json_put_string(w, "not_counted", text);
}

static void put_request(json_writer *w, const planned *p)
{
    json_begin_object(w, "request");
    json_put_integer(w, "width", p->r.width);
    json_put_integer(w, "height", p->r.height);
    json_put_integer(w, "steps", p->r.steps);
    json_put_integer(w, "max_sequence_length", p->r.length);
    json_put_integer(w, "pictures", p->r.count);
    json_put_integer(w, "batch", p->batch);
    json_begin_array(w, "stages");
    for (int s = 0; s < STAGES; s++)
        put_stage(w, p, s);
    json_end_array(w);
    json_put_string(w, "machine", p->machine);
    put_beside(w, p);
    put_seconds(w, p, "step_seconds", p->step_seconds);
    put_estimate(w, p);
    json_end_object(w);
}

static flux1_status plan_request(planned *p, const flux1_adapter_use *uses, int adapter_count,
                                 const flux1_generate_params *params)
{
    flux1_context *c = p->c;
    context_uses(c, p->m);
    TRY(request_make(c, p->m, params, &p->r));
    TRY(request_adapters(c, p->m, uses, adapter_count, &p->r));
    c->run_texts = (uint64_t)p->r.passes * text_bytes_of(p->m, p->r.length);
    TRY(text_stand_in(p->m, p->m->clip_length, (int)p->r.length, &p->text, &c->error));
    TRY(text_plan_make(c, p->m, &p->r.adapters, p->text, &p->texts));
    TRY(denoiser_plan_pictures(c, p->m, &p->r, p->r.count, false, &p->texts.t5, &p->denoise));
    p->batch = p->denoise.batch;
    return decoder_plan(c, p->m, &p->r, memory_beside(c, &c->device, NULL), &p->decode);
}

flux1_status info_request(flux1_context *c, const flux1_model *m, const flux1_adapter_use *uses, int adapter_count,
                          const flux1_generate_params *params, json_writer *w)
{
    planned p = {.c = c, .m = m};
    flux1_status st;
    TRY_CLEANUP(plan_request(&p, uses, adapter_count, params));
    TRY_CLEANUP(time_stages(&p));
    put_request(w, &p);
cleanup:
    decoder_close(&p.decode);
    denoiser_close(&p.denoise);
    text_plan_free(&p.texts);
    flux1_text_free(p.text);
    return st;
}
