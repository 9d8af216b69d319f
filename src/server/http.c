#include "server/http.h"

#include "base/clock.h"
#include "server/access.h"
#include "server/descriptors.h"
#include "server/framing.h"
#include "server/routes.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define THREADS 4
#define CONNECTIONS_MAX 1024
#define IDLE_SECONDS 60                /* of a connection, also while a body or an answer is on its way */
#define BODIES_MAX ((size_t)256 << 20) /* bytes of all bodies together */
#define BODY_SECONDS 300               /* that a whole body may take */
#define ENDING_SECONDS 5.0
#define CLIENT_LEFT 499 /* in log and metrics: it did not wait for an answer; as nginx has it */

/* ---- connections ---- */

static connection_entry *entry_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static enum MHD_Result on_accept(void *user, const struct sockaddr *address, socklen_t length)
{
    server *s = user;
    (void)length;
    return connections_admit(&s->connections, address) ? MHD_YES : MHD_NO;
}

static void on_connection(void *user, struct MHD_Connection *connection, void **entry,
                          enum MHD_ConnectionNotificationCode code)
{
    server *s = user;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        connections_remove(&s->connections, *entry);
        *entry = NULL;
        return;
    }
    const union MHD_ConnectionInfo *peer = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    *entry = connections_add(&s->connections, exchange_socket(connection), peer ? peer->client_addr : NULL);
}

/* ---- a request's beginning ---- */

static bool length_fits(exchange *x, fault *f)
{
    const char *length = exchange_header(x, MHD_HTTP_HEADER_CONTENT_LENGTH);
    const uint64_t bytes = length ? strtoull(length, NULL, 10) : 0;
    x->refuses_at_once = bytes > BODY_PICTURES; /* otherwise the body comes first: who still sends does not read */
    if (bytes <= (x->limit == BODY_UNREAD ? BODY_PICTURES : x->limit))
        return true;
    if (x->limit == 0)
        return fault_set(f, FAULT_TOO_LARGE, NULL, "this request has no body");
    return fault_set(f, FAULT_TOO_LARGE, NULL, "the body has %llu bytes: at most %zu", (unsigned long long)bytes,
                     x->limit == BODY_UNREAD ? BODY_PICTURES : x->limit);
}

static bool find_route(exchange *x, const char *method, const char *path, route_access *access, fault *f)
{
    char near[ARGUMENT_ROOM];
    const route *r = route_find(method, path, x->argument, x->allow);
    *access = r ? r->access : ROUTE_ANY;
    if (r) {
        x->handler = r->handler;
        x->limit = r->body;
        return true;
    }
    if (x->allow[0])
        return fault_set(f, FAULT_METHOD, NULL, "%.20s is not for %.100s; it has %s", method, path, x->allow);
    if (route_near(path, near))
        return fault_set(f, FAULT_NOT_FOUND, NULL, "there is nothing at %.100s; did you mean %s?", path, near);
    return fault_set(f, FAULT_NOT_FOUND, NULL, "there is nothing at %.100s", path);
}

/* A browser asks, without the key, whether a page of another host may ask with a method or headers of its own. */
static bool is_preflight(const exchange *x, const char *method)
{
    return x->shares && x->allow[0] && strcmp(method, MHD_HTTP_METHOD_OPTIONS) == 0 &&
           exchange_header(x, MHD_HTTP_HEADER_ACCESS_CONTROL_REQUEST_METHOD);
}

/* What can be refused before the body has come. */
static bool admit(exchange *x, const char *method, const char *path, fault *f)
{
    const server *s = x->server;
    route_access access;
    fault none;
    const bool found = find_route(x, method, path, &access, &none);
    const char *origin = exchange_header(x, MHD_HTTP_HEADER_ORIGIN), *host = exchange_header(x, MHD_HTTP_HEADER_HOST);
    if (!access_names(&s->settings, host, origin, f))
        return false;
    x->shares = access_shares(&s->settings, host, origin);
    if (is_preflight(x, method)) {
        x->handler = answer_preflight;
        return true;
    }
    if (!access_site(&s->settings, path, exchange_header(x, "Sec-Fetch-Site"), origin, f))
        return false;
    if (access != ROUTE_OPEN &&
        !access_key(&s->settings, exchange_header(x, MHD_HTTP_HEADER_AUTHORIZATION), exchange_header(x, "api-key"), f))
        return false;
    if (!found)
        *f = none;
    else if (access == ROUTE_READY && !atomic_load(&s->ready))
        fault_set(f, FAULT_UNAVAILABLE, NULL, "Loading model");
    else
        return length_fits(x, f);
    return false;
}

