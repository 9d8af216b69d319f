#include "server/stream.h"

#include "base/clock.h"
#include "server/jobs.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

#define QUIET_SECONDS 15.0 /* then a comment says that we are there */
#define BLOCK_BYTES 65536

typedef struct stream {
    server *server;
    struct MHD_Connection *connection;
    job *job;
    waiter wait;
    stream_tell *tell;
    stream_place place;
    builder text;
    size_t sent; /* of the text */
    bool over, cancels;
} stream;

void stream_event(builder *out, const char *name, json_writer *w)
{
    char *text = NULL;
    if (json_take(w, "an event", &text, NULL) == FLUX1_OK)
        builder_format(out, "event: %s\ndata: ", name);
    else
        out->failed = true;
    builder_add(out, text ? text : "");
    builder_add(out, "\n\n");
    free(text);
}

static void resume(waiter *w)
{
    stream *t = (stream *)(void *)((char *)w - offsetof(stream, wait));
    MHD_resume_connection(t->connection);
}

/* Puts what is new into t->text. False: there is nothing, and the connection waits. */
static bool refill(stream *t)
{
    queue *q = &t->server->queue;
    bool news = true;
    builder_free(&t->text);
    t->sent = 0;
    queue_lock(q);
    /* tell may let go of the lock for a while, and nobody wakes us meanwhile: what changes then is told at once */
    while (t->text.length == 0 && !t->over && (!t->place.begun || t->place.version != t->job->version)) {
        const unsigned version = t->job->version;
        t->over = !t->tell(t->server, t->job, &t->place, &t->text);
        t->place.begun = true;
        t->place.version = version;
    }
    const double now = clock_seconds();
    if (t->text.length == 0 && !t->over && now >= t->wait.deadline)
        builder_add(&t->text, ": still here\n\n");
    if (t->text.length == 0 && !t->over && !t->wait.gone) {
        news = false;
        queue_wait(q, &t->wait);
        MHD_suspend_connection(t->connection);
    } else
        t->wait.deadline = now + QUIET_SECONDS; /* since something was written, not since something changed */
    queue_unlock(q);
    return news;
}

static ssize_t read_stream(void *cls, uint64_t at, char *out, size_t room)
{
    stream *t = cls;
    (void)at;
    if (t->wait.gone)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (t->sent == t->text.length) {
        if (t->over)
            return MHD_CONTENT_READER_END_OF_STREAM;
        if (!refill(t))
            return 0;
        if (t->text.failed || t->wait.gone)
            return MHD_CONTENT_READER_END_WITH_ERROR;
        if (t->text.length == 0)
            return MHD_CONTENT_READER_END_OF_STREAM;
    }
    const size_t left = t->text.length - t->sent, n = left < room ? left : room;
    memcpy(out, t->text.text + t->sent, n);
    t->sent += n;
    return (ssize_t)n;
}

static void free_stream(void *cls)
{
    stream *t = cls;
    queue *q = &t->server->queue;
    queue_lock(q);
    queue_leave(q, &t->wait);
    queue_unlock(q);
    if (t->cancels)
        jobs_cancel(t->server, t->job); /* one that has ended stays as it is */
    job_release(q, t->job);
    builder_free(&t->text);
    free(t);
}

void answer_stream(exchange *x, job *j, stream_tell *tell, bool cancels)
{
    stream *t = calloc(1, sizeof *t);
    fault f = {0};
    if (!t) {
        if (cancels)
            jobs_cancel(x->server, j);
        job_release(&x->server->queue, j);
        fault_set(&f, FAULT_SERVER, NULL, "out of memory for a stream of events");
        answer_fault(x, &f);
        return;
    }
    *t = (stream){.server = x->server, .connection = x->connection, .job = j, .tell = tell, .cancels = cancels};
    t->wait = (waiter){.job = j,
                       .wake = resume,
                       .socket = exchange_socket(x->connection),
                       .deadline = clock_seconds() + QUIET_SECONDS};
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, read_stream, t, free_stream);
    if (response) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
        MHD_add_response_header(response, "X-Accel-Buffering", "no"); /* nginx hands events on as they come */
    } else
        free_stream(t);
    answer_with(x, MHD_HTTP_OK, response, "text/event-stream");
}
