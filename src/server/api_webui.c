/* AUTOMATIC1111's interface as its clients use it: pictures from text, and how far they are. */
#include "server/base64.h"
#include "server/jobs.h"
#include "server/picture_text.h"
#include "server/png_info.h"
#include "server/routes.h"
#include "server/webui_request.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- txt2img ---- */

/* With the tags of adapters, as their own server tells it. */
static const char *prompt_of(const job *j) { return j->request.written ? j->request.written : j->request.prompt; }

/* The text "parameters" of one picture's file. */
static void put_infotext(json_writer *w, server *s, const job_picture *p)
{
    json_value *facts = NULL;
    fault f;
    char *path = history_picture_path(s->history, p->name);
    const bool good = path && png_info_of_file(s, path, &facts, &f);
    const char *text = good ? json_string_value(json_object_get(facts, "parameters")) : NULL;
    json_put_string(w, NULL, text ? text : "");
    json_free(facts);
    free(path);
}

static void put_lists(json_writer *w, server *s, const job *j, int finished)
{
    json_begin_array(w, "all_prompts");
    for (int i = 0; i < finished; i++)
        json_put_string(w, NULL, prompt_of(j));
    json_end_array(w);
    json_begin_array(w, "all_seeds");
    for (int i = 0; i < finished; i++)
        json_put_unsigned(w, NULL, j->pictures[i].seed);
    json_end_array(w);
    json_begin_array(w, "infotexts");
    for (int i = 0; i < finished; i++)
        if (i < j->made)
            put_infotext(w, s, &j->pictures[i]);
        else
            json_put_string(w, NULL, ""); /* it has no file, and is told in full */
    json_end_array(w);
}

/* What the web UI calls info is JSON as a text; with ours, the job, whose pictures /api/jobs names. */
static void put_info(json_writer *out, server *s, const job *j, int finished)
{
    const job_request *r = &j->request;
    json_writer w = {.style = JSON_LINE};
    char *text = NULL;
    json_begin_object(&w, NULL);
    json_put_string(&w, "prompt", prompt_of(j));
    json_put_string(&w, "negative_prompt", r->negative_prompt ? r->negative_prompt : "");
    json_put_unsigned(&w, "seed", finished > 0 ? j->pictures[0].seed : r->seed); /* of the first that is given */
    json_put_integer(&w, "width", r->width);
    json_put_integer(&w, "height", r->height);
    json_put_integer(&w, "steps", r->steps);
    json_put_string(&w, "sampler_name", "Euler");
    json_put_float(&w, "cfg_scale", r->true_cfg_scale);
    if (r->guidance >= 0)
        json_put_float(&w, "distilled_cfg_scale", r->guidance);
    json_put_integer(&w, "batch_size", r->count);
    json_put_integer(&w, "index_of_first_image", 0);
    json_put_string(&w, "sd_model_name", r->model);
    json_put_null(&w, "sd_model_hash");
    put_lists(&w, s, j, finished);
    json_put_string(&w, "job", j->id);
    remarks_put(&w, "notes", &j->notes);
    if (j->error.kind != FAULT_NONE)
        fault_put(&w, "error", &j->error);
    json_end_object(&w);
    out->text.failed |= json_take(&w, "info", &text, NULL) != FLUX1_OK;
    json_put_string(out, "info", text);
    free(text);
}

/* Of a job that was interrupted, or has failed in its midst, what is finished: an interrupt is no error there. */
static void finish(exchange *x, bool send)
{
    const job *j = x->job;
    json_writer w = {.style = JSON_LINE};
    const int finished = send ? job_finished(j) : j->made; /* one that is neither sent nor kept is none */
    fault f = {0};
    if (finished == 0) {
        f = j->error;
        if (f.kind == FAULT_NONE)
            fault_set(&f, FAULT_UNAVAILABLE, NULL,
                      j->passed > 0 && !j->cancelled ? "all pictures were skipped" : "the job was cancelled");
        answer_fault(x, &f);
        return;
    }
    json_begin_object(&w, NULL);
    json_begin_array(&w, "images");
    for (int i = 0; i < finished && send && f.kind == FAULT_NONE; i++)
        picture_text_put_finished(&w, NULL, x->server, j, i, &f);
    json_end_array(&w);
    if (f.kind != FAULT_NONE) {
        json_abandon(&w);
        answer_fault(x, &f);
        return;
    }
    request_put(&w, "parameters", &j->request);
    put_info(&w, x->server, j, finished);
    json_end_object(&w);
    answer_json(x, 200, &w);
}

static void finish_sending(exchange *x) { finish(x, true); }
static void finish_keeping(exchange *x) { finish(x, false); }

/* With the model that the request names, or the options have chosen. */
static served_model *begin(server *s, const json_value *root, job_request *r, fault *f)
{
    const char *wanted;
    char name[MODEL_NAME_ROOM];
    if (!webui_wanted_model(json_object_get(root, "override_settings"), &wanted, f))
        return NULL;
    if (wanted && wanted[0])
        webui_model_name(wanted, name);
    else
        models_chosen(s, name);
    return models_begin(s, name, "override_settings", r, f);
}

