/* flux1 plan: what each way to use a machine's mesh would take, by the dry run's events. estimate.h takes the
 * time of each. */
#include "pipeline/opening.h"
#include "pipeline/recording.h"
#include "pipeline/text_to_image.h"

#include "base/file.h"
#include "base/json_write.h"
#include "flux1_tools.h"
#include "tools/estimate.h"
#include "tools/machine_cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void flux1_plan_params_defaults(flux1_plan_params *p)
{
    if (p)
        *p = (flux1_plan_params){.size = sizeof *p, .variant = "schnell", .machine = "this-cpu"};
}

typedef struct row {
    int listed; /* number in the list of ways */
    mesh_config mesh;
    estimate_part part[ESTIMATE_PARTS];
    double seconds, memory, limit; /* limit: bytes that a rank has */
    cost all;
    bool fits;
} row;

enum { ROWS_MAX = 8 };

typedef struct planner {
    flux1_context *c;
    const flux1_model *model;
    request r;
    flux1_text *text;
    machine machine;
    estimator estimator;
    machine_dtype dtype;
    row rows[ROWS_MAX];
    int count;
} planner;

/* ---- the ways to use a mesh ---- */

/* Axes that are not used say nothing: they are as mesh_parse would have them. */
static mesh_config way(const machine *m, int sp_axis, bool sp, bool tp)
{
    mesh_config c = {.shape = {m->mesh[0], m->mesh[1]}, .sp = 1, .tp = 1, .sp_axis = sp_axis, .tp_axis = 1 - sp_axis};
    if (sp)
        c.sp = m->mesh[c.sp_axis];
    if (tp)
        c.tp = m->mesh[c.tp_axis];
    return c;
}

static bool same_way(const mesh_config *a, const mesh_config *b)
{
    return a->sp == b->sp && a->tp == b->tp && (a->sp == 1 || a->sp_axis == b->sp_axis) &&
           (a->tp == 1 || a->tp_axis == b->tp_axis);
}

/* Whether it is what `sp` and `tp` ask for, where they do. */
static bool is_wanted(const mesh_config *c, const mesh_config *sp, const mesh_config *tp)
{
    return (!sp || (c->sp == sp->sp && (c->sp == 1 || c->sp_axis == sp->sp_axis))) &&
           (!tp || (c->tp == tp->tp && (c->tp == 1 || c->tp_axis == tp->tp_axis)));
}

static void add_way(planner *p, mesh_config c, const mesh_config *sp, const mesh_config *tp)
{
    for (int i = 0; i < p->count; i++)
        if (same_way(&p->rows[i].mesh, &c))
            return;
    if (is_wanted(&c, sp, tp)) {
        p->rows[p->count] = (row){.listed = p->count, .mesh = c};
        p->count++;
    }
}

/* "2x4sp1tp0" */
static bool names_axes(const char *shape) { return shape && shape[strspn(shape, "0123456789x")] != '\0'; }

static flux1_status list_ways(planner *p, const flux1_plan_params *params)
{
    const machine *m = &p->machine;
    mesh_config both, sp, tp;
    char plain[32];
    flux1_error *err = &p->c->error;
    bool named = names_axes(params->mesh);
    snprintf(plain, sizeof plain, "%dx%d", m->mesh[0], m->mesh[1]);
    const char *shape = named ? params->mesh : plain;
    TRY(mesh_parse(shape, params->sp, params->tp, &both, err));
    TRY(mesh_parse(shape, params->sp, NULL, &sp, err));
    TRY(mesh_parse(shape, NULL, params->tp, &tp, err));
    for (int axis = 0; axis < 2; axis++)
        for (int used = 3; used >= 0; used--)
            add_way(p, way(m, axis, used & 1, used & 2), named || (params->sp && *params->sp) ? &sp : NULL,
                    named || (params->tp && *params->tp) ? &tp : NULL);
    return FLUX1_OK;
}

/* ---- one way ---- */

