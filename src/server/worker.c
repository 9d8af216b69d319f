#include "server/worker.h"

#include "base/clock.h"
#include "server/jobs.h"
#include "server/plan.h"

#include <stdio.h>
#include <stdlib.h>

#define NEWS_SECONDS 0.1 /* between two that tell of progress within a step */

/* The job in work. */
typedef struct work {
    worker *by;
    server *s; /* the worker's */
    job *j;
    flux1_generate_params params;
    fault failure;     /* of a picture that could not be kept */
    double told;       /* when its progress was told last */
    flux1_stage stage; /* of the last call */
    double stage_began;
    int steps;
} work;

static server_counts *counts_of(const work *w) { return &w->s->counts; }

/* Seconds and steps, for /metrics. With the lock held. */
static void count(work *w, const flux1_progress *now)
{
    const double time = clock_seconds();
    counts_of(w)->seconds[w->stage] += time - w->stage_began;
    w->stage_began = time;
    w->stage = now->stage;
    if (now->step > w->steps)
        counts_of(w)->steps += (uint64_t)(now->step - w->steps);
    w->steps = now->step;
}

/* With the lock held. True: a client may want to know. */
static bool update(work *w, const flux1_progress *now)
{
    job *j = w->j;
    const double time = clock_seconds();
    const bool news =
        j->stage != now->stage_name || j->step != now->step || j->image != now->image || time - w->told >= NEWS_SECONDS;
    count(w, now);
    j->stage = now->stage_name;
    if (now->steps) {
        j->step = now->step;
        j->steps = now->steps;
    }
    j->image = now->image;
    j->fraction = now->fraction;
    j->seconds = now->seconds;
    j->seconds_left = now->seconds_left;
    if (news)
        w->told = time;
    return news;
}

/* A preview that cannot be made is none; the picture itself may still come out. */
static void show_preview(work *w, const flux1_progress *now)
{
    server *s = w->s;
    flux1_write_params how;
    uint8_t *bytes = NULL;
    size_t size = 0;
    flux1_write_params_defaults(&how);
    how.plain = 1;
    how.quality = 80;
    how.format = w->j->preview_format;
    pthread_mutex_lock(&s->writing);
    if (flux1_format_check(s->engine.writer, how.format, 0, 0) != FLUX1_OK)
        how.format = FLUX1_FORMAT_PNG;
    const flux1_status st =
        flux1_image_encode(s->engine.writer, now->preview, w->j->model->model, NULL, &how, &bytes, &size);
    pthread_mutex_unlock(&s->writing);
    if (st != FLUX1_OK)
        return;
    queue_lock(&s->queue);
    job_preview *p = &w->j->preview;
    uint8_t *old = p->bytes;
    *p = (job_preview){bytes, size, p->number + 1, now->preview->index, now->step, how.format};
    queue_changed(&s->queue, w->j);
    queue_unlock(&s->queue);
    flux1_bytes_free(old);
}

static int on_progress(void *user, const flux1_progress *now)
{
    work *w = user;
    queue_lock(&w->s->queue);
    if (update(w, now))
        queue_changed(&w->s->queue, w->j);
    queue_unlock(&w->s->queue);
    next_text_start(w->s, w->j, now);
    if (now->preview)
        show_preview(w, now);
    return 0;
}

/* The file, and then what the job says of it. */
static flux1_status keep(work *w, const flux1_image *image, const uint8_t *bytes, size_t size, flux1_error *err)
{
    server *s = w->s;
    job *j = w->j;
    job_picture *p = &j->pictures[j->made];
    *p = (job_picture){.seed = image->seed,
                       .width = image->width,
                       .height = image->height,
                       .bytes = size,
                       .format = j->request.format};
    snprintf(p->name, sizeof p->name, "%s-%d.%s", j->id, j->made + 1, format_ending(p->format));
    TRY(history_write_picture(s->history, p->name, bytes, size, err));
    queue_lock(&s->queue);
    j->made++;
    s->queue.pictures++;
    queue_changed(&s->queue, j);
    queue_unlock(&s->queue);
    return jobs_store(s, j, err);
}

