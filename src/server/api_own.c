/* Our own interface: /api/info, /api/jobs, /api/files, /api/png-info (docs/serve.md). */
#include "base/file.h"
#include "flux1_tools.h"
#include "server/base64.h"
#include "server/failure.h"
#include "server/jobs.h"
#include "server/looks.h"
#include "server/routes.h"
#include "server/stream.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIST_MAX 500
#define LIST_USUAL 50
#define TRUE_SIZE_BYTES ((uint64_t)1 << 30) /* of a transformer: FLUX.1's has 12 billion parameters */

/* ---- /api/info ---- */

static void put_lora(void *user, const lora_facts *facts)
{
    json_writer *w = user;
    json_begin_object(w, NULL);
    json_put_string(w, "name", facts->name);
    json_put_unsigned(w, "bytes", facts->bytes);
    json_put_bool(w, "examined", facts->examined);
    json_put_string(w, "refused", facts->why[0] ? facts->why : NULL);
    json_end_object(w);
}

static void put_model(json_writer *w, const served_model *m)
{
    const job_request *d = &m->defaults;
    json_begin_object(w, "model");
    json_put_string(w, "name", m->name);
    json_put_string(w, "variant", m->info.variant);
    json_put_bool(w, "true_size", m->info.part_bytes[2] > TRUE_SIZE_BYTES);
    json_end_object(w);
    json_begin_object(w, "defaults");
    json_put_integer(w, "width", d->width);
    json_put_integer(w, "height", d->height);
    json_put_integer(w, "steps", d->steps);
    if (d->guidance >= 0)
        json_put_float(w, "guidance", d->guidance);
    else
        json_put_null(w, "guidance");
    json_end_object(w);
}

static void put_name(void *user, const char *name) { json_put_string(user, NULL, name); }

static void put_models(json_writer *w, const server *s)
{
    json_begin_array(w, "models");
    models_list(s, put_name, w);
    json_end_array(w);
}

static void put_limits(json_writer *w, const server *s, const served_model *m)
{
    json_begin_object(w, "limits");
    json_put_integer(w, "sizes_multiple", m->info.size_multiple);
    json_put_integer(w, "width_max", REQUEST_SIZE_MAX);
    json_put_integer(w, "height_max", REQUEST_SIZE_MAX);
    if (s->settings.max_pixels)
        json_put_integer(w, "pixels_max", s->settings.max_pixels);
    else
        json_put_null(w, "pixels_max");
    json_put_integer(w, "steps_max", REQUEST_STEPS_MAX);
    json_put_integer(w, "count_max", REQUEST_COUNT_MAX);
    json_put_integer(w, "prompt_bytes_max", REQUEST_PROMPT_MAX);
    json_end_object(w);
}

static void put_formats(json_writer *w, const server *s)
{
    json_begin_array(w, "formats");
    for (int i = FLUX1_FORMAT_PNG; i <= FLUX1_FORMAT_WEBP; i++)
        if (s->formats & 1u << i)
            json_put_string(w, NULL, format_name((flux1_format)i));
    json_end_array(w);
}

static void tell_info(exchange *x)
{
    server *s = x->server;
    json_writer w = {.style = JSON_LINE};
    fault f = {0};
    served_model *m = models_take_facts(s, exchange_query(x, "model"), "model", &f);
    if (!m) {
        answer_fault(x, &f);
        return;
    }
    json_begin_object(&w, NULL);
    json_put_string(&w, "version", flux1_version());
    put_model(&w, m);
    put_models(&w, s);
    put_limits(&w, s, m);
    put_formats(&w, s);
    json_begin_array(&w, "loras");
    looks_tell(s, m, put_lora, &w);
    json_end_array(&w);
    models_return(s, m);
    queue_lock(&s->queue);
    const int waiting = s->queue.waiting;
    queue_unlock(&s->queue);
    json_begin_object(&w, "queue");
    json_put_integer(&w, "waiting", waiting);
    json_put_integer(&w, "limit", s->queue.limit);
    json_end_object(&w);
    json_put_bool(&w, "kept", history_is_kept(s->history));
    json_put_bool(&w, "key_needed", s->settings.key_count > 0);
    json_end_object(&w);
    answer_json(x, 200, &w);
}

