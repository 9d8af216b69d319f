#include "server/together.h"

static bool is_guided_twice(const job_request *r) { return r->negative_prompt && r->true_cfg_scale > 1; }

static bool same_adapters(const job *a, const job *b)
{
    bool same = a->request.loras == b->request.loras;
    for (int i = 0; same && i < a->request.loras; i++)
        same = a->adapters[i].adapter == b->adapters[i].adapter && a->adapters[i].scale == b->adapters[i].scale;
    return same;
}

/* With a step cache a picture depends on those beside it. */
bool together_fits(const job *a, const job *b)
{
    const job_request *r = &a->request, *o = &b->request;
    return a->model == b->model && a->together == b->together && a->together > 1 && r->width == o->width &&
           r->height == o->height && r->steps == o->steps && r->max_sequence_length == o->max_sequence_length &&
           is_guided_twice(r) == is_guided_twice(o) && r->true_cfg_scale == o->true_cfg_scale && r->step_cache == 0 &&
           o->step_cache == 0 && same_adapters(a, b);
}

int together_share(const job *first, int workers)
{
    int same = 1;
    for (const job *j = first->next; j; j = j->next)
        same += together_fits(first, j);
    return (same + workers - 1) / workers;
}

static job *take_out(job **at)
{
    job *j = *at;
    *at = j->next;
    j->next = NULL;
    return j;
}

int together_take(job **list, int most, job *out[TOGETHER_MAX])
{
    job **at = list, **behind = list; /* the place from which one was taken last */
    int count = 0, room;
    out[count++] = take_out(at);
    room = out[0]->together - out[0]->request.count;
    while (*at && count < most && count < TOGETHER_MAX) {
        if (together_fits(out[0], *at) && (*at)->request.count <= room) {
            room -= (*at)->request.count;
            out[count++] = take_out(at);
            behind = at;
        } else if ((*at)->overtaken)
            break;
        else
            at = &(*at)->next;
    }
    for (job **passed = list; passed != behind; passed = &(*passed)->next)
        (*passed)->overtaken = true;
    return count;
}
