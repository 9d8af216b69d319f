/* Recordings (pipeline/recording.h) for callers: what one is of, and its calls made. */
#include "pipeline/recording_play.h"

#include "base/file.h"
#include "base/json_write.h"
#include "flux1_tools.h"
#include "pipeline/trial.h"
#include "pipeline/ttnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIMES_MOST = 1000 };

static void put_factor(json_writer *w, const char *key, int factor, int axis)
{
    char text[32];
    snprintf(text, sizeof text, "%d@%d", factor, axis);
    json_put_string(w, key, text);
}

static flux1_status describe(flux1_context *c, const recording *r, const char *path, char **json)
{
    json_writer w = {.style = JSON_INDENTED};
    char shape[32];
    snprintf(shape, sizeof shape, "%dx%d", r->mesh.shape[0], r->mesh.shape[1]);
    json_begin_object(&w, NULL);
    json_put_string(&w, "file", path);
    if (r->path)
        json_put_string(&w, "model", r->path);
    json_put_string(&w, "variant", r->guidance ? "dev" : "schnell");
    json_put_integer(&w, "width", r->width);
    json_put_integer(&w, "height", r->height);
    json_put_integer(&w, "steps", r->steps);
    json_put_integer(&w, "max_sequence_length", r->t5_tokens);
    json_put_real(&w, "guidance", (double)r->guidance_scale);
    json_put_string(&w, "mesh", shape);
    put_factor(&w, "sp", r->mesh.sp, r->mesh.sp_axis);
    put_factor(&w, "tp", r->mesh.tp, r->mesh.tp_axis);
    json_begin_object(&w, "calls");
    for (int i = 0; i < RECORDING_STAGES; i++)
        json_put_integer(&w, recording_names[i], (int64_t)r->stage[i].lines);
    json_end_object(&w);
    json_end_object(&w);
    return json_take(&w, "the recording", json, &c->error);
}

flux1_status flux1_recording_json(flux1_context *c, const char *path, char **json)
{
    recording r;
    TRY(context_begin(c));
    TRY(context_needs(c, json, "json"));
    *json = NULL;
    TRY(context_needs(c, path, "path"));
    TRY(recording_read(path, &r, &c->error));
    flux1_status st = describe(c, &r, path, json);
    recording_free(&r);
    return st;
}

/* The caller's request, with what the recording has settled. */
static flux1_status take_request(flux1_context *c, const flux1_model *m, const recording *r,
                                 const flux1_generate_params *params, recording_request *out)
{
    flux1_generate_params p = *params;
    request checked;
    const bool guided = p.guidance >= 0;
    p.width = (int)r->width;
    p.height = (int)r->height;
    p.steps = (int)r->steps;
    p.max_sequence_length = (int)r->t5_tokens;
    p.guidance = guided ? p.guidance : m->dit.guidance ? r->guidance_scale : -1;
    TRY(request_make(c, m, &p, &checked));
    TRY(recording_takes(&checked, &c->error));
    if (checked.count != 1)
        return error_set(&c->error, FLUX1_ERR_UNSUPPORTED, "a recording makes one picture at a time");
    *out = (recording_request){.prompt = checked.prompt, .seed = checked.seed, .guidance = p.guidance};
    return FLUX1_OK;
}

static flux1_status check_context(flux1_context *c, const recording *r)
{
    const mesh_config *a = c->cards ? &c->cards->mesh : &c->mesh, *b = &r->mesh;
    if (c->processes)
        return error_set(&c->error, FLUX1_ERR_UNSUPPORTED, "a recording runs in one process");
    if (c->device.config.bfp8 && !c->cards)
        return error_set(&c->error, FLUX1_ERR_UNSUPPORTED,
                         "a recording runs with the model's own weights: weight_rounding cannot be used");
    return a->sp == b->sp && a->tp == b->tp
               ? FLUX1_OK
               : error_set(&c->error, FLUX1_ERR_ARGUMENT,
                           "the recording is of sp %d and tp %d, the context has %d and %d", b->sp, b->tp, a->sp,
                           a->tp);
}