/* Of the engine's model, or of the one that ?model= names. */
void info_get(exchange *x)
{
    if (models_is_open(x->server, exchange_query(x, "model")))
        tell_info(x);
    else
        exchange_aside(x, tell_info);
}

/* ---- /api/jobs ---- */

static void submit(exchange *x)
{
    server *s = x->server;
    json_value *root;
    job_request r;
    remarks said = {0};
    fault f = {0};
    if (!exchange_json(x, &root))
        return;
    char *name = NULL;
    served_model *m = request_text(root, "model", &name, &f) ? models_begin(s, name, "model", &r, &f) : NULL;
    job *j = NULL;
    free(name);
    if (m) {
        const bool good = request_read(root, &r, &said, &f);
        j = jobs_submit(s, m, &r, good, &said, FLUX1_FORMAT_JPEG, &f);
    }
    json_free(root);
    remarks_free(&said);
    if (!j) {
        answer_fault(x, &f);
        return;
    }
    queue_lock(&s->queue);
    char *text = job_text(j, queue_position(&s->queue, j));
    queue_unlock(&s->queue);
    job_release(&s->queue, j);
    answer_text(x, 202, "application/json", text);
}

void jobs_post(exchange *x) { exchange_aside(x, submit); }

/* At most LIST_MAX. */
static bool read_limit(const char *text, int *limit, fault *f)
{
    const size_t digits = strspn(text, "0123456789");
    *limit = digits > 0 && digits <= 6 && !text[digits] ? atoi(text) : 0;
    if (*limit >= 1 && *limit <= LIST_MAX)
        return true;
    return fault_set(f, FAULT_INVALID, "limit", "\"limit\" must be a whole number from 1 to %d", LIST_MAX);
}

static void list(exchange *x)
{
    const char *wanted = exchange_query(x, "limit"), *before = exchange_query(x, "before");
    int limit = LIST_USUAL;
    fault f = {0};
    char *text = NULL;
    if (!wanted || read_limit(wanted, &limit, &f))
        text = jobs_list_text(x->server, limit, before && before[0] ? before : NULL, &f);
    if (text)
        answer_text(x, 200, "application/json", text);
    else
        answer_fault(x, &f);
}

void jobs_get(exchange *x) { exchange_aside_listing(x, list); }

void job_get(exchange *x)
{
    fault f = {0};
    char *text = jobs_text(x->server, x->argument, &f);
    if (text)
        answer_text(x, 200, "application/json", text);
    else
        answer_fault(x, &f);
}

static void forget(exchange *x)
{
    bool found = false;
    flux1_error err = {0};
    fault f = {0};
    if (history_remove(x->server->history, x->argument, &found, &err) != FLUX1_OK)
        failure_write(x->server, &f, &err, "the job cannot be removed");
    else if (!found)
        fault_set(&f, FAULT_NOT_FOUND, NULL, "there is no job \"%.40s\"", x->argument);
    if (f.kind == FAULT_NONE)
        answer_nothing(x);
    else
        answer_fault(x, &f);
}

/* Cancels one that is queued or runs, as far as clients know; one that has ended and is not stored yet stays. */
void job_delete(exchange *x)
{
    server *s = x->server;
    job *j = queue_find(&s->queue, x->argument);
    if (!j) {
        exchange_aside(x, forget);
        return;
    }
    const bool waited = jobs_cancel(s, j);
    job_release(&s->queue, j);
    if (waited)
        exchange_aside(x, job_get); /* behind its end being stored: the answer has it */
    else
        job_get(x);
}

/* ---- events ---- */

static void add_job(builder *out, const char *event, server *s, const job *j, bool whole)
{
    json_writer w = {.style = JSON_LINE};
    job_put(&w, NULL, j, queue_position(&s->queue, j), whole);
    stream_event(out, event, &w);
}