static flux1_status plan_row(planner *p, row *r)
{
    TRY(estimator_texts(&p->estimator, &r->mesh, r->part));
    TRY(estimator_pictures(&p->estimator, &r->mesh, r->part));
    for (int i = 0; i < ESTIMATE_PARTS; i++) {
        estimate_part *one = &r->part[i];
        for (int64_t k = 0; k < one->times; k++)
            cost_add(&r->all, &one->cost);
    }
    r->seconds = r->all.seconds;
    r->memory = estimate_memory(r->part);
    r->limit = p->machine.memory / machine_share(&p->machine, mesh_ranks(&r->mesh));
    r->fits = r->memory <= r->limit;
    return FLUX1_OK;
}

/* What fits first, then by time; equal ones in the order they were listed. */
static int by_merit(const void *a, const void *b)
{
    const row *x = a, *y = b;
    if (x->fits != y->fits)
        return y->fits - x->fits;
    if (x->seconds != y->seconds)
        return x->seconds > y->seconds ? 1 : -1;
    return x->listed - y->listed;
}

/* ---- the report ---- */

static void put_factor(json_writer *w, const char *key, int factor, int axis)
{
    char text[32];
    snprintf(text, sizeof text, "%d@%d", factor, axis);
    json_put_string(w, key, text);
}

static void put_costs(json_writer *w, const cost *c)
{
    json_begin_object(w, "seconds_of");
    for (cost_part p = 0; p < COSTS; p++)
        if (c->part[p] > 0)
            json_put_real(w, cost_key(p), c->part[p]);
    json_end_object(w);
}

static void put_part(json_writer *w, const char *name, const estimate_part *p)
{
    double times = (double)p->times;
    json_begin_object(w, NULL);
    json_put_string(w, "stage", name);
    json_put_integer(w, "times", p->times);
    json_put_real(w, "seconds", times * p->cost.seconds);
    json_put_real(w, "seconds_each", p->cost.seconds);
    json_put_string(w, "bound", cost_name(cost_bound(&p->cost)));
    json_put_real(w, "moved_bytes", times * p->cost.moved);
    json_put_real(w, "hidden_bytes", times * p->cost.hidden);
    json_put_real(w, "moved_bytes_all_ranks", times * p->moved_by_all);
    json_put_real(w, "memory_bytes", p->memory);
    put_costs(w, &p->cost);
    json_end_object(w);
}

static void put_row(json_writer *w, const planner *p, const row *r)
{
    const mesh_config *c = &r->mesh;
    char shape[32];
    json_begin_object(w, NULL);
    snprintf(shape, sizeof shape, "%dx%d", c->shape[0], c->shape[1]);
    json_put_string(w, "machine", p->machine.name);
    json_put_string(w, "about", p->machine.about);
    json_put_string(w, "mesh", shape);
    put_factor(w, "sp", c->sp, c->sp_axis);
    put_factor(w, "tp", c->tp, c->tp_axis);
    json_put_integer(w, "ranks", mesh_ranks(c));
    json_put_integer(w, "width", p->r.width);
    json_put_integer(w, "height", p->r.height);
    json_put_integer(w, "steps", p->r.steps);
    json_put_integer(w, "max_sequence_length", p->r.length);
    json_put_string(w, "dtype", machine_dtype_name(p->dtype));
    json_put_real(w, "total_seconds", r->seconds);
    json_put_string(w, "bound", cost_name(cost_bound(&r->all)));
    json_put_real(w, "moved_bytes", r->all.moved);
    json_put_real(w, "hidden_bytes", r->all.hidden);
    json_put_real(w, "memory_bytes", r->memory);
    json_put_real(w, "memory_limit_bytes", r->limit);
    json_put_bool(w, "fits", r->fits);
    json_begin_array(w, "stages");
    for (int i = 0; i < ESTIMATE_PARTS; i++)
        put_part(w, estimate_names[i], &r->part[i]);
    json_end_array(w);
    json_end_object(w);
}