/* A target in absolute form counts as its path (RFC 9112, 3.2.2), with the Host header that it comes with. */
static const char *path_of(const char *target)
{
    const char *schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (strncasecmp(target, schemes[i], strlen(schemes[i])) == 0) {
            const char *path = strchr(target + strlen(schemes[i]), '/');
            return path ? path : "/";
        }
    return target;
}

static exchange *begin(server *s, struct MHD_Connection *connection, const char *method, const char *target)
{
    const char *path = path_of(target);
    exchange *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->server = s;
    x->connection = connection;
    x->began = clock_seconds();
    snprintf(x->method, sizeof x->method, "%s", method);
    snprintf(x->path, sizeof x->path, "%s", path);
    atomic_fetch_add(&s->exchanges, 1);
    if (!framing_check(connection, &x->refusal)) {
        x->handler = NULL;
        x->refuses_at_once = true; /* and the connection ends, as nobody knows where the next request begins */
    } else if (!admit(x, method, path, &x->refusal))
        x->handler = NULL;
    return x;
}

/* ---- its body ---- */

/* Whether so many bytes more may be held. */
static bool body_fits(const exchange *x, size_t count, fault *f)
{
    if (count > x->limit - x->body.length)
        return fault_set(f, FAULT_TOO_LARGE, NULL, "the body is too large: at most %zu bytes", x->limit);
    if (atomic_load(&x->server->bodies) + count > BODIES_MAX)
        return fault_set(f, FAULT_UNAVAILABLE, NULL,
                         "the bodies of all requests take %zu MiB, and no more may: try again later", BODIES_MAX >> 20);
    return true;
}

/* What is refused is read to its end and thrown away, so that the client sees the answer. False: it is enough. */
static bool take_body(exchange *x, const char *bytes, size_t count)
{
    const bool wanted = x->handler && x->limit != BODY_UNREAD;
    if (clock_seconds() - x->began > BODY_SECONDS)
        return false;
    if (wanted && body_fits(x, count, &x->refusal)) {
        const size_t before = x->body.length;
        builder_add_bytes(&x->body, bytes, count);
        atomic_fetch_add(&x->server->bodies, x->body.length - before);
        return !x->body.failed;
    }
    if (wanted) {
        x->handler = NULL;
        exchange_free_body(x);
    }
    x->discarded += count;
    return x->discarded <= BODY_PICTURES;
}

/* That the body is what it would be read as. */
static bool body_is_plain(const exchange *x, fault *f)
{
    const char *type = exchange_header(x, MHD_HTTP_HEADER_CONTENT_TYPE);
    const char *coding = exchange_header(x, MHD_HTTP_HEADER_CONTENT_ENCODING);
    if (x->limit == BODY_JSON && type && strncasecmp(type, "multipart/", 10) == 0)
        return fault_set(f, FAULT_CONTENT_TYPE, NULL, "the body must be JSON (Content-Type: application/json)");
    if (x->body.length > 0 && coding && strcasecmp(coding, "identity") != 0)
        return fault_set(f, FAULT_CONTENT_TYPE, NULL,
                         "the body is compressed (Content-Encoding: %.40s): send it as it is, without that header",
                         coding);
    return true;
}

static void handle(exchange *x)
{
    if (x->handler && !body_is_plain(x, &x->refusal))
        x->handler = NULL;
    if (x->handler)
        x->handler(x);
    else
        answer_fault(x, &x->refusal);
}