static void add_preview(builder *out, const job *j)
{
    const job_preview *p = &j->preview;
    json_writer w = {.style = JSON_LINE};
    builder url = {0};
    builder_format(&url, "data:%s;base64,", format_type(p->format));
    base64_add(&url, p->bytes, p->count);
    json_begin_object(&w, NULL);
    json_put_integer(&w, "step", p->step);
    json_put_string(&w, "image", url.text);
    json_end_object(&w);
    w.text.failed |= url.failed;
    builder_free(&url);
    stream_event(out, "preview", &w);
}

static bool tell(server *s, job *j, stream_place *place, builder *out)
{
    const bool ended = job_state_ended(j->state);
    if (!place->begun)
        add_job(out, "job", s, j, true);
    else if (!ended)
        add_job(out, "progress", s, j, false);
    if (j->preview.number > place->preview && !ended)
        add_preview(out, j);
    place->preview = j->preview.number;
    if (!place->begun)
        place->pictures = j->stored; /* the whole job has them */
    for (; place->pictures < j->stored; place->pictures++) {
        json_writer w = {.style = JSON_LINE};
        job_put_picture(&w, NULL, &j->pictures[place->pictures]);
        stream_event(out, "picture", &w);
    }
    if (j->kept)
        add_job(out, "end", s, j, true);
    return !j->kept;
}

/* Of a job that is history: all at once. */
static void tell_ended(exchange *x)
{
    fault f = {0};
    builder b = {0};
    char *text = jobs_text(x->server, x->argument, &f), *events = NULL;
    if (!text) {
        answer_fault(x, &f);
        return;
    }
    builder_format(&b, "event: job\ndata: %s\n\nevent: end\ndata: %s\n\n", text, text);
    free(text);
    builder_take(&b, "the events", &events, NULL);
    answer_text(x, 200, "text/event-stream", events);
}

void job_events(exchange *x)
{
    job *j = queue_find(&x->server->queue, x->argument);
    if (j)
        answer_stream(x, j, tell, false);
    else
        tell_ended(x);
}

/* ---- files ---- */

/* ?size=small: its thumbnail, if there is one. */
static bool answer_thumbnail(exchange *x)
{
    const char *size = exchange_query(x, "size"), *dot = strrchr(x->argument, '.');
    const int stem = (int)(dot ? (size_t)(dot - x->argument) : strlen(x->argument));
    char name[sizeof x->argument + 8];
    uint64_t bytes = 0;
    int descriptor;
    if (!size || strcmp(size, "small") != 0 ||
        !history_open_thumbnail(x->server->history, x->argument, &descriptor, &bytes))
        return false;
    snprintf(name, sizeof name, "%.*s.%s", stem, x->argument, format_ending(FLUX1_FORMAT_JPEG));
    answer_file(x, descriptor, bytes, format_type(FLUX1_FORMAT_JPEG), name);
    return true;
}

void file_get(exchange *x)
{
    static const flux1_format formats[] = {FLUX1_FORMAT_PNG, FLUX1_FORMAT_JPEG, FLUX1_FORMAT_WEBP};
    fault f = {0};
    flux1_error err = {0};
    uint64_t bytes = 0;
    int descriptor;
    if (answer_thumbnail(x))
        return;
    const flux1_status st = history_open_picture(x->server->history, x->argument, &descriptor, &bytes, &err);
    const char *dot = strrchr(x->argument, '.'), *type = format_type(FLUX1_FORMAT_PNG);
    if (descriptor < 0) {
        if (st == FLUX1_OK)
            fault_set(&f, FAULT_NOT_FOUND, NULL, "there is no picture of that name");
        else {
            failure_fault(x->server, &f, st, "the picture cannot be opened now", err.message);
            f.kind = FAULT_UNAVAILABLE;
        }
        answer_fault(x, &f);
        return;
    }
    for (size_t i = 0; dot && i < sizeof formats / sizeof *formats; i++)
        if (strcmp(dot + 1, format_ending(formats[i])) == 0)
            type = format_type(formats[i]);
    answer_file(x, descriptor, bytes, type, x->argument);
}