static void make_pictures(exchange *x)
{
    server *s = x->server;
    json_value *root;
    job_request r;
    webui_wishes w = {0};
    remarks said = {0};
    fault f = {0};
    job *j = NULL;
    if (!exchange_json(x, &root))
        return;
    served_model *m = begin(s, root, &r, &f);
    if (m) {
        const bool good = webui_request_read(root, &r, &w, &said, &f);
        j = jobs_submit(s, m, &r, good, &said, FLUX1_FORMAT_JPEG, &f);
    }
    json_free(root);
    remarks_free(&said);
    if (j)
        exchange_wait(x, j, w.send ? finish_sending : finish_keeping);
    else
        answer_fault(x, &f);
}

void webui_txt2img(exchange *x) { exchange_aside(x, make_pictures); }

void webui_img2img(exchange *x)
{
    fault f = {0};
    fault_set(&f, FAULT_INVALID, NULL,
              "/sdapi/v1/img2img is not served: this server makes pictures from text alone (POST /sdapi/v1/txt2img)");
    answer_fault(x, &f);
}

/* ---- progress ---- */

/* With the lock held; j NULL: nothing runs. */
static void put_state(json_writer *w, const queue *q, const job *j)
{
    json_begin_object(w, "state");
    json_put_bool(w, "skipped", q->skipped);
    json_put_bool(w, "interrupted", q->interrupted);
    json_put_string(w, "job", j ? j->id : "");
    json_put_integer(w, "job_count", (j ? j->request.count - j->image : 0) + q->waiting);
    json_put_string(w, "job_timestamp", "0");
    json_put_integer(w, "job_no", j ? j->image : 0);
    json_put_integer(w, "sampling_step", j ? j->step : 0);
    json_put_integer(w, "sampling_steps", j ? j->steps : 0);
    json_end_object(w);
}

static void put_current(json_writer *w, const job *j)
{
    builder text = {0};
    if (j && j->preview.bytes)
        base64_add(&text, j->preview.bytes, j->preview.count);
    json_put_string(w, "current_image", text.text);
    w->text.failed |= text.failed;
    builder_free(&text);
}

void webui_progress(exchange *x)
{
    queue *q = &x->server->queue;
    const char *skip = exchange_query(x, "skip_current_image");
    const bool skips = skip && (strcasecmp(skip, "true") == 0 || strcmp(skip, "1") == 0); /* Python writes True */
    json_writer w = {.style = JSON_LINE};
    json_begin_object(&w, NULL);
    queue_lock(q);
    const job *j = q->running;
    json_put_real(&w, "progress", j ? j->fraction : 0);
    json_put_real(&w, "eta_relative", j && j->seconds_left >= 0 ? j->seconds_left : 0);
    put_state(&w, q, j);
    put_current(&w, skips ? NULL : j);
    json_put_string(&w, "textinfo", j ? j->stage : NULL);
    queue_unlock(q);
    json_end_object(&w);
    answer_json(x, 200, &w);
}

static void answer_empty(exchange *x)
{
    json_writer w = {.style = JSON_LINE};
    json_begin_object(&w, NULL);
    json_end_object(&w);
    answer_json(x, 200, &w);
}

/* Of all that run, here and for the skip: the interface knows of one state. */
void webui_interrupt(exchange *x)
{
    queue *q = &x->server->queue;
    queue_lock(q);
    q->interrupted = true;
    for (job *j = q->running; j; j = j->next)
        queue_cancel(q, j);
    queue_unlock(q);
    answer_empty(x);
}

void webui_skip(exchange *x)
{
    queue *q = &x->server->queue;
    queue_lock(q);
    queue_skip(q);
    queue_unlock(q);
    answer_empty(x);
}

/* ---- png-info ---- */

/* Behind "data:image/png;base64,", if that is there. */
static const char *bare_base64(const char *text)
{
    const char *comma = strncmp(text, "data:", 5) == 0 ? strchr(text, ',') : NULL;
    return comma ? comma + 1 : text;
}

static bool read_image(exchange *x, const json_value *root, json_value **facts, fault *f)
{
    const char *text = json_string_value(json_object_get(root, "image"));
    uint8_t *bytes = NULL;
    size_t count = 0;
    if (!text)
        return fault_set(f, FAULT_INVALID, "image", "\"image\" must be a picture as base64");
    text = bare_base64(text);
    if (!base64_read(text, strlen(text), &bytes, &count))
        return fault_set(f, FAULT_INVALID, "image", "\"image\" is not base64");
    const bool good = png_info_read(x->server, (const char *)bytes, count, facts, f);
    free(bytes);
    return good;
}

static void tell_png_info(exchange *x)
{
    json_value *root, *facts = NULL;
    json_writer w = {.style = JSON_LINE};
    fault f = {0};
    if (!exchange_json(x, &root))
        return;
    const bool good = read_image(x, root, &facts, &f);
    json_free(root);
    if (!good) {
        answer_fault(x, &f);
        return;
    }
    const char *text = json_string_value(json_object_get(facts, "parameters"));
    json_begin_object(&w, NULL);
    json_put_string(&w, "info", text ? text : "");
    json_begin_object(&w, "items");
    if (text)
        json_put_string(&w, "parameters", text);
    json_end_object(&w);
    png_info_put_request(&w, "parameters", json_object_get(facts, "request"));
    json_end_object(&w);
    json_free(facts);
    answer_json(x, 200, &w);
}

void webui_png_info(exchange *x) { exchange_aside_reading(x, tell_png_info); } /* it writes a file */