static int on_image(void *user, const flux1_image *image)
{
    work *w = user;
    server *s = w->s;
    flux1_write_params how;
    flux1_error err = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    flux1_write_params_defaults(&how);
    how.format = w->j->request.format;
    how.quality = how.format == FLUX1_FORMAT_PNG ? 0 : w->j->request.quality;
    pthread_mutex_lock(&s->writing);
    flux1_status st = flux1_image_encode(s->engine.writer, image, w->j->model->model, &w->params, &how, &bytes, &size);
    if (st != FLUX1_OK)
        error_set(&err, st, "%s", flux1_context_message(s->engine.writer));
    pthread_mutex_unlock(&s->writing);
    if (st == FLUX1_OK)
        st = keep(w, image, bytes, size, &err);
    flux1_bytes_free(bytes);
    if (st != FLUX1_OK)
        fault_set(&w->failure, FAULT_SERVER, NULL, "%s", err.message);
    return st != FLUX1_OK;
}

/* How it ended, and why. */
static job_state conclude(work *w, flux1_status st)
{
    server *s = w->s;
    job *j = w->j;
    fault why = w->failure;
    bool stopping;
    if (st == FLUX1_OK)
        return JOB_DONE;
    queue_lock(&s->queue);
    stopping = s->queue.stopping;
    if (why.kind == FAULT_NONE && st != FLUX1_ERR_CANCELLED)
        fault_of_status(&why, st, flux1_context_message(w->by->context));
    if (why.kind == FAULT_NONE && stopping && !j->cancelled)
        fault_set(&why, FAULT_UNAVAILABLE, NULL, "the server was stopped");
    j->error = why;
    queue_unlock(&s->queue);
    return why.kind == FAULT_NONE ? JOB_CANCELLED : why.kind == FAULT_UNAVAILABLE ? JOB_INTERRUPTED : JOB_FAILED;
}

/* Warnings of the worker's context, on its thread. */
static void take_notes(work *w, remarks *found)
{
    queue_lock(&w->s->queue);
    for (int i = 0; i < found->count; i++)
        remarks_add(&w->j->notes, "%s", found->text[i]);
    queue_unlock(&w->s->queue);
    remarks_free(found);
}

static void run(worker *by, job *j)
{
    server *s = by->s;
    work w = {.by = by, .s = s, .j = j, .stage_began = clock_seconds()};
    remarks found = {0};
    flux1_text *text, *negative_text;
    jobs_store(s, j, NULL);
    next_text_take(s, j, &text, &negative_text);
    plan_params(s, j, &w.params);
    w.params.text = text;
    w.params.negative_text = negative_text;
    w.params.progress = on_progress;
    w.params.progress_user = &w;
    w.params.image = on_image;
    w.params.image_user = &w;
    w.params.cancel = j->token;
    by->notes = &found;
    const flux1_status st = flux1_generate(by->context, j->model->model, &w.params, NULL);
    by->notes = NULL;
    flux1_text_free(text);
    flux1_text_free(negative_text);
    queue_lock(&s->queue);
    count(&w, &(flux1_progress){.stage = w.stage, .step = w.steps});
    queue_unlock(&s->queue);
    take_notes(&w, &found);
    jobs_end(s, j, conclude(&w, st));
}

/* The last to end says that no job runs any more. */
static void *work_on(void *arg)
{
    worker *by = arg;
    server *s = by->s;
    for (job *j; (j = queue_take(&s->queue));)
        run(by, j);
    flux1_text *none[2];
    next_text_take(s, NULL, &none[0], &none[1]);
    queue_lock(&s->queue);
    if (--s->working == 0)
        queue_stopped(&s->queue);
    queue_unlock(&s->queue);
    return NULL;
}

static bool start(worker *by)
{
    queue_lock(&by->s->queue);
    by->started = pthread_create(&by->thread, NULL, work_on, by) == 0;
    by->s->working += by->started;
    queue_unlock(&by->s->queue);
    return by->started;
}

flux1_status workers_start(server *s, flux1_error *err)
{
    for (int i = 0; i < s->engine.workers; i++) {
        s->worker[i].context = s->engine.worker[i];
        if (!start(&s->worker[i]))
            return error_set(err, FLUX1_ERR_MEMORY, "a worker's thread cannot be started");
    }
    return FLUX1_OK;
}

void workers_join(server *s)
{
    for (int i = 0; i < SERVER_WORKERS; i++) {
        if (s->worker[i].started)
            pthread_join(s->worker[i].thread, NULL);
        s->worker[i].started = false;
    }
}
