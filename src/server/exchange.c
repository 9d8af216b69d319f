#include "server/exchange.h"

#include "server/jobs.h"

#include <microhttpd.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Until when a client that is refused should wait before it tries again. */
#define RETRY_SECONDS "5"
#define PREFLIGHT_SECONDS "600"      /* that a browser need not ask again */
#define VALUES_MAX ((size_t)1 << 20) /* of a body of JSON; one of pictures has 64 MiB */

const char *exchange_query(const exchange *x, const char *key)
{
    return MHD_lookup_connection_value(x->connection, MHD_GET_ARGUMENT_KIND, key);
}

const char *exchange_header(const exchange *x, const char *key)
{
    return MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, key);
}

/* Each value but the first of its object or list stands behind a comma, and takes some 50 bytes of memory. */
static bool has_too_many_values(const builder *body)
{
    size_t commas = 0;
    for (const char *at = body->text, *end = at + body->length; (at = memchr(at, ',', (size_t)(end - at))); at++)
        commas++;
    return commas > VALUES_MAX;
}

/* Bytes of a byte order mark in front, which some programs of Windows write. */
static size_t mark_bytes(const builder *body)
{
    return body->length >= 3 && memcmp(body->text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
}

bool exchange_json(exchange *x, json_value **out)
{
    const size_t mark = mark_bytes(&x->body);
    flux1_error err = {0};
    fault f = {0};
    *out = NULL;
    if (x->body.length == 0)
        fault_set(&f, FAULT_INVALID, NULL, "the body is empty: it must be a JSON object");
    else if (has_too_many_values(&x->body))
        fault_set(&f, FAULT_INVALID, NULL, "the body has more than %zu commas: no request needs so many", VALUES_MAX);
    else if (json_parse(x->body.text + mark, x->body.length - mark, "the body", out, &err) != FLUX1_OK)
        fault_set(&f, err.status == FLUX1_ERR_MEMORY ? FAULT_SERVER : FAULT_INVALID, NULL, "%s", err.message);
    else if (!json_is_object(*out))
        fault_set(&f, FAULT_INVALID, NULL, "the body must be a JSON object");
    else
        return true;
    json_free(*out);
    *out = NULL;
    answer_fault(x, &f);
    return false;
}

/* ---- answers ---- */

/* The library takes it on its own threads only. */
static void hand_over(exchange *x)
{
    MHD_queue_response(x->connection, (unsigned)x->status, x->response);
    MHD_destroy_response(x->response);
    x->response = NULL;
}

/* For a browser, which else keeps the answer from the page. Caches hold answers apart by who asks. */
static void add_sharing(const exchange *x, struct MHD_Response *response)
{
    if (x->server->settings.allow_host)
        MHD_add_response_header(response, MHD_HTTP_HEADER_VARY, MHD_HTTP_HEADER_ORIGIN);
    if (!x->shares)
        return;
    MHD_add_response_header(response, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_ORIGIN,
                            exchange_header(x, MHD_HTTP_HEADER_ORIGIN));
    MHD_add_response_header(response, MHD_HTTP_HEADER_ACCESS_CONTROL_EXPOSE_HEADERS, MHD_HTTP_HEADER_RETRY_AFTER);
}

void answer_with(exchange *x, int status, struct MHD_Response *response, const char *type)
{
    x->answered = true;
    x->status = status;
    x->lost = !response;
    if (!response)
        return;
    if (type)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    add_sharing(x, response);
    if (status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer realm=\"flux1\"");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, x->allow);
    if (status == MHD_HTTP_TOO_MANY_REQUESTS || status == MHD_HTTP_SERVICE_UNAVAILABLE)
        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, RETRY_SECONDS);
    x->response = response;
    if (!x->away)
        hand_over(x);
}

void answer_text(exchange *x, int status, const char *type, char *text)
{
    struct MHD_Response *response =
        text ? MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE) : NULL;
    if (!response)
        free(text);
    else
        MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    answer_with(x, status, response, type);
}

void answer_json(exchange *x, int status, json_writer *w)
{
    char *text = NULL;
    json_take(w, "an answer", &text, NULL);
    answer_text(x, status, "application/json", text);
}

void answer_fault(exchange *x, const fault *f)
{
    json_writer w = {.style = JSON_LINE};
    json_begin_object(&w, NULL);
    fault_put(&w, "error", f);
    if (strncmp(x->path, "/sdapi/", 7) == 0)
        json_put_string(&w, "detail", f->message); /* where AUTOMATIC1111's clients look for it */
    json_end_object(&w);
    answer_json(x, fault_http(f), &w);
}

