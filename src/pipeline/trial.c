#include "pipeline/trial.h"

#include "base/ending.h"
#include "pipeline/dump.h"
#include "pipeline/recording_play.h"
#include "pipeline/ttnn.h"
#include "weights/store.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct trial {
    flux1_context *c;
    const trial_request *q;
    recording r;
    ttnn_part_id part;
    store *values;
    script_sources from;
    tensor output; /* of the last step */
    tensor ids;    /* whole numbers of the input whose name ends in .ids; without data: there is none */
    dump *results;
} trial;

/* ---- values by name ---- */

static flux1_status find_tensor(void *user, const char *name, const store_tensor **out, flux1_error *err)
{
    const trial *t = user;
    *out = store_find(t->values, name);
    return *out ? FLUX1_OK : error_set(err, FLUX1_ERR_MODEL, "%s has no tensor \"%.60s\"", store_path(t->values), name);
}

/* A float32 matrix of the file. */
static flux1_status find_matrix(const trial *t, const char *name, tensor *out, flux1_error *err)
{
    const store_tensor *found;
    TRY(find_tensor((void *)t, name, &found, err));
    *out = found->view;
    return out->type == DTYPE_F32 && out->dims == 2 && out->shape[0] > 0 && out->shape[1] > 0 &&
                   (uintptr_t)out->data % sizeof(float) == 0
               ? FLUX1_OK
               : error_set(err, FLUX1_ERR_FORMAT,
                           "%s: tensor \"%.60s\" should be a float32 matrix at a multiple of 4 bytes",
                           store_path(t->values), name);
}

static bool is_ids(const char *name) { return ends_in(name, ".ids"); }

static flux1_status whole_number(const trial *t, const char *name, float v, int32_t *out, flux1_error *err)
{
    if (!(v >= 0 && v < 1 << 24) || v != (float)(int32_t)v)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: tensor \"%.60s\" has %g, not a whole number from 0 to 2^24",
                         store_path(t->values), name, (double)v);
    *out = (int32_t)v;
    return FLUX1_OK;
}

/* The file's ids, before ranks ask for them: all at once. */
static flux1_status take_ids(trial *t)
{
    tensor from;
    const store_tensor *found = NULL;
    flux1_error *err = &t->c->error;
    for (size_t i = 0; i < store_count(t->values); i++)
        if (is_ids(store_at(t->values, i)->name)) {
            if (found)
                return error_set(err, FLUX1_ERR_FORMAT, "%s has ids twice: %.60s and %.60s", store_path(t->values),
                                 found->name, store_at(t->values, i)->name);
            found = store_at(t->values, i);
        }
    if (!found)
        return FLUX1_OK;
    TRY(find_matrix(t, found->name, &from, err));
    const float *values = from.data;
    TRY(tensor_create(DTYPE_I32, 2, from.shape, &t->ids, err));
    for (int64_t i = 0; i < tensor_elements(&from); i++)
        TRY(whole_number(t, found->name, values[i], (int32_t *)t->ids.data + i, err));
    return FLUX1_OK;
}

static flux1_status find_input(void *user, const char *name, tensor *out, flux1_error *err)
{
    const trial *t = user;
    TRY(find_matrix(t, name, out, err));
    if (is_ids(name))
        *out = t->ids;
    return FLUX1_OK;
}

static flux1_status find_row(void *user, const char *name, int64_t *out, flux1_error *err)
{
    tensor t;
    int32_t row = 0;
    if (!ends_in(name, "_row")) /* the cards ask for rows and inputs alike: an input of one value is no row */
        return error_set(err, FLUX1_ERR_FORMAT, "\"%.60s\" is no row: names of rows end in _row", name);
    TRY(find_matrix(user, name, &t, err));
    if (tensor_elements(&t) != 1)
        return error_set(err, FLUX1_ERR_FORMAT, "row \"%.60s\" should be one number", name);
    TRY(whole_number(user, name, *(const float *)t.data, &row, err));
    *out = row;
    return FLUX1_OK;
}

/* ---- results ---- */

static void poison(tensor *t)
{
    float *v = t->data;
    for (int64_t i = 0; i < tensor_elements(t); i++)
        v[i] = NAN;
}

static int64_t steps_of(const trial *t) { return ttnn_stages(t->part) > 1 ? t->r.steps : 1; }

static flux1_status keep(trial *t, int64_t step, flux1_error *err)
{
    char name[32];
    snprintf(name, sizeof name, "after.%d", (int)step + 1);
    return dump_add(t->results, name, DTYPE_F32, 2, t->output.shape, -1, t->output.data, err);
}

/* ---- on the reference implementation ---- */

