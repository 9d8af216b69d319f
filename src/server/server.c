#include "server/server.h"

#include "base/clock.h"
#include "base/listing.h"
#include "server/descriptors.h"
#include "server/failure.h"
#include "server/http.h"
#include "server/listen.h"
#include "server/jobs.h"
#include "server/looks.h"
#include "server/watch.h"
#include "server/worker.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- what contexts log ---- */

/* A warning is a note of the job that it came with; one that names a file of the server's is for its operator. */
static void take_note(const server *s, remarks *n, flux1_log_level level, const char *message)
{
    const char *text = loras_without_folder(&s->loras, message);
    if (level != FLUX1_LOG_WARNING)
        return;
    if (strchr(text, '/'))
        failure_tell(s, "warning: %s", message);
    else if (n)
        remarks_add(n, "%s", text);
}

void server_log_planner(void *user, flux1_log_level level, const char *message)
{
    const server *s = user;
    take_note(s, s->plan_notes, level, message);
}

void *server_worker(server *s, int index) { return &s->worker[index]; }

void server_log_worker(void *user, flux1_log_level level, const char *message)
{
    const worker *by = user;
    take_note(by->s, by->notes, level, message);
}

void server_log_encoder(void *user, flux1_log_level level, const char *message)
{
    server *s = user;
    take_note(s, &s->next.notes, level, message);
}

/* ---- opening ---- */

static flux1_status open_listener(server *s, flux1_error *err)
{
    const server_settings *t = &s->settings;
    if (t->socket)
        return listen_unix(t->socket, &s->listener, &s->socket, s->address, sizeof s->address, err);
    return listen_tcp(t->host, t->port, &s->listener, s->address, sizeof s->address, err);
}

static flux1_status check_folder(const char *folder, flux1_error *err)
{
    listing names = {0};
    if (folder && !file_is_directory(folder))
        return error_set(err, FLUX1_ERR_IO, file_exists(folder) ? "%s: is not a folder" : "%s: there is no such folder",
                         folder);
    if (folder)
        TRY(listing_read(folder, &names, err));
    listing_free(&names);
    return FLUX1_OK;
}

static flux1_status open_parts(server *s, flux1_error *err)
{
    TRY(check_folder(s->settings.loras, err));
    TRY(check_folder(s->settings.models, err));
    TRY(open_listener(s, err));
    TRY(errands_open(&s->errands, s, err));
    TRY(errands_open(&s->readings, s, err));
    TRY(errands_open(&s->lists, s, err));
    TRY(loras_open(&s->loras, s->settings.loras, s->settings.tell, err));
    s->has_loras = true;
    TRY(history_open(s->settings.jobs, s->settings.jobs_size, &s->history, err));
    return http_start(s, err);
}

flux1_status server_open(const server_settings *settings, server **out, flux1_error *err)
{
    server *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return error_oom(err, sizeof *s, "the server");
    s->settings = *settings;
    descriptors_raise();
    s->listener = -1;
    for (int i = 0; i < SERVER_WORKERS; i++)
        s->worker[i].s = s;
    s->began = job_now();
    s->opened = clock_seconds();
    flux1_status st = queue_open(&s->queue, settings->queue, err);
    if (st != FLUX1_OK || pthread_mutex_init(&s->planning, NULL) != 0 || pthread_mutex_init(&s->writing, NULL) != 0 ||
        pthread_mutex_init(&s->reading, NULL) != 0 || pthread_mutex_init(&s->models.mutex, NULL) != 0) {
        free(s);
        return st != FLUX1_OK ? st : error_oom(err, 0, "the server");
    }
    st = open_parts(s, err);
    if (st == FLUX1_OK)
        *out = s;
    else
        server_close(s);
    return st;
}

const char *server_address(const server *s) { return s->address; }

/* ---- beginning ---- */

static void set_formats(server *s)
{
    for (int i = FLUX1_FORMAT_PNG; i <= FLUX1_FORMAT_WEBP; i++)
        if (flux1_format_check(s->engine.writer, (flux1_format)i, 0, 0) == FLUX1_OK)
            s->formats |= 1u << i;
}

flux1_status server_begin(server *s, const server_engine *engine, flux1_error *err)
{
    s->engine = *engine;
    TRY(models_open(s, err));
    set_formats(s);
    TRY(watch_start(s, err));
    TRY(workers_start(s, err));
    looks_begin(s, s->models.engine);
    atomic_store(&s->ready, 1);
    return FLUX1_OK;
}

/* ---- ending ---- */

/* No more jobs; those that wait are given up. */
static void stop_queue(server *s)
{
    queue *q = &s->queue;
    queue_lock(q);
    q->stopping = true;
    pthread_cond_broadcast(&q->news);
    while (q->first) {
        job *j = q->first;
        fault_set(&j->error, FAULT_UNAVAILABLE, NULL, "the server was stopped");
        flux1_cancel_token_cancel(j->token); /* its prompt may be encoded already */
        queue_end(q, j, JOB_INTERRUPTED);    /* it keeps the queue's reference until it is buried */
        queue_unlock(q);
        jobs_bury(s, j);
        queue_lock(q);
    }
    if (s->working == 0)
        queue_stopped(q);
    queue_unlock(q);
}

/* Before nobody listens on it any more: from then on a server that follows may have a socket of its own there. */
static void remove_socket(server *s)
{
    if (s->settings.socket)
        listen_remove(s->settings.socket, &s->socket);
}

static bool is_idle(server *s)
{
    queue_lock(&s->queue);
    const bool idle = !s->queue.running;
    queue_unlock(&s->queue);
    return idle;
}

static void cancel_running(server *s)
{
    queue_lock(&s->queue);
    s->queue.given_up = true; /* from here on a skip makes no token fresh */
    for (const job *j = s->queue.running; j; j = j->next)
        flux1_cancel_token_cancel(j->token);
    queue_unlock(&s->queue);
}

void server_end(server *s, double drain, bool (*hurry)(void))
{
    const struct timespec pause = {.tv_nsec = 20000000};
    const double until = clock_seconds() + drain;
    remove_socket(s);
    http_quiesce(s);
    stop_queue(s);
    while (!is_idle(s) && clock_seconds() < until && !(hurry && hurry()))
        nanosleep(&pause, NULL);
    cancel_running(s);
    workers_join(s);
    watch_join(s);
    errands_end(&s->readings);
    errands_end(&s->lists);
    errands_end(&s->errands); /* answers what it has; HTTP threads do what comes now, and jobs are refused at once */
    http_stop(s);
    models_close(s);
    if (s->has_loras)
        loras_close(&s->loras);
    s->has_loras = false;
}

void server_close(server *s)
{
    if (!s)
        return;
    errands_end(&s->readings);
    errands_end(&s->lists);
    errands_end(&s->errands);
    http_stop(s);
    errands_close(&s->readings);
    errands_close(&s->lists);
    errands_close(&s->errands);
    if (s->has_loras)
        loras_close(&s->loras);
    remove_socket(s);
    if (s->listener >= 0)
        close(s->listener);
    history_close(s->history);
    queue_close(&s->queue);
    pthread_mutex_destroy(&s->planning);
    pthread_mutex_destroy(&s->writing);
    pthread_mutex_destroy(&s->reading);
    pthread_mutex_destroy(&s->models.mutex);
    free(s);
}
