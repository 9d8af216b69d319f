#include "server/work.h"

#include "base/clock.h"
#include "server/failure.h"
#include "server/jobs.h"
#include "server/job_plan.h"
#include "server/thumbnail.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEWS_SECONDS 0.1 /* between two that tell of progress within a step */

/* One of the jobs. */
typedef struct member {
    job *j;
    flux1_generate_params params;
    flux1_text *text, *negative_text; /* encoded ahead; NULL: not */
    int first;                        /* its first picture among those of all */
    int before;                       /* pictures that it had already, or has passed over */
    int noted;                        /* notes that it had already */
    bool over;                        /* it has ended; the call may go on for the others */
} member;

typedef struct work {
    worker *by;
    server *s; /* the worker's */
    member of[TOGETHER_MAX];
    int count;
    remarks found;      /* warnings of the worker's context */
    flux1_progress now; /* as it was told last, and when */
    double told;
    double stage_began;
} work;

/* ---- notes and ends ---- */

/* Said of another of the jobs when that was planned, where all that concerns one alone is said. */
static bool is_anothers(const work *w, const job *j, const char *text)
{
    for (int i = 0; i < w->count; i++)
        for (int k = 0; w->of[i].j != j && k < w->of[i].noted; k++)
            if (strcmp(w->of[i].j->notes.text[k], text) == 0)
                return true;
    return false;
}

/* Ends one of the jobs: from here on its client knows. Until the call returns it is still used. */
static void end(work *w, member *m, job_state state)
{
    queue_lock(&w->s->queue);
    for (int i = 0; i < w->found.count; i++)
        if (!is_anothers(w, m->j, w->found.text[i]))
            remarks_add(&m->j->notes, "%s", w->found.text[i]);
    if (state == JOB_CANCELLED && m->j->made > 0)
        remarks_add(&m->j->notes, "cancelled when %d of %d pictures were finished", m->j->made, m->j->request.count);
    queue_unlock(&w->s->queue);
    m->over = true;
    jobs_end(w->s, m->j, state);
}

/* What went wrong with one of them alone, at its picture of that number: nothing more of it is made. */
static void fail(work *w, member *m, int number, const flux1_error *err)
{
    fault why = {0};
    char what[64];
    snprintf(what, sizeof what, "picture %d of %d cannot be kept", number, m->j->request.count);
    failure_write(w->s, &why, err, what);
    queue_lock(&w->s->queue);
    m->j->error = why;
    queue_unlock(&w->s->queue);
    flux1_cancel_token_cancel(m->j->token);
    end(w, m, JOB_FAILED);
}

static void end_cancelled(work *w)
{
    for (int i = 0; i < w->count; i++) {
        queue_lock(&w->s->queue);
        const bool cancelled = !w->of[i].over && w->of[i].j->cancelled;
        queue_unlock(&w->s->queue);
        if (cancelled)
            end(w, &w->of[i], JOB_CANCELLED);
    }
}

/* ---- progress ---- */

/* Seconds and steps, for /metrics. With the lock held. */
static void count(work *w, const flux1_progress *now)
{
    server_counts *counts = &w->s->counts;
    const double time = clock_seconds();
    counts->seconds[w->now.stage] += time - w->stage_began;
    w->stage_began = time;
    if (now->step > w->now.step)
        counts->steps += (uint64_t)(now->step - w->now.step);
}

/* Clients may want to know. */
static bool is_news(work *w, const flux1_progress *now)
{
    const double time = clock_seconds();
    const bool news = w->now.stage_name != now->stage_name || w->now.step != now->step || w->now.image != now->image ||
                      time - w->told >= NEWS_SECONDS;
    if (news)
        w->told = time;
    return news;
}

/* With the lock held. The time left is until all of them are done. */
static void update(const member *m, const flux1_progress *now)
{
    job *j = m->j;
    const int last = j->request.count - 1, image = m->before + now->image - m->first;
    j->stage = now->stage_name;
    if (now->steps) {
        j->step = now->step;
        j->steps = now->steps;
    }
    j->image = image < m->before ? m->before : image > last ? last : image;
    j->fraction = (m->before + now->fraction * (j->request.count - m->before)) / j->request.count; /* behind a skip */
    j->seconds = now->seconds;
    j->seconds_left = now->seconds_left;
}

