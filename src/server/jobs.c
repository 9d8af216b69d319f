#include "server/jobs.h"

#include "server/failure.h"
#include "server/job_plan.h"

#include <stddef.h>
#include <stdlib.h>

#define LIST_BYTES ((size_t)8 << 20) /* of a page, and one job more */

static uint64_t picture_bytes(const job *j)
{
    uint64_t sum = 0;
    for (int i = 0; i < j->made; i++)
        sum += j->pictures[i].bytes + j->pictures[i].small_bytes;
    return sum;
}

/* The history names them: clients that hear of them find them there, after a kill as well. */
static void tell_pictures(queue *q, job *j, int stored)
{
    queue_lock(q);
    if (stored > j->stored) {
        j->stored = stored;
        queue_changed(q, j);
    }
    queue_unlock(q);
}

flux1_status jobs_store(server *s, job *j, flux1_error *err)
{
    queue_lock(&s->queue);
    char *text = job_text_for_history(j, queue_position(&s->queue, j));
    const bool ended = job_state_ended(j->state);
    const uint64_t bytes = picture_bytes(j);
    const int made = j->made;
    queue_unlock(&s->queue);
    const flux1_status st =
        text ? history_put(s->history, j->id, text, ended, bytes, err) : error_oom(err, 0, "a job's history");
    free(text);
    if (st == FLUX1_OK)
        tell_pictures(&s->queue, j, made);
    return st;
}

static bool enter(server *s, job *j, fault *f)
{
    flux1_error err = {0};
    bool found;
    if (jobs_store(s, j, &err) != FLUX1_OK)
        return failure_write(s, f, &err, "the job cannot be stored");
    if (queue_submit(&s->queue, j, f))
        return true;
    history_remove(s->history, j->id, &found, NULL);
    return false;
}

job *jobs_submit(server *s, served_model *model, job_request *request, bool good, const remarks *extra,
                 flux1_format previews, fault *f)
{
    if (!good || !queue_has_room(&s->queue, f)) { /* once more, as opening the model may have taken long */
        request_free(request);
        models_return(s, model);
        return NULL;
    }
    job *j = plan_job(s, model, request, f);
    if (!j)
        return NULL;
    for (int i = 0; i < extra->count; i++)
        remarks_add(&j->notes, "%s", extra->text[i]);
    j->preview_format = previews;
    if (enter(s, j, f))
        return j;
    plan_done(s, j);
    job_release(&s->queue, j);
    return NULL;
}

/* How it has ended. The history keeps what a full disk does not take. */
static void store_end(server *s, job *j)
{
    flux1_error err = {0};
    if (jobs_store(s, j, &err) != FLUX1_OK)
        failure_tell(s, "job %s has ended, which is kept in memory alone so far: %s", j->id, err.message);
}

void jobs_bury(server *s, job *j)
{
    store_end(s, j);
    plan_done(s, j);
    queue_forget(&s->queue, j);
}

void jobs_end(server *s, job *j, job_state state)
{
    queue_lock(&s->queue);
    queue_end(&s->queue, j, state);
    queue_unlock(&s->queue);
    store_end(s, j);
    queue_forget(&s->queue, j);
}

static void run_burial(errand *e, void *s) { jobs_bury(s, (job *)(void *)((char *)e - offsetof(job, burial))); }

bool jobs_cancel(server *s, job *j)
{
    queue_lock(&s->queue);
    const bool waited = queue_cancel(&s->queue, j);
    queue_unlock(&s->queue);
    if (waited) { /* it has the queue's reference until then */
        j->burial.run = run_burial;
        errands_add(&s->errands, &j->burial);
    }
    return waited;
}

char *jobs_text(server *s, const char *id, fault *f)
{
    char *text = NULL;
    flux1_error err = {0};
    job *j = queue_find(&s->queue, id);
    if (j) {
        queue_lock(&s->queue);
        text = job_text(j, queue_position(&s->queue, j));
        queue_unlock(&s->queue);
        job_release(&s->queue, j);
        if (!text)
            fault_set(f, FAULT_SERVER, NULL, "out of memory for a job");
        return text;
    }
    if (history_get(s->history, id, &text, &err) != FLUX1_OK)
        failure_fault(s, f, err.status, "the history cannot be read", err.message);
    else if (!text)
        fault_set(f, FAULT_NOT_FOUND, NULL, "there is no job \"%.40s\"", id);
    return text;
}

/* ---- the list ---- */

/* The texts of a list, as they are joined. */
typedef struct joining {
    server *server;
    builder text;
    int count;
} joining;

/* A job that is queued, runs, or has ended without being in the history yet is told as it is now; and so is one that
 * has left the queue since the list was read. */
static bool join(void *user, const char *id, const char *stored, bool ended)
{
    joining *n = user;
    queue *q = &n->server->queue;
    job *j = queue_find(q, id);
    char *now = NULL;
    if (j) {
        queue_lock(q);
        now = job_text(j, queue_position(q, j));
        queue_unlock(q);
        job_release(q, j);
    } else if (!ended) {
        (void)history_get(n->server->history, id, &now, NULL); /* or what was read does */
    }
    builder_add(&n->text, n->count++ ? ", " : "");
    builder_add(&n->text, now ? now : stored);
    free(now);
    return n->text.length < LIST_BYTES;
}

char *jobs_list_text(server *s, int limit, const char *before, fault *f)
{
    joining n = {.server = s};
    flux1_error err = {0};
    bool more = false;
    char *text = NULL;
    builder_add(&n.text, "{\"jobs\": [");
    flux1_status st = history_list(s->history, limit, LIST_BYTES, before, join, &n, &more, &err);
    builder_format(&n.text, "], \"more\": %s}", more ? "true" : "false");
    if (st == FLUX1_OK)
        st = builder_take(&n.text, "the jobs", &text, &err);
    builder_free(&n.text);
    if (st != FLUX1_OK)
        failure_fault(s, f, st, "the history cannot be read", err.message);
    return text;
}