/* All steps of a rank; `output` is overwritten by each, so rank 0 keeps it. */
static flux1_status play_steps(trial *t, mesh *m, player *p)
{
    const recording_stage first = ttnn_first_stage(t->part);
    const script *end = &t->r.stage[first + (recording_stage)ttnn_stages(t->part) - 1];
    if (ttnn_stages(t->part) > 1)
        TRY(player_run(p, &t->r.stage[first]));
    for (int64_t step = 0; step < steps_of(t); step++) {
        if (ttnn_stages(t->part) > 1)
            TRY(recording_play_step(p, m, &t->r, step));
        TRY(player_run(p, end));
        if (!mesh_leads(m))
            continue;
        if (!player_gave(p))
            return error_set(m->err, FLUX1_ERR_FORMAT, "there is no output");
        if (!ops_counts_only(m->o)) {
            TRY(ops_sync(m->o));
            TRY(keep(t, step, m->err));
        }
    }
    return FLUX1_OK;
}

static flux1_status play_body(void *arg, mesh *m)
{
    trial *t = arg;
    player *p = NULL;
    const size_t mark = ops_mark(m->o);
    TRY(player_create(m, &t->from, &p));
    const flux1_status st = play_steps(t, m, p);
    player_destroy(p);
    if (st == FLUX1_OK)
        ops_release(m->o, mark);
    return st;
}

static flux1_status run_on_ref(trial *t)
{
    flux1_context *c = t->c;
    stage_plan plan = {0};
    ticker none = {0};
    mesh_session *s = NULL;
    flux1_status st = stage_plan_make(&c->mesh, &c->device, play_body, t, &none, &plan, &c->error);
    if (st == FLUX1_OK)
        st = memory_check(c, memory_of(c, &c->device, &plan, NULL), HINT_OPTIONS, "a trial");
    if (st == FLUX1_OK)
        st = mesh_open(&c->mesh, &c->device, &s, &c->error);
    if (st == FLUX1_OK)
        st = mesh_reserve(s, plan.arena, &c->error);
    if (st == FLUX1_OK)
        st = mesh_run(s, play_body, t, &c->error);
    mesh_close(s);
    stage_plan_free(&plan);
    return st;
}

/* ---- on cards ---- */

static flux1_status run_on_cards(trial *t)
{
    flux1_context *c = t->c;
    const int64_t steps = steps_of(t);
    TRY(ttnn_try(c, &t->r, t->part, &t->from));
    for (int64_t step = 0; step < steps; step++) {
        poison(&t->output);
        TRY(ttnn_try_step(c, t->part, step, &t->from, &t->output));
        TRY(keep(t, step, &c->error));
    }
    return t->q->times && ttnn_stages(t->part) > 1 ? ttnn_try_times(c, t->part, steps - 1, t->q->times, t->q->seconds)
                                                   : FLUX1_OK;
}

/* ---- all of it ---- */

static flux1_status find_part(trial *t)
{
    int found = 0;
    for (int part = 0; part < TTNN_PART_COUNT; part++) {
        bool lines = false;
        for (int i = 0; i < ttnn_stages(part); i++)
            lines = lines || t->r.stage[(int)ttnn_first_stage(part) + i].lines > 0;
        if (lines)
            t->part = (ttnn_part_id)part;
        found += lines;
    }
    return found == 1 ? FLUX1_OK
                      : error_set(&t->c->error, FLUX1_ERR_FORMAT, "%s: it should have calls of one part, it has of %d",
                                  t->q->recording, found);
}

static flux1_status check_mesh(const trial *t)
{
    const mesh_config *mine = t->c->cards ? &t->c->cards->mesh : &t->c->mesh, *its = &t->r.mesh;
    return mine->sp == its->sp && mine->tp == its->tp
               ? FLUX1_OK
               : error_set(&t->c->error, FLUX1_ERR_ARGUMENT,
                           "the recording is of sp %d and tp %d, the context has %d and %d", its->sp, its->tp, mine->sp,
                           mine->tp);
}

static flux1_status open_all(trial *t)
{
    tensor shape;
    flux1_error *err = &t->c->error;
    TRY(recording_read(t->q->recording, &t->r, err));
    TRY(find_part(t));
    TRY(check_mesh(t));
    TRY(store_open_file(t->q->values, &t->values, err));
    TRY(find_matrix(t, "output", &shape, err));
    TRY(tensor_create(DTYPE_F32, 2, shape.shape, &t->output, err));
    poison(&t->output);
    TRY(take_ids(t));
    t->from =
        (script_sources){.tensor = find_tensor, .input = find_input, .row = find_row, .output = &t->output, .user = t};
    return dump_create(1, &t->results, err);
}

flux1_status trial_make(flux1_context *c, const trial_request *q)
{
    trial t = {.c = c, .q = q};
    *q->seconds = 0;
    if (c->device.config.bfp8 && !c->cards)
        return error_set(&c->error, FLUX1_ERR_UNSUPPORTED,
                         "a trial takes its values as they are: weight_rounding is for cards alone");
    flux1_status st = open_all(&t);
    if (st == FLUX1_OK)
        st = c->cards ? run_on_cards(&t) : run_on_ref(&t);
    if (st == FLUX1_OK)
        st = dump_write(t.results, q->out, &c->error);
    if (c->cards)
        ttnn_try_end(c, t.part); /* its recipes point into the values */
    dump_destroy(t.results);
    tensor_free(&t.output);
    tensor_free(&t.ids);
    store_close(t.values);
    recording_free(&t.r);
    return st;
}