/* As flux1_generate does: into *images, or to the request's callback. */
static flux1_status hand_out(flux1_context *c, const flux1_generate_params *params, flux1_image *picture,
                             flux1_image **images)
{
    flux1_status st = FLUX1_OK;
    if (images) {
        if (!(*images = malloc(sizeof **images)))
            return error_oom(&c->error, sizeof **images, "the picture");
        **images = *picture;
        *picture = (flux1_image){0};
    } else if (params->image && params->image(params->image_user, picture))
        st = error_set(&c->error, FLUX1_ERR_CANCELLED, "cancelled");
    return st;
}

/* On cards: a request like others, whose calls are the recording's. */
static flux1_status run_on_cards(flux1_context *c, const flux1_model *m, recording *r,
                                 const flux1_generate_params *params, flux1_image **images)
{
    recording_request q;
    flux1_generate_params p = *params;
    TRY(check_context(c, r));
    for (int i = 0; i < RECORDING_STAGES; i++)
        if (r->stage[i].lines == 0)
            return error_set(&c->error, FLUX1_ERR_FORMAT, "stage %s has no calls", recording_names[i]);
    TRY(take_request(c, m, r, params, &q));
    p.width = (int)r->width;
    p.height = (int)r->height;
    p.steps = (int)r->steps;
    p.max_sequence_length = (int)r->t5_tokens;
    p.guidance = q.guidance;
    c->cards->given = r;
    const flux1_status st = flux1_generate(c, m, &p, images);
    c->cards->given = NULL;
    return st;
}

static flux1_status run(flux1_context *c, const flux1_model *m, const recording *r, const flux1_generate_params *params,
                        flux1_image **images)
{
    recording_request q;
    recording_results results;
    flux1_image picture = {.size = sizeof picture};
    TRY(check_context(c, r));
    TRY(take_request(c, m, r, params, &q));
    TRY(recording_play(c, m, r, &q, &results, &picture));
    recording_results_free(&results);
    picture.seed = q.seed;
    context_sign(c, &picture);
    flux1_status st = hand_out(c, params, &picture, images);
    free(picture.pixels);
    return st;
}

flux1_status flux1_recording_run(flux1_context *c, const flux1_model *model, const char *path,
                                 const flux1_generate_params *params, flux1_image **images)
{
    recording r;
    flux1_generate_params p;
    TRY(context_begin(c));
    TRY(context_computes(c));
    if (images)
        *images = NULL;
    TRY(context_needs(c, model, "model"));
    TRY(context_needs(c, path, "path"));
    TRY(request_params(c, params, &p));
    if (!images && !p.image)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "images is NULL and params->image too: nobody would see a picture");
    TRY(recording_read(path, &r, &c->error));
    context_uses(c, model);
    flux1_status st = FLUX1_OK;
    if (c->cards)
        st = run_on_cards(c, model, &r, &p, images);
    else {
        st = token_enter(c, p.cancel);
        if (st == FLUX1_OK)
            st = run(c, model, &r, &p, images);
        token_leave(c);
    }
    recording_free(&r);
    const bool about_it = st == FLUX1_ERR_FORMAT || st == FLUX1_ERR_MODEL || st == FLUX1_ERR_NUMERIC ||
                          st == FLUX1_ERR_MEMORY || st == FLUX1_ERR_LIMIT;
    return about_it ? error_prefix(&c->error, "%s", path) : st;
}

flux1_status flux1_recording_try(flux1_context *c, const char *path, const char *values, const char *out, int times,
                                 double *seconds)
{
    double median = 0;
    TRY(context_begin(c));
    TRY(context_computes(c));
    TRY(context_needs(c, path, "path"));
    TRY(context_needs(c, values, "values"));
    TRY(context_needs(c, out, "out"));
    if (times < 0 || times > TIMES_MOST)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "times is %d: must be 0 to %d", times, TIMES_MOST);
    if (!c->cards && strcmp(c->device.kind->name, "ref") != 0)
        return error_set(&c->error, FLUX1_ERR_UNSUPPORTED, "given values are tried on ref or ttnn, not on %s",
                         c->device.kind->name);
    TRY(file_check_writable(out, &c->error));
    TRY(token_enter(c, NULL));
    const trial_request q = {.recording = path, .values = values, .out = out, .times = times, .seconds = &median};
    const flux1_status st = trial_make(c, &q);
    token_leave(c);
    if (seconds)
        *seconds = median;
    return st;
}