static flux1_status report(const planner *p, char **json)
{
    json_writer w = {.style = JSON_INDENTED};
    json_begin_array(&w, NULL);
    for (int i = 0; i < p->count; i++)
        put_row(&w, p, &p->rows[i]);
    json_end_array(&w);
    return json_take(&w, "the plans", json, &p->c->error);
}

/* A step of the best way. */
static flux1_status draw(planner *p, const char *path)
{
    timeline t = {0};
    const row *best = &p->rows[0];
    const mesh_config *m = &best->mesh;
    char title[256];
    double seconds;
    flux1_status st = estimator_draw(&p->estimator, m, &t, &seconds);
    snprintf(title, sizeof title, "%s, mesh %dx%d, sp %d@%d, tp %d@%d: a step of %lldx%lld in %.1f ms (planned)",
             p->machine.name, m->shape[0], m->shape[1], m->sp, m->sp_axis, m->tp, m->tp_axis, (long long)p->r.width,
             (long long)p->r.height, 1e3 * seconds);
    if (st == FLUX1_OK)
        st = timeline_write(&t, title, path, &p->c->error);
    timeline_free(&t);
    return st;
}

/* ---- the request ---- */

static flux1_status take_mesh(planner *p, const char *shape)
{
    mesh_config c;
    if (!shape || !*shape)
        return FLUX1_OK;
    TRY(mesh_parse(shape, NULL, NULL, &c, &p->c->error));
    machine *m = &p->machine;
    if (c.shape[0] * c.shape[1] > 1 && !machine_joins(m))
        return error_set(&p->c->error, FLUX1_ERR_ARGUMENT,
                         "mesh \"%s\": machine %s is one device without links; a machine file whose \"exchange\" has "
                         "all_gather, reduce_scatter and shift can have more",
                         shape, m->name);
    m->mesh[0] = c.shape[0];
    m->mesh[1] = c.shape[1];
    return FLUX1_OK;
}

static flux1_status take_dtype(planner *p, flux1_dtype asked)
{
    const machine *m = &p->machine;
    flux1_error *err = &p->c->error;
    const int8_kind int8 = asked == FLUX1_DTYPE_INT8        ? INT8_FINE
                           : asked == FLUX1_DTYPE_INT8_FAST ? INT8_ROTATED
                                                            : INT8_NONE;
    if (asked == FLUX1_DTYPE_FP8 || (int8 && !m->this_cpu))
        return error_set(err, FLUX1_ERR_UNSUPPORTED,
                         "dtype %s: plans are made for f32 and bf16, and of this machine's CPU for int8 and int8-fast",
                         int8 ? machine_dtype_name((machine_dtype){0, int8}) : "fp8");
    p->dtype.int8 = int8;
    p->dtype.exact = asked == FLUX1_DTYPE_AUTO || int8 ? (m->this_cpu ? ops_cpu_multiplies_bf16() : m->dtype)
                                                       : asked == FLUX1_DTYPE_BF16;
    if (!m->this_cpu && !(m->peak[p->dtype.exact] > 0))
        return error_set(err, FLUX1_ERR_ARGUMENT, "dtype %s: machine %s has no rate for it, only for %s",
                         machine_dtype_name(p->dtype), m->name, p->dtype.exact ? "f32" : "bf16");
    return FLUX1_OK;
}

static flux1_status take_machine(planner *p, const flux1_plan_params *params)
{
    TRY(machine_find(params->machine, &p->machine, &p->c->error));
    TRY(take_mesh(p, params->mesh));
    TRY(take_dtype(p, params->dtype));
    return p->machine.this_cpu ? machine_measure(p->c, p->dtype, &p->machine) : FLUX1_OK;
}