void answer_page(exchange *x, const char *bytes, size_t count, const char *policy)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(count, (void *)(uintptr_t)bytes, MHD_RESPMEM_PERSISTENT);
    if (response) {
        MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
        MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
        MHD_add_response_header(response, "X-Frame-Options", "DENY");
        MHD_add_response_header(response, "Content-Security-Policy", policy);
    }
    answer_with(x, MHD_HTTP_OK, response, "text/html; charset=utf-8");
}

void answer_nothing(exchange *x)
{
    answer_with(x, MHD_HTTP_NO_CONTENT, MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT), NULL);
}

void answer_preflight(exchange *x)
{
    const char *headers = exchange_header(x, MHD_HTTP_HEADER_ACCESS_CONTROL_REQUEST_HEADERS);
    struct MHD_Response *response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (response) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_METHODS, x->allow);
        MHD_add_response_header(response, MHD_HTTP_HEADER_ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS);
        if (headers)
            MHD_add_response_header(response, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_HEADERS, headers);
    }
    answer_with(x, MHD_HTTP_NO_CONTENT, response, NULL);
}

void answer_file(exchange *x, int descriptor, uint64_t bytes, const char *type, const char *name)
{
    char disposition[ARGUMENT_ROOM + 32];
    struct MHD_Response *response = MHD_create_response_from_fd64(bytes, descriptor);
    snprintf(disposition, sizeof disposition, "inline; filename=\"%s\"", name);
    if (response) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_DISPOSITION, disposition);
        MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "private, max-age=86400, immutable");
    } else
        close(descriptor);
    answer_with(x, MHD_HTTP_OK, response, type);
}

/* ---- the errands' threads ---- */

static void leave_to(exchange *x, errands *by, exchange_fn *step)
{
    x->aside = step;
    x->by = by;
}

void exchange_aside(exchange *x, exchange_fn *step) { leave_to(x, &x->server->errands, step); }

void exchange_aside_reading(exchange *x, exchange_fn *step) { leave_to(x, &x->server->readings, step); }

void exchange_aside_listing(exchange *x, exchange_fn *step) { leave_to(x, &x->server->lists, step); }

/* Behind it the connection goes on, or waits for a job. */
static void run_aside(errand *e, void *user)
{
    exchange *x = (exchange *)(void *)((char *)e - offsetof(exchange, errand));
    queue *q = &((server *)user)->queue;
    x->aside(x);
    exchange_free_body(x);
    queue_lock(q);
    x->away = false;
    if (x->job && !x->job->kept)
        queue_wait(q, &x->wait);
    else
        MHD_resume_connection(x->connection);
    queue_unlock(q);
}

void exchange_leave(exchange *x)
{
    x->left = x->away = true;
    x->errand.run = run_aside;
    MHD_suspend_connection(x->connection);
    errands_add(x->by, &x->errand);
}

/* ---- waiting ---- */

static void resume(waiter *w)
{
    exchange *x = (exchange *)(void *)((char *)w - offsetof(exchange, wait));
    MHD_resume_connection(x->connection);
}

int exchange_socket(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? info->connect_fd : -1;
}

void exchange_wait(exchange *x, job *j, exchange_fn *finish)
{
    x->job = j;
    x->finish = finish;
    x->wait = (waiter){.job = j, .wake = resume, .socket = exchange_socket(x->connection)};
}

static void finish_job(exchange *x)
{
    queue *q = &x->server->queue;
    queue_lock(q);
    const bool ended = x->job->kept, gone = x->wait.gone;
    if (!ended && !gone) {
        queue_wait(q, &x->wait);
        MHD_suspend_connection(x->connection);
    }
    queue_unlock(q);
    fault f = {0};
    if (gone) { /* mostly nobody reads it, but the library ends the connection with it */
        fault_set(&f, FAULT_UNAVAILABLE, NULL,
                  "the job was cancelled, as the client has closed its side of the connection before the answer");
        answer_fault(x, &f);
    } else if (ended)
        x->finish(x);
}

void exchange_return(exchange *x)
{
    if (x->response)
        hand_over(x);
    else if (x->job && !x->answered)
        finish_job(x);
}

void exchange_free_body(exchange *x)
{
    atomic_fetch_sub(&x->server->bodies, x->body.length);
    builder_free(&x->body);
}

void exchange_end(exchange *x)
{
    server *s = x->server;
    if (x->job) {
        queue_lock(&s->queue);
        queue_leave(&s->queue, &x->wait);
        queue_unlock(&s->queue);
        jobs_cancel(s, x->job); /* one that has ended stays as it is */
        job_release(&s->queue, x->job);
    }
    if (x->response)
        MHD_destroy_response(x->response);
    exchange_free_body(x);
    free(x);
}
