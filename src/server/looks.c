#include "server/looks.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is to be examined ---- */

/* Those for which memory lacks are left to the next time. */
static void note(void *user, const lora_facts *facts)
{
    lora_paths *p = user;
    if (facts->examined && !facts->again)
        return;
    if (p->count == p->room) {
        const size_t room = p->room ? 2 * p->room : 16;
        char **more = realloc(p->path, room * sizeof *more);
        if (!more)
            return;
        p->path = more;
        p->room = room;
    }
    if ((p->path[p->count] = strdup(facts->path)))
        p->count++;
}

static void free_paths(lora_paths *p)
{
    while (p->count > 0)
        free(p->path[--p->count]);
    free(p->path);
    *p = (lora_paths){0};
}

/* ---- the errand ---- */

static bool is_stopping(server *s)
{
    queue_lock(&s->queue);
    const bool stopping = s->queue.stopping;
    queue_unlock(&s->queue);
    return stopping;
}

/* The next file. Others' errands are done before the one behind it. */
static void examine(errand *e, void *user)
{
    server *s = user;
    served_model *m = (served_model *)(void *)((char *)e - offsetof(served_model, look));
    if (m->next_path < m->to_examine.count && !is_stopping(s)) {
        pthread_mutex_lock(&s->planning);
        loras_examine(&s->loras, s->engine.planner, m->model, m->to_examine.path[m->next_path++]);
        pthread_mutex_unlock(&s->planning);
        errands_add(&s->errands, e);
        return;
    }
    free_paths(&m->to_examine);
    pthread_mutex_lock(&s->models.mutex);
    m->looks = false;
    pthread_mutex_unlock(&s->models.mutex);
    models_return(s, m);
}

static void begin(errand *e, void *user)
{
    server *s = user;
    served_model *m = (served_model *)(void *)((char *)e - offsetof(served_model, look));
    m->next_path = 0;
    loras_survey(&s->loras, m->model, note, &m->to_examine);
    e->run = examine;
    errands_add(&s->errands, e);
}

void looks_begin(server *s, served_model *m)
{
    pthread_mutex_lock(&s->models.mutex);
    const bool begins = !m->looks;
    m->looks = true;
    pthread_mutex_unlock(&s->models.mutex);
    if (!begins)
        return;
    models_hold(s, m);
    m->look.run = begin;
    errands_add(&s->errands, &m->look);
}

/* ---- telling ---- */

typedef struct telling {
    loras_tell *tell;
    void *user;
    bool left;
} telling;

static void tell_one(void *user, const lora_facts *facts)
{
    telling *t = user;
    t->left |= !facts->examined || facts->again;
    t->tell(t->user, facts);
}

void looks_tell(server *s, served_model *m, loras_tell *tell, void *user)
{
    telling t = {.tell = tell, .user = user};
    loras_survey(&s->loras, m->model, tell_one, &t);
    if (t.left)
        looks_begin(s, m);
}
