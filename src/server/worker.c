#include "server/worker.h"

#include "server/job_plan.h"
#include "server/work.h"

/* The last to end says that no job runs any more. */
static void *work_on(void *arg)
{
    worker *by = arg;
    server *s = by->s;
    job *jobs[TOGETHER_MAX];
    for (int count; (count = queue_take(&s->queue, s->engine.workers, jobs)) > 0;) {
        work_run(by, jobs, count);
        for (int i = 0; i < count; i++) {
            plan_done(s, jobs[i]);
            job_release(&s->queue, jobs[i]);
        }
    }
    next_text_drop(s);
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
