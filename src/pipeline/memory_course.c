#include "pipeline/memory_course.h"

/* What is there when a stage begins. */
typedef struct left_behind {
    struct {
        uint64_t bytes, block; /* block: of one at most; blocks leave as a whole */
    } forms[MEMORY_STAGES];    /* prepared weights of each stage */
    const stage_plan *arena;   /* the stage with the largest arena that was touched; NULL: none */
} left_behind;

static uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

static uint64_t arena_bytes(const flux1_context *c, const stage_plan *p)
{
    uint64_t bytes = 0;
    for (int r = 0; p && r < mesh_ranks(&c->mesh); r++)
        bytes += p->arena[r];
    return bytes;
}

/* Prepared weights of the other stages, as many as may stay; the ones that were used longest ago have gone. */
static uint64_t forms_beside(left_behind *l, int stage, int count, uint64_t room)
{
    uint64_t all = 0;
    for (int i = 0; i < count; i++)
        all += i == stage ? 0 : l->forms[i].bytes;
    for (int k = 1; k < count && all > room; k++) {
        const int oldest = (stage + k) % count;
        const uint64_t bytes = l->forms[oldest].bytes, over = all - room, rest = bytes > over ? bytes - over : 0;
        const uint64_t unit = larger(l->forms[oldest].block, 1);
        l->forms[oldest].bytes = rest - rest % unit;
        all -= bytes - l->forms[oldest].bytes;
    }
    return all;
}

/* What of a larger arena stays behind the stage's own. */
static uint64_t arena_beside(const flux1_context *c, left_behind *l, const memory_need *n, const memory_stage *s)
{
    const uint64_t own = arena_bytes(c, s->plan), touched = arena_bytes(c, l->arena);
    const bool stays = touched > own && memory_has_room(c, n, touched - own);
    if (memory_streams(c, n))
        l->arena = NULL; /* given back at its end */
    else if (!stays)
        l->arena = s->plan;
    return stays ? touched - own : 0;
}

/* Where the encoders have a device of their own, their arena is another one. */
static uint64_t peak_of(const flux1_context *c, left_behind l[2], const memory_stage *stages, int stage, int count)
{
    const memory_stage *s = &stages[stage];
    const memory_need n = memory_of(c, s->device, s->plan, s->beside);
    uint64_t peak = memory_peak(c, &n);
    if (n.device || s->device->processes)
        return peak;
    const uint64_t forms = forms_beside(&l[0], stage, count, memory_for_unused(c, &n));
    l[0].forms[stage].bytes = n.held;
    l[0].forms[stage].block = n.form;
    peak += forms;
    return peak + arena_beside(c, &l[s->device == &c->text_device], &n, s);
}

memory_course memory_over(const flux1_context *c, const memory_stage *stages, int count)
{
    memory_course out = {0};
    left_behind l[2] = {0};
    for (int i = 0; i < count; i++)
        out.first = larger(out.first, peak_of(c, l, stages, i, count));
    for (int i = 0; i < count; i++)
        out.later = larger(out.later, peak_of(c, l, stages, i, count));
    return out;
}