static void tell(work *w, const flux1_progress *now)
{
    queue_lock(&w->s->queue);
    count(w, now);
    const bool news = is_news(w, now);
    for (int i = 0; i < w->count; i++) {
        if (w->of[i].over)
            continue;
        update(&w->of[i], now);
        if (news)
            queue_changed(&w->s->queue, w->of[i].j);
    }
    w->now = *now;
    queue_unlock(&w->s->queue);
}

/* A picture to look at, without what it was made of. */
static flux1_status encode_plain(server *s, const flux1_image *image, flux1_format format, uint8_t **bytes,
                                 size_t *size)
{
    flux1_write_params how;
    flux1_write_params_defaults(&how);
    how.plain = 1;
    how.quality = 80;
    how.format = format;
    pthread_mutex_lock(&s->writing);
    const flux1_status st = flux1_image_encode(s->engine.writer, image, NULL, NULL, &how, bytes, size);
    pthread_mutex_unlock(&s->writing);
    return st;
}

/* A preview that cannot be made is none; the picture itself may still come out. */
static void show_preview(work *w, job *j, const flux1_progress *now)
{
    server *s = w->s;
    flux1_format format = j->preview_format;
    uint8_t *bytes = NULL;
    size_t size = 0;
    pthread_mutex_lock(&s->writing);
    if (flux1_format_check(s->engine.writer, format, 0, 0) != FLUX1_OK)
        format = FLUX1_FORMAT_PNG;
    pthread_mutex_unlock(&s->writing);
    if (encode_plain(s, now->preview, format, &bytes, &size) != FLUX1_OK)
        return;
    queue_lock(&s->queue);
    job_preview *p = &j->preview;
    uint8_t *old = p->bytes;
    *p = (job_preview){bytes, size, p->number + 1, now->preview->index, now->step, format};
    queue_changed(&s->queue, j);
    queue_unlock(&s->queue);
    flux1_bytes_free(old);
}

static int on_progress(void *user, const flux1_progress *now)
{
    work *w = user;
    tell(w, now);
    end_cancelled(w);
    next_text_start(w->s, w->of[0].j, now);
    const member *m = now->preview ? &w->of[now->preview->request] : NULL;
    if (m && !m->over && m->j->request.preview_every > 0)
        show_preview(w, m->j, now);
    return 0;
}

/* ---- pictures ---- */

/* For the page's lists, which show the picture itself where there is none. Its bytes; 0: none. */
static size_t keep_thumbnail(server *s, const char *name, const flux1_image *image)
{
    flux1_image small;
    uint8_t *bytes = NULL;
    size_t size = 0;
    if (!thumbnail_pays(image) || !thumbnail_draw(image, &small))
        return 0;
    const flux1_status st = encode_plain(s, &small, FLUX1_FORMAT_JPEG, &bytes, &size);
    const bool kept = st == FLUX1_OK && history_write_thumbnail(s->history, name, bytes, size);
    flux1_bytes_free(bytes);
    free(small.pixels);
    return kept ? size : 0;
}

/* The files, and then what the history says of them, and clients hear. */
static flux1_status keep(work *w, job *j, const flux1_image *image, const uint8_t *bytes, size_t size, flux1_error *err)
{
    server *s = w->s;
    job_picture *p = &j->pictures[j->made];
    *p = (job_picture){.seed = image->seed,
                       .width = image->width,
                       .height = image->height,
                       .bytes = size,
                       .format = j->request.format};
    snprintf(p->name, sizeof p->name, "%s-%d.%s", j->id, j->made + 1, format_ending(p->format));
    TRY(history_write_picture(s->history, p->name, bytes, size, err));
    p->small_bytes = keep_thumbnail(s, p->name, image);
    queue_lock(&s->queue);
    j->made++;
    s->queue.pictures++;
    queue_unlock(&s->queue);
    return jobs_store(s, j, err);
}

