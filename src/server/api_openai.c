/* OpenAI's interface for pictures, as its clients use it: /v1/images/generations and /v1/models. */
#include "server/base64.h"
#include "server/jobs.h"
#include "server/openai_request.h"
#include "server/picture_text.h"
#include "server/routes.h"
#include "server/stream.h"

#include <stdlib.h>
#include <string.h>

/* ---- models ---- */

typedef struct model_list {
    json_writer w;
    const server *s;
} model_list;

static void put_model(void *user, const char *name)
{
    model_list *list = user;
    json_begin_object(&list->w, NULL);
    json_put_string(&list->w, "id", name);
    json_put_string(&list->w, "object", "model");
    json_put_integer(&list->w, "created", (int64_t)list->s->began);
    json_put_string(&list->w, "owned_by", "flux1");
    json_end_object(&list->w);
}

void openai_models(exchange *x)
{
    model_list list = {.w.style = JSON_LINE, .s = x->server};
    json_begin_object(&list.w, NULL);
    json_put_string(&list.w, "object", "list");
    json_begin_array(&list.w, "data");
    models_list(x->server, put_model, &list);
    json_end_array(&list.w);
    json_end_object(&list.w);
    answer_json(x, 200, &list.w);
}

void openai_model(exchange *x)
{
    model_list list = {.w.style = JSON_LINE, .s = x->server};
    fault f = {0};
    char name[MODEL_NAME_ROOM];
    if (models_know(x->server, x->argument, "model", name, &f)) {
        put_model(&list, name);
        answer_json(x, 200, &list.w);
        return;
    }
    f.kind = f.kind == FAULT_INVALID ? FAULT_NOT_FOUND : f.kind;
    answer_fault(x, &f);
}

/* ---- pictures ---- */

static void put_size(json_writer *w, const job *j)
{
    char text[32];
    snprintf(text, sizeof text, "%dx%d", j->request.width, j->request.height);
    json_put_string(w, "size", text);
    json_put_string(w, "quality", "auto");
    json_put_string(w, "background", "opaque");
    json_put_string(w, "output_format", format_name(j->request.format));
}

/* What the transformer computes: the text as long as it is made for all prompts, and each picture. Clients demand it of
 * events, and none is billed. */
static void put_usage(json_writer *w, const job *j, int pictures)
{
    const int64_t text = j->request.max_sequence_length, made = (int64_t)pictures * j->image_tokens;
    json_begin_object(w, "usage");
    json_put_integer(w, "input_tokens", text);
    json_begin_object(w, "input_tokens_details");
    json_put_integer(w, "text_tokens", text);
    json_put_integer(w, "image_tokens", 0);
    json_end_object(w);
    json_put_integer(w, "output_tokens", made);
    json_put_integer(w, "total_tokens", text + made);
    json_end_object(w);
}

/* Of a job that has not ended as it should. */
static fault fault_of(const job *j)
{
    fault f = j->error;
    if (f.kind == FAULT_NONE)
        fault_set(&f, FAULT_UNAVAILABLE, NULL, "the job was cancelled");
    return f;
}

/* Ours, for whoever wants to know: the job, what it used, what is to be said about it, and why pictures are missing. */
static void put_ours(json_writer *w, const job *j)
{
    const fault f = fault_of(j);
    json_begin_object(w, "flux1");
    json_put_string(w, "job", j->id);
    json_put_string(w, "model", j->request.model);
    job_put_outcome(w, j);
    if (j->state != JOB_DONE)
        fault_put(w, "error", &f);
    json_end_object(w);
}

/* What a proxy says of the address that the client has used: the first part of a header's list, the client's own proxy.
 * NULL, in place of one that has other than these characters: nothing. */
static const char *forwarded(const exchange *x, const char *header, const char *letters, char *out, size_t room)
{
    const char *value = exchange_header(x, header);
    const size_t n = value ? strcspn(value, ", ") : 0;
    if (n == 0 || n >= room || strspn(value, letters) < n)
        return NULL;
    snprintf(out, room, "%.*s", (int)n, value);
    return out;
}

#define NAME_LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._"

static void put_url(json_writer *w, const exchange *x, const job_picture *p)
{
    char scheme[8], name[256], prefix[256];
    const char *host = forwarded(x, "X-Forwarded-Host", NAME_LETTERS ":[]", name, sizeof name);
    const bool secure =
        forwarded(x, "X-Forwarded-Proto", NAME_LETTERS, scheme, sizeof scheme) && strcmp(scheme, "https") == 0;
    const char *path = forwarded(x, "X-Forwarded-Prefix", NAME_LETTERS "~/%", prefix, sizeof prefix);
    builder url = {0};
    host = host ? host : exchange_header(x, "Host");
    builder_format(&url, "%s://%s", secure ? "https" : "http", host ? host : "localhost");
    if (path && path[0] == '/')
        builder_add_bytes(&url, path, strlen(path) - (path[strlen(path) - 1] == '/'));
    builder_format(&url, "/api/files/%s", p->name);
    json_put_string(w, "url", url.text);
    w->text.failed |= url.failed;
    builder_free(&url);
}

/* How many pictures an answer has: one without a file has no address. */
static int told(const job *j, bool url) { return url ? j->made : job_finished(j); }

static bool put_data(json_writer *w, const exchange *x, bool url, fault *f)
{
    const job *j = x->job;
    bool good = true;
    json_begin_array(w, "data");
    for (int i = 0; i < told(j, url) && good; i++) {
        json_begin_object(w, NULL);
        if (url)
            put_url(w, x, &j->pictures[i]);
        else
            good = picture_text_put_finished(w, "b64_json", x->server, j, i, f);
        json_end_object(w);
    }
    json_end_array(w);
    return good;
}

