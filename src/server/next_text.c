#include "server/next_text.h"

#include "server/job_plan.h"

#include <string.h>

static void *encode(void *arg)
{
    server *s = arg;
    next_text *n = &s->next;
    flux1_generate_params params, negative;
    plan_params(s, n->job, &params);
    params.cancel = n->job->token;
    negative = params;
    negative.prompt = params.negative_prompt;
    if (flux1_encode_text(s->engine.encoder, n->job->model->model, &params, &n->text) != FLUX1_OK)
        n->text = NULL;
    else if (negative.prompt && params.true_cfg_scale > 1 &&
             flux1_encode_text(s->engine.encoder, n->job->model->model, &negative, &n->negative_text) != FLUX1_OK)
        n->negative_text = NULL;
    return NULL;
}

/* With several pictures it waits for the last one's decoding, as the batch command does. */
static bool is_time(const server *s, const flux1_progress *now)
{
    return s->engine.encoder && !s->next.job && now->stage >= s->engine.encode_from &&
           (now->stage != FLUX1_STAGE_DECODE || now->image + 1 >= now->images);
}

static bool same(const char *a, const char *b) { return a && b ? strcmp(a, b) == 0 : a == b; }

static bool same_texts(const job_request *a, const job_request *b)
{
    return same(a->prompt, b->prompt) && same(a->negative_prompt, b->negative_prompt) &&
           a->max_sequence_length == b->max_sequence_length && a->loras == 0 && b->loras == 0;
}

/* The first job that waits, with a reference, and with its adapters held: it may be cancelled meanwhile. */
static job *hold_first(server *s, const job *running)
{
    queue_lock(&s->queue);
    job *j = s->queue.first;
    if (j && (j->model != running->model || same_texts(&j->request, &running->request) || !plan_hold(s, j)))
        j = NULL;
    if (j)
        j->references++;
    queue_unlock(&s->queue);
    return j;
}

static void let_go(server *s)
{
    remarks_free(&s->next.notes);
    plan_done(s, s->next.job);
    job_release(&s->queue, s->next.job);
    s->next = (next_text){0};
}

void next_text_start(server *s, const job *running, const flux1_progress *now)
{
    if (!is_time(s, now) || !(s->next.job = hold_first(s, running)))
        return;
    if (pthread_create(&s->next.thread, NULL, encode, s) != 0)
        let_go(s);
}

/* What the encoder warned of is the job's. */
static void give_notes(server *s, job *j)
{
    queue_lock(&s->queue);
    for (int i = 0; i < s->next.notes.count; i++)
        remarks_add(&j->notes, "%s", s->next.notes.text[i]);
    queue_unlock(&s->queue);
}

void next_text_take(server *s, job *j, flux1_text **text, flux1_text **negative_text)
{
    next_text *n = &s->next;
    *text = *negative_text = NULL;
    if (!n->job || n->job != j)
        return;
    pthread_join(n->thread, NULL);
    give_notes(s, j);
    *text = n->text;
    *negative_text = n->negative_text;
    queue_lock(&s->queue);
    s->counts.encoded_ahead += *text != NULL;
    queue_unlock(&s->queue);
    let_go(s);
}

void next_text_drop(server *s)
{
    next_text *n = &s->next;
    if (!n->job)
        return;
    pthread_join(n->thread, NULL);
    flux1_text_free(n->text);
    flux1_text_free(n->negative_text);
    let_go(s);
}