static flux1_status encode(server *s, const member *m, const flux1_image *image, uint8_t **bytes, size_t *size,
                           flux1_error *err)
{
    const job_request *r = &m->j->request;
    flux1_write_params how;
    flux1_write_params_defaults(&how);
    how.format = r->format;
    how.quality = r->format == FLUX1_FORMAT_PNG ? 0 : r->quality;
    how.adapter_names = 1;
    how.prompt = r->written;
    pthread_mutex_lock(&s->writing);
    flux1_status st = flux1_image_encode(s->engine.writer, image, m->j->model->model, &m->params, &how, bytes, size);
    if (st != FLUX1_OK)
        error_set(err, st, "%s", flux1_context_message(s->engine.writer));
    pthread_mutex_unlock(&s->writing);
    return st;
}

/* Takes the bytes. */
static void hold_unkept(server *s, job *j, uint8_t **bytes, size_t size)
{
    queue_lock(&s->queue);
    j->unkept = *bytes;
    j->unkept_bytes = size;
    queue_unlock(&s->queue);
    *bytes = NULL;
}

static int on_image(void *user, const flux1_image *image)
{
    work *w = user;
    member *m = &w->of[image->request];
    flux1_error err = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    if (m->over)
        return 0;
    const int number = m->j->made + m->j->passed + 1, made = m->j->made;
    flux1_status st = encode(w->s, m, image, &bytes, &size, &err);
    const bool encoded = st == FLUX1_OK;
    if (encoded)
        st = keep(w, m->j, image, bytes, size, &err);
    if (encoded && st != FLUX1_OK && m->j->made == made) /* who waits for it gets it nevertheless */
        hold_unkept(w->s, m->j, &bytes, size);
    flux1_bytes_free(bytes);
    if (st != FLUX1_OK)
        fail(w, m, number, &err);
    else if (m->j->made + m->j->passed == m->j->request.count)
        end(w, m, JOB_DONE);
    return 0;
}

/* ---- all of it ---- */

static void take_jobs(work *w, job *const *jobs, int number)
{
    int pictures = 0;
    queue_lock(&w->s->queue);
    for (int i = 0; i < number; i++)
        jobs[i]->drawn = true;
    queue_unlock(&w->s->queue);
    for (int i = 0; i < number; i++) {
        member *m = &w->of[w->count++];
        flux1_generate_params *p = &m->params;
        *m = (member){
            .j = jobs[i], .first = pictures, .before = jobs[i]->made + jobs[i]->passed, .noted = jobs[i]->notes.count};
        jobs_store(w->s, m->j, NULL);
        next_text_take(w->s, m->j, &m->text, &m->negative_text);
        plan_params(w->s, m->j, p);
        p->seed += (uint64_t)m->before;
        p->count -= m->before;
        p->text = m->text;
        p->negative_text = m->negative_text;
        p->progress = on_progress;
        p->image = on_image;
        p->progress_user = p->image_user = w;
        p->cancel = m->j->token;
        pictures += p->count;
    }
    next_text_drop(w->s);
}

static flux1_status generate(work *w)
{
    const flux1_generate_params *params[TOGETHER_MAX];
    for (int i = 0; i < w->count; i++)
        params[i] = &w->of[i].params;
    w->by->notes = &w->found;
    const flux1_status st = flux1_generate_many(w->by->context, w->of[0].j->model->model, params, w->count, NULL);
    w->by->notes = NULL;
    models_note(w->of[0].j->model, st);
    queue_lock(&w->s->queue);
    for (int i = 0; i < w->count; i++)
        w->of[i].j->drawn = false;
    count(w, &w->now);
    w->s->counts.together += w->count > 1 ? (uint64_t)w->count : 0;
    queue_unlock(&w->s->queue);
    for (int i = 0; i < w->count; i++) {
        flux1_text_free(w->of[i].text);
        flux1_text_free(w->of[i].negative_text);
    }
    return st;
}