/* The job has ended: nothing of it changes any more. */
static void answer_pictures(exchange *x, bool url)
{
    const job *j = x->job;
    json_writer w = {.style = JSON_LINE};
    fault f = {0};
    json_begin_object(&w, NULL);
    json_put_integer(&w, "created", (int64_t)j->created);
    if (!put_data(&w, x, url, &f)) {
        json_abandon(&w);
        answer_fault(x, &f);
        return;
    }
    put_size(&w, j);
    put_usage(&w, j, told(j, url));
    put_ours(&w, j);
    json_end_object(&w);
    answer_json(x, 200, &w);
}

/* Of a job that has ended in its midst, what is finished. */
static void finish(exchange *x, bool url)
{
    const fault f = fault_of(x->job);
    if (told(x->job, url) > 0)
        answer_pictures(x, url);
    else
        answer_fault(x, &f);
}

static void finish_bytes(exchange *x) { finish(x, false); }
static void finish_urls(exchange *x) { finish(x, true); }

/* ---- streams ---- */

static void add_partial(builder *out, const job *j, int index)
{
    json_writer w = {.style = JSON_LINE};
    builder text = {0};
    base64_add(&text, j->preview.bytes, j->preview.count);
    json_begin_object(&w, NULL);
    json_put_string(&w, "type", "image_generation.partial_image");
    json_put_string(&w, "b64_json", text.text);
    json_put_integer(&w, "partial_image_index", index);
    json_put_integer(&w, "created_at", (int64_t)j->created);
    put_size(&w, j);
    json_end_object(&w);
    w.text.failed |= text.failed;
    builder_free(&text);
    stream_event(out, "image_generation.partial_image", &w);
}

static void add_error(builder *out, const fault *f)
{
    json_writer w = {.style = JSON_LINE};
    json_begin_object(&w, NULL);
    json_put_string(&w, "type", "error");
    fault_put(&w, "error", f);
    json_end_object(&w);
    stream_event(out, "error", &w);
}

/* stored: clients may know of it; its file is read meanwhile, and the lock is not held. Else the job has ended. */
static void add_completed(builder *out, const server *s, const job *j, int i, bool stored)
{
    json_writer w = {.style = JSON_LINE};
    fault f = {0};
    const job_picture *p = &j->pictures[i];
    json_begin_object(&w, NULL);
    json_put_string(&w, "type", "image_generation.completed");
    if (!(stored ? picture_text_put(&w, "b64_json", s, p, &f)
                 : picture_text_put_finished(&w, "b64_json", s, j, i, &f))) {
        json_abandon(&w);
        add_error(out, &f);
        return;
    }
    json_put_integer(&w, "created_at", (int64_t)j->created);
    put_size(&w, j);
    put_usage(&w, j, 1);
    json_begin_object(&w, "flux1");
    json_put_string(&w, "job", j->id);
    if (stored)
        job_put_picture(&w, "picture", p);
    json_end_object(&w);
    json_end_object(&w);
    stream_event(out, "image_generation.completed", &w);
}

static bool tell(server *s, job *j, stream_place *place, builder *out)
{
    const bool ended = job_state_ended(j->state);
    if (j->preview.number > place->preview && !ended && j->preview.step < j->steps)
        add_partial(out, j, (j->preview.step - 1) / (j->request.preview_every ? j->request.preview_every : 1));
    place->preview = j->preview.number;
    const int stored = j->stored;
    if (place->pictures < stored) { /* each progress without a picture is told without a gap */
        queue_unlock(&s->queue);
        for (; place->pictures < stored; place->pictures++)
            add_completed(out, s, j, place->pictures, true);
        queue_lock(&s->queue);
    }
    if (j->kept && j->unkept)
        add_completed(out, s, j, j->made, false);
    if (j->kept && j->state != JOB_DONE) {
        const fault f = fault_of(j);
        add_error(out, &f);
    }
    return !j->kept;
}

/* ---- the handlers ---- */

static void generate(exchange *x)
{
    server *s = x->server;
    json_value *root;
    job_request r;
    openai_wishes w = {0};
    remarks said = {0};
    fault f = {0};
    job *j = NULL;
    if (!exchange_json(x, &root))
        return;
    const char *name;
    served_model *m = openai_wanted_model(root, s->models.engine->name, &name, &said, &f)
                          ? models_begin(s, name, "model", &r, &f)
                          : NULL;
    if (m) {
        const bool good = openai_request_read(root, &r, &w, &said, &f);
        j = jobs_submit(s, m, &r, good, &said, r.format, &f);
    }
    json_free(root);
    remarks_free(&said);
    if (!j)
        answer_fault(x, &f);
    else if (w.stream)
        answer_stream(x, j, tell, true);
    else
        exchange_wait(x, j, w.url ? finish_urls : finish_bytes);
}

void openai_generations(exchange *x) { exchange_aside(x, generate); }

static void refuse(exchange *x, const char *what)
{
    fault f = {0};
    fault_set(&f, FAULT_INVALID, NULL,
              "%s is not served: this server makes pictures from text alone (POST /v1/images/generations)", what);
    answer_fault(x, &f);
}

void openai_edits(exchange *x) { refuse(x, "/v1/images/edits"); }
void openai_variations(exchange *x) { refuse(x, "/v1/images/variations"); }
