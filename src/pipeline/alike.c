#include "pipeline/alike.h"

#include "base/hash.h"

#include <string.h>

typedef struct runs {
    const mesh_config *mesh;
    mesh_device device;
    mesh_body *body;
    void *job;
    ops_count *opening;
    rank_counts *all;
    flux1_error *err;
    uint64_t heard; /* of the rank that runs */
} runs;

static uint64_t hash_text(const char *text) { return text ? hash_bytes(text, strlen(text)) : 0; }

/* Not which weights they are, nor their names. */
static void hear(void *user, const ops_event *e)
{
    runs *r = user;
    const uint64_t told[] = {(uint64_t)e->kind,
                             hash_text(e->operation),
                             (uint64_t)e->batch,
                             (uint64_t)e->m,
                             (uint64_t)e->n,
                             (uint64_t)e->k,
                             (uint64_t)e->heads,
                             (uint64_t)e->int8,
                             (uint64_t)e->flops,
                             e->bytes_in,
                             e->bytes_out,
                             e->bytes_weights,
                             e->bytes_moved,
                             (uint64_t)e->ranks,
                             hash_text(e->axis),
                             e->overlaps,
                             e->arena};
    r->heard += hash_bytes(told, sizeof told);
}

static rank_counts *at(const runs *r, int sp, int tp) { return &r->all[sp * r->mesh->tp + tp]; }

static flux1_status run_one(runs *r, int sp, int tp)
{
    rank_counts *one = at(r, sp, tp);
    const ops_count before = *r->opening;
    if (one->known)
        return FLUX1_OK;
    r->heard = 0;
    *r->opening = (ops_count){0};
    const flux1_status st =
        mesh_dry_run(r->mesh, &r->device, sp * r->mesh->tp + tp, r->body, r->job, &one->count, r->err);
    one->before = *r->opening;
    one->heard = r->heard;
    one->known = true;
    *r->opening = before;
    return st;
}

static bool same(const rank_counts *a, const rank_counts *b)
{
    return a->heard == b->heard && memcmp(&a->count, &b->count, sizeof a->count) == 0 &&
           memcmp(&a->before, &b->before, sizeof a->before) == 0;
}

/* Ranks first … last of a row. */
static flux1_status run_between(runs *r, int sp, int first, int last)
{
    TRY(run_one(r, sp, first));
    TRY(run_one(r, sp, last));
    if (!same(at(r, sp, first), at(r, sp, last))) {
        const int middle = first + (last - first) / 2;
        if (last - first < 2)
            return FLUX1_OK;
        TRY(run_between(r, sp, first, middle));
        return run_between(r, sp, middle, last);
    }
    for (int tp = first + 1; tp < last; tp++)
        *at(r, sp, tp) = *at(r, sp, first);
    return FLUX1_OK;
}

static flux1_status run_row(runs *r, int sp)
{
    TRY(run_one(r, sp, 0));
    return r->mesh->tp > 1 ? run_between(r, sp, 1, r->mesh->tp - 1) : FLUX1_OK;
}

static bool same_row(const runs *r, int a, int b)
{
    bool alike = true;
    for (int tp = 0; tp < r->mesh->tp; tp++)
        alike = alike && same(at(r, a, tp), at(r, b, tp));
    return alike;
}

static flux1_status run_rows_between(runs *r, int first, int last)
{
    TRY(run_row(r, first));
    TRY(run_row(r, last));
    if (!same_row(r, first, last)) {
        const int middle = first + (last - first) / 2;
        if (last - first < 2)
            return FLUX1_OK;
        TRY(run_rows_between(r, first, middle));
        return run_rows_between(r, middle, last);
    }
    for (int sp = first + 1; sp < last; sp++)
        memcpy(at(r, sp, 0), at(r, first, 0), (size_t)r->mesh->tp * sizeof *r->all);
    return FLUX1_OK;
}

flux1_status alike_run(const mesh_config *c, const mesh_device *d, mesh_body *body, void *job, ops_count *opening,
                       rank_counts *all, flux1_error *err)
{
    runs r = {.mesh = c, .device = *d, .body = body, .job = job, .opening = opening, .all = all, .err = err};
    r.device.config.event = hear;
    r.device.config.event_user = &r;
    TRY(run_row(&r, 0));
    return c->sp > 1 ? run_rows_between(&r, 1, c->sp - 1) : FLUX1_OK;
}
