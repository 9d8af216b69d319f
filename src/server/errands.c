#include "server/errands.h"

/* NULL: there are no more, nor will there be. */
static errand *take(errands *l)
{
    pthread_mutex_lock(&l->mutex);
    while (!l->first && !l->ending)
        pthread_cond_wait(&l->news, &l->mutex);
    errand *e = l->first;
    if (e && !(l->first = e->next))
        l->last = &l->first;
    pthread_mutex_unlock(&l->mutex);
    return e;
}

static void *run_all(void *arg)
{
    errands *l = arg;
    for (errand *e; (e = take(l));)
        e->run(e, l->user);
    return NULL;
}

flux1_status errands_open(errands *l, void *user, flux1_error *err)
{
    *l = (errands){.user = user, .last = &l->first};
    if (pthread_mutex_init(&l->mutex, NULL) != 0)
        return error_oom(err, 0, "the errands");
    if (pthread_cond_init(&l->news, NULL) == 0) {
        l->runs = pthread_create(&l->thread, NULL, run_all, l) == 0;
        if (l->runs)
            return FLUX1_OK;
        pthread_cond_destroy(&l->news);
    }
    pthread_mutex_destroy(&l->mutex);
    return error_set(err, FLUX1_ERR_MEMORY, "the thread for slow requests cannot be started");
}

void errands_add(errands *l, errand *e)
{
    pthread_mutex_lock(&l->mutex);
    const bool late = l->ending;
    if (!late) {
        e->next = NULL;
        *l->last = e;
        l->last = &e->next;
        pthread_cond_signal(&l->news);
    }
    pthread_mutex_unlock(&l->mutex);
    if (late)
        e->run(e, l->user);
}

void errands_end(errands *l)
{
    if (!l->runs)
        return;
    pthread_mutex_lock(&l->mutex);
    const bool ended = l->ending;
    l->ending = true;
    pthread_cond_signal(&l->news);
    pthread_mutex_unlock(&l->mutex);
    if (!ended)
        pthread_join(l->thread, NULL);
}

void errands_close(errands *l)
{
    errands_end(l);
    if (!l->runs)
        return;
    pthread_cond_destroy(&l->news);
    pthread_mutex_destroy(&l->mutex);
    l->runs = false;
}