static flux1_status take_request(planner *p, const flux1_plan_params *params, flux1_model **m)
{
    flux1_generate_params g;
    flux1_error *err = &p->c->error;
    flux1_generate_params_defaults(&g);
    g.width = params->width ? params->width : params->path ? g.width : 1024;
    g.height = params->height ? params->height : params->path ? g.height : 1024;
    g.steps = params->steps ? params->steps : g.steps;
    g.max_sequence_length = params->sequence_length;
    if (params->path)
        TRY(opening_run(p->c, &(model_paths){.model = params->path, .variant = params->file_variant}, m));
    else
        TRY(folder_synthetic(params->variant, DTYPE_BF16, false, m, err));
    p->model = *m;
    TRY(request_make(p->c, *m, &g, &p->r));
    return text_stand_in(*m, (*m)->clip_length, (int)p->r.length, &p->text, err);
}

/* All calls of the best way. */
static flux1_status record(planner *p, const flux1_plan_params *params)
{
    recording r;
    TRY(recording_make(p->c, p->model, &p->r, &p->rows[0].mesh, params->path, &r));
    flux1_status st = recording_write(&r, params->record, &p->c->error);
    recording_free(&r);
    return st;
}

static flux1_status plan_all(planner *p)
{
    flux1_status st = FLUX1_OK;
    for (int i = 0; st == FLUX1_OK && i < p->count; i++)
        st = plan_row(p, &p->rows[i]);
    if (st == FLUX1_OK)
        qsort(p->rows, (size_t)p->count, sizeof *p->rows, by_merit);
    return st;
}

static flux1_status check_params(flux1_context *c, const flux1_plan_params *p)
{
    if (!p || p->size < offsetof(flux1_plan_params, reserved))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "the parameters were not set up by flux1_plan_params_defaults");
    TRY(context_needs(c, p->machine, "machine"));
    TRY(context_needs(c, p->path ? p->path : p->variant, "variant"));
    TRY(opening_variant(c, p->file_variant));
    if (p->steps < 0)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "steps %d: it should be at least 1, or 0 for the model's",
                         p->steps);
    if (p->dtype < FLUX1_DTYPE_AUTO || p->dtype > FLUX1_DTYPE_INT8_FAST)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "dtype %d: it should be one of flux1_dtype", (int)p->dtype);
    TRY(context_flag(c, "describe", p->describe));
    if (p->describe && (p->timeline || p->record))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "describe plans nothing, so there is no timeline to draw and nothing to record");
    if (p->timeline)
        TRY(timeline_check(p->timeline, &c->error));
    return p->record ? file_check_writable(p->record, &c->error) : FLUX1_OK;
}

/* The machine itself, as it is planned with. */
static flux1_status describe(const planner *p, char **json)
{
    json_writer w = {.style = JSON_INDENTED};
    machine_write(&w, &p->machine);
    return json_take(&w, "the machine", json, &p->c->error);
}

flux1_status flux1_plan_json(flux1_context *c, const flux1_plan_params *params, char **json)
{
    flux1_model *m = NULL;
    flux1_status st;
    TRY(context_begin(c));
    TRY(context_computes(c));
    TRY(context_needs(c, json, "json"));
    *json = NULL;
    TRY(check_params(c, params));
    planner *p = calloc(1, sizeof *p);
    if (!p)
        return error_oom(&c->error, sizeof *p, "the plan");
    p->c = c;
    TRY_CLEANUP(take_machine(p, params));
    if (params->describe) {
        st = describe(p, json);
        goto cleanup;
    }
    TRY_CLEANUP(take_request(p, params, &m));
    TRY_CLEANUP(list_ways(p, params));
    TRY_CLEANUP(estimator_open(
        &p->estimator,
        &(estimate_job){
            .c = c, .model = m, .r = &p->r, .text = p->text, .batch = 1, .machine = &p->machine, .dtype = p->dtype}));
    TRY_CLEANUP(plan_all(p));
    TRY_CLEANUP(report(p, json));
    if (params->timeline)
        TRY_CLEANUP(draw(p, params->timeline));
    if (params->record)
        TRY_CLEANUP(record(p, params));
cleanup:
    flux1_text_free(p->text);
    estimator_close(&p->estimator);
    free(p);
    folder_close(m);
    return st;
}