/* The library calls this when the headers have come, for each part of the body, at its end, and after each resuming. */
static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *path, const char *method,
                                  const char *version, const char *bytes, size_t *count, void **state)
{
    exchange *x = *state;
    (void)version;
    if (!x) {
        connections_begin(&((server *)user)->connections, entry_of(connection));
        *state = x = begin(user, connection, method, path);
        if (x && x->refuses_at_once)
            answer_fault(x, &x->refusal);
        return x && !x->lost ? MHD_YES : MHD_NO;
    }
    if (*count > 0) {
        const bool go_on = take_body(x, bytes, *count);
        *count = 0;
        return go_on ? MHD_YES : MHD_NO;
    }
    if (x->aside && !x->left) { /* in a round of its own, from which on the library does not read the socket any more: a
                                   client that has closed its side of it, with all it wants said, gets its answer */
        exchange_leave(x);
        return MHD_YES; /* by now another thread may have it */
    }
    if (x->answered || x->job)
        exchange_return(x);
    else
        handle(x);
    if (!x->aside)
        exchange_free_body(x);
    return x->lost ? MHD_NO : MHD_YES; /* without memory for an answer the connection ends */
}

/* ---- its end ---- */

static void write_log(const exchange *x)
{
    FILE *log = x->server->settings.access_log;
    json_writer w = {.style = JSON_LINE};
    char *text = NULL;
    if (!log)
        return;
    json_begin_object(&w, NULL);
    json_put_real(&w, "time", (double)(int64_t)(job_now() * 1000) / 1000);
    json_put_string(&w, "method", x->method);
    json_put_string(&w, "path", x->path);
    json_put_integer(&w, "status", x->status);
    json_put_real(&w, "seconds", (double)(int64_t)((clock_seconds() - x->began) * 1e6) / 1e6);
    json_end_object(&w);
    if (json_take(&w, "the log", &text, NULL) == FLUX1_OK) {
        flockfile(log);
        fprintf(log, "%s\n", text);
        fflush(log);
        funlockfile(log);
    }
    free(text);
}

static void on_completed(void *user, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code)
{
    server *s = user;
    exchange *x = *state;
    (void)code;
    connections_done(&s->connections, entry_of(connection));
    if (!x)
        return;
    *state = NULL;
    x->status = x->status ? x->status : CLIENT_LEFT;
    write_log(x);
    queue_lock(&s->queue);
    s->counts.requests[x->status / 100 < 6 ? x->status / 100 : 0]++;
    s->counts.refused += x->status == MHD_HTTP_TOO_MANY_REQUESTS;
    queue_unlock(&s->queue);
    exchange_end(x);
    atomic_fetch_sub(&s->exchanges, 1);
}

/* ---- the daemon ---- */

flux1_status http_start(server *s, flux1_error *err)
{
    const int listener = s->listener;
    const unsigned limit = descriptors_connections(CONNECTIONS_MAX);
    s->listener = -1;
    const flux1_status st = connections_open(&s->connections, limit, err);
    if (st != FLUX1_OK) {
        close(listener);
        return st;
    }
    s->daemon =
        MHD_start_daemon(MHD_USE_POLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, on_accept, s, on_request, s,
                         MHD_OPTION_UNESCAPE_CALLBACK, framing_unescape, NULL, MHD_OPTION_LISTEN_SOCKET, listener,
                         MHD_OPTION_THREAD_POOL_SIZE, (unsigned)THREADS, MHD_OPTION_CONNECTION_LIMIT, limit,
                         MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS, MHD_OPTION_NOTIFY_COMPLETED,
                         on_completed, s, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_END);
    if (s->daemon)
        return FLUX1_OK;
    connections_close(&s->connections);
    close(listener);
    return error_set(err, FLUX1_ERR_INTERNAL, "%s: the HTTP library does not start", s->address);
}

void http_quiesce(server *s)
{
    const int listener = s->daemon ? MHD_quiesce_daemon(s->daemon) : -1;
    if (listener >= 0)
        close(listener);
}

void http_stop(server *s)
{
    const struct timespec pause = {.tv_nsec = 20000000};
    const double until = clock_seconds() + ENDING_SECONDS;
    queue_lock(&s->queue);
    queue_dismiss(&s->queue); /* the library must not be stopped while it has suspended connections */
    queue_unlock(&s->queue);
    while (s->daemon && atomic_load(&s->exchanges) > 0 && clock_seconds() < until)
        nanosleep(&pause, NULL);
    if (s->daemon)
        MHD_stop_daemon(s->daemon);
    s->daemon = NULL;
    connections_close(&s->connections);
}