/* How one ended that has not ended with its last picture, and why. */
static job_state conclude(work *w, job *j, flux1_status st)
{
    queue *q = &w->s->queue;
    const bool failed = st != FLUX1_OK && st != FLUX1_ERR_CANCELLED;
    fault why = {0};
    char what[MODEL_NAME_ROOM + 64];
    snprintf(what, sizeof what, "no picture can be made with the model \"%.100s\"", j->request.model);
    if (failed)
        failure_fault(w->s, &why, st, what, flux1_context_message(w->by->context));
    queue_lock(q);
    if (!failed && q->given_up && !j->cancelled)
        fault_set(&why, FAULT_UNAVAILABLE, NULL, "the server was stopped");
    if (why.kind != FAULT_NONE)
        j->error = why;
    const fault_kind kind = j->error.kind;
    queue_unlock(q);
    return kind == FAULT_NONE ? JOB_CANCELLED : kind == FAULT_UNAVAILABLE ? JOB_INTERRUPTED : JOB_FAILED;
}

/* What a client has skipped is passed over. True: that is all that has stopped it, and its token is fresh again. */
static bool pass_skipped(work *w, job *j)
{
    queue *q = &w->s->queue;
    queue_lock(q);
    const bool skips = j->skip > 0 && !j->cancelled && !q->given_up;
    if (skips) {
        if (j->skip == j->made + j->passed + 1) { /* or it was finished first */
            j->passed++;
            remarks_add(&j->notes, "picture %d of %d was skipped", j->skip, j->request.count);
        }
        j->skip = 0;
        q->skipped = false;
        flux1_cancel_token_reset(j->token);
    }
    queue_unlock(q);
    return skips;
}

/* A job whose model another one could not read: that is opened anew. False: it cannot, and the job has ended. */
static bool renew(worker *by, job *j)
{
    server *s = by->s;
    fault why = {0};
    next_text_drop(s); /* of the old one */
    if (plan_again(s, j, &why))
        return true;
    if (why.kind == FAULT_INVALID) /* the request was in order when it came */
        why.kind = FAULT_SERVER;
    queue_lock(&s->queue);
    const bool cancelled = j->cancelled;
    if (!cancelled)
        j->error = why;
    queue_unlock(&s->queue);
    jobs_end(s, j, cancelled ? JOB_CANCELLED : JOB_FAILED);
    return false;
}

/* One call for all of them. Those that are not at their end then: how many, each to be tried alone. What has stopped
 * all of them may concern one alone (a NaN, or the memory for so many). */
static int run(worker *by, job *const *jobs, int number, job **left)
{
    work w = {.by = by, .s = by->s, .stage_began = clock_seconds()};
    int count = 0;
    if (models_is_unreadable(jobs[0]->model)) {
        if (number > 1) { /* each of them is planned anew, and may come to something else */
            memcpy(left, jobs, (size_t)number * sizeof *left);
            return number;
        }
        if (!renew(by, jobs[0]))
            return 0;
    }
    take_jobs(&w, jobs, number);
    const flux1_status st = generate(&w);
    const bool failed = st != FLUX1_OK && st != FLUX1_ERR_CANCELLED;
    end_cancelled(&w);
    for (int i = 0; i < number; i++) {
        job *j = w.of[i].j;
        if (w.of[i].over)
            continue;
        const bool skipped = !failed && pass_skipped(&w, j);
        if ((failed && number > 1) || (skipped && j->made + j->passed < j->request.count))
            left[count++] = j;
        else
            end(&w, &w.of[i], !skipped ? conclude(&w, j, st) : j->made > 0 ? JOB_DONE : JOB_CANCELLED);
    }
    remarks_free(&w.found);
    return count;
}

void work_run(worker *by, job *const *jobs, int number)
{
    job *left[TOGETHER_MAX], *same;
    const int count = run(by, jobs, number, left);
    for (int i = 0; i < count; i++)
        while (run(by, &left[i], 1, &same) > 0) /* once more for each picture that is skipped */
            ;
}
