#include "pipeline/session.h"

#include "model/dit.h"
#include "model/encoders.h"
#include "model/vae.h"
#include "pipeline/context.h"

#include <stdlib.h>
#include <string.h>

/* ---- models by kind ---- */

typedef struct kind {
    component part;
    flux1_status (*create)(loader *l, const flux1_model *m, void **out);
    void (*destroy)(void *model);
} kind;

#define DEFINE(type, config)                                                       \
    static flux1_status create_##type(loader *l, const flux1_model *m, void **out) \
    {                                                                              \
        type *made = NULL;                                                         \
        flux1_status st = type##_create(l, &m->config, &made);                     \
        *out = made;                                                               \
        return st;                                                                 \
    }                                                                              \
    static void destroy_##type(void *model) { type##_destroy(model); }
DEFINE(clip, clip)
DEFINE(t5, t5)
DEFINE(dit_weights, dit)
DEFINE(vae_decoder, vae)
DEFINE(vae_encoder, vae)
#undef DEFINE

static const kind KINDS[] = {
#define ROW(name, part, type) {part, create_##type, destroy_##type},
    BUILT_MAP(ROW)
#undef ROW
};

flux1_status session_model(session *s, const flux1_model *m, built what, mesh *rank, void **out)
{
    const kind *k = &KINDS[what];
    void *made = s ? s->rank[what][rank->rank] : NULL;
    if (!made) {
        loader l = {.m = rank, .s = m->store[k->part]};
        flux1_status st = k->create(&l, m, &made);
        if (st != FLUX1_OK) {
            k->destroy(made);
            return st;
        }
        if (s)
            s->rank[what][rank->rank] = made;
    }
    *out = made;
    return FLUX1_OK;
}

void session_model_done(const session *s, built what, void *model)
{
    if (!s)
        KINDS[what].destroy(model);
}

/* ---- sessions ---- */

static void drop_models(session *s, int ranks)
{
    for (int k = 0; k < BUILTS; k++)
        for (int r = 0; s->rank[k] && r < ranks; r++) {
            KINDS[k].destroy(s->rank[k][r]);
            s->rank[k][r] = NULL;
        }
    s->model = 0;
    s->recorded = (step_shape){0};
}

static void session_free(session *s, int ranks)
{
    drop_models(s, ranks);
    mesh_close(s->mesh);
    for (int k = 0; k < BUILTS; k++)
        free(s->rank[k]);
    free(s);
}

static flux1_status session_open(flux1_context *c, const mesh_device *d, session **out)
{
    int ranks = mesh_ranks(&c->mesh);
    session *s = calloc(1, sizeof *s);
    if (!s)
        return error_oom(&c->error, sizeof *s, "a session");
    s->device = d;
    for (int k = 0; k < BUILTS; k++)
        if (!(s->rank[k] = calloc((size_t)ranks, sizeof *s->rank[k]))) {
            session_free(s, ranks);
            return error_oom(&c->error, 0, "a session");
        }
    flux1_status st = mesh_open(&c->mesh, d, &s->mesh, &c->error);
    if (st != FLUX1_OK) {
        session_free(s, ranks);
        return st;
    }
    s->next = c->sessions;
    c->sessions = s;
    *out = s;
    return FLUX1_OK;
}

flux1_status session_take(flux1_context *c, const mesh_device *d, const flux1_model *m, session **out)
{
    session *found = NULL;
    *out = NULL;
    for (session *s = c->sessions; s; s = s->next)
        if (!s->busy && s->device == d && (!found || s->model == m->number))
            found = s;
    if (!found)
        TRY(session_open(c, d, &found));
    if (found->model != m->number)
        drop_models(found, mesh_ranks(&c->mesh));
    found->model = m->number;
    found->busy = true;
    mesh_profile(found->mesh, c->profile);
    *out = found;
    return FLUX1_OK;
}

static flux1_status rest_body(void *arg, mesh *m)
{
    (void)arg;
    ops_release(m->o, 0);
    ops_rest(m->o);
    return FLUX1_OK;
}

void session_give(flux1_context *c, session *s)
{
    if (!s)
        return;
    flux1_error ignored = {0}; /* what can fail here is told by the next run */
    mesh_profile(s->mesh, NULL);
    mesh_run(s->mesh, rest_body, NULL, &ignored);
    (void)c;
    s->busy = false;
}

uint64_t session_recording(session *s, const step_shape *shape)
{
    const step_shape *old = &s->recorded;
    bool same = old->batch == shape->batch && old->text_rows == shape->text_rows && old->grid_h == shape->grid_h &&
                old->grid_w == shape->grid_w && old->steps == shape->steps && old->passes == shape->passes &&
                old->scale == shape->scale;
    if (!same) {
        s->recorded = *shape;
        s->recording++;
    }
    return s->recording;
}

void sessions_close(flux1_context *c)
{
    for (session *s = c->sessions, *next; s; s = next) {
        next = s->next;
        session_free(s, mesh_ranks(&c->mesh));
    }
    c->sessions = NULL;
}
