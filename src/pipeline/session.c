#include "pipeline/session.h"

#include "base/json_write.h"
#include "model/dit.h"
#include "model/encoders.h"
#include "model/vae.h"
#include "pipeline/arithmetic.h"
#include "pipeline/content.h"
#include "pipeline/context.h"
#include "pipeline/team.h"

#include <stdio.h>
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

static const char *const BUILT_NAMES[] = {
#define NAME(id, part, type) #type,
    BUILT_MAP(NAME)
#undef NAME
};

static const kind KINDS[] = {
#define ROW(name, part, type) {part, create_##type, destroy_##type},
    BUILT_MAP(ROW)
#undef ROW
};

/* ---- building ---- */

/* What `flux1 cache list` says about an entry. */
static flux1_status describe(const session *s, const flux1_model *m, built what, const mesh *rank, const ops_device *d,
                             char **out, flux1_error *err)
{
    json_writer w = {.style = JSON_LINE};
    const ops_config *c = &s->device->config;
    char slice[48];
    const mesh parts = what == BUILT_CLIP || what == BUILT_T5 ? mesh_flat(rank) : *rank;
    snprintf(slice, sizeof slice, "%d of %d", parts.tp_rank + 1, parts.tp);
    json_begin_object(&w, NULL);
    json_put_string(&w, "model", m->path);
    json_put_string(&w, "part", BUILT_NAMES[what]);
    json_put_string(&w, "slice", slice);
    json_put_string(&w, "device", d->kind->name);
    json_put_string(&w, "kernel", d->info.name);
    json_put_string(&w, "dtype", arithmetic_name(c, false));
    json_end_object(&w);
    return json_take(&w, "an entry of the cache", out, err);
}

/* The content of the model's files, and of those that are merged into them. */
static flux1_status hash_all(const loader *l, bool *known)
{
    TRY(store_hash(l->s, l->m->o->cancel, known, l->m->err));
    for (int i = 0; i < l->use_count && *known; i++)
        TRY(store_hash(l->uses[i].file->store, l->m->o->cancel, known, l->m->err));
    return FLUX1_OK;
}

/* With the content of its files known, so that blocks' keys are of it. */
static flux1_status build(session *s, const flux1_model *m, const adapter_set *set, built what, mesh *rank, void **made,
                          block_list **blocks)
{
    const kind *k = &KINDS[what];
    adapter_use uses[ADAPTERS_MAX];
    const model_part part = component_part(k->part);
    loader l = {.m = rank, .s = m->store[k->part], .part = part, .uses = uses};
    l.bfp8 = rank->bfp8 && (part == MODEL_TRANSFORMER || part == MODEL_T5);
    prepared_folder *cache = s ? s->context->cache : NULL;
    char *description = NULL;
    bool known = false;
    if (set && adapter_set_merges(set, l.part)) {
        adapter_set_uses(set, uses);
        l.use_count = set->count;
    }
    if (cache)
        TRY(hash_all(&l, &known));
    flux1_status created = k->create(&l, m, made);
    *blocks = l.made;
    TRY(created);
    if (!known)
        return FLUX1_OK;
    int64_t here = rank->rank - team_ranks(s->context).begin; /* own devices are those of this process's ranks */
    ops_device *d = s->device->own ? s->device->own[here] : s->device->device;
    TRY(describe(s, m, what, rank, d, &description, rank->err));
    flux1_status st = adopt_blocks(cache, d, &l, description, &s->adopted[what][rank->rank]);
    free(description);
    return st;
}

static flux1_status attach(const adapter_set *set, built what, mesh *rank, block_list *blocks)
{
    adapter_use uses[ADAPTERS_MAX];
    adapter_set_uses(set, uses);
    return adapters_attach(blocks, rank, component_part(KINDS[what].part), uses, set->count);
}

/* On a rank of the session, or in a dry run. */
static flux1_status built_model(session *s, const flux1_model *m, const adapter_set *set, built what, mesh *rank,
                                void **made, block_list **blocks)
{
    flux1_status st = build(s, m, set, what, rank, made, blocks);
    if (st == FLUX1_OK)
        return st;
    KINDS[what].destroy(*made);
    *made = NULL;
    *blocks = NULL; /* they were the model's */
    return st;
}

static flux1_status session_own(session *s, const flux1_model *m, built what, mesh *rank, void **out)
{
    const int r = rank->rank;
    if (!s->rank[what][r]) {
        void *made = NULL;
        TRY(built_model(s, m, &s->adapters, what, rank, &made, &s->made[what][r]));
        s->rank[what][r] = made;
        s->attached[what][r] = 0;
    }
    if (s->attached[what][r] != s->adapted) {
        TRY(attach(&s->adapters, what, rank, s->made[what][r]));
        s->attached[what][r] = s->adapted;
    }
    for (int k = 0; k < BUILTS; k++)
        if (s->made[k][r])
            block_list_idle(s->made[k][r], k != (int)what);
    *out = s->rank[what][r];
    return FLUX1_OK;
}

flux1_status session_model(session *s, const flux1_model *m, const adapter_set *dry, built what, mesh *rank, void **out)
{
    if (s)
        return session_own(s, m, what, rank, out);
    block_list *blocks = NULL;
    TRY(built_model(NULL, m, dry, what, rank, out, &blocks));
    flux1_status st = dry ? attach(dry, what, rank, blocks) : FLUX1_OK;
    if (st != FLUX1_OK) {
        KINDS[what].destroy(*out);
        *out = NULL;
    }
    return st;
}

void session_model_done(const session *s, built what, void *model)
{
    if (!s)
        KINDS[what].destroy(model);
}

/* ---- sessions ---- */

static void drop_model(session *s, int k, int ranks)
{
    for (int r = 0; s->rank[k] && r < ranks; r++) {
        KINDS[k].destroy(s->rank[k][r]);
        s->rank[k][r] = NULL;
        s->made[k][r] = NULL;
        adopted_end(&s->adopted[k][r]);
    }
}

static void drop_models(session *s, int ranks)
{
    for (int k = 0; k < BUILTS; k++)
        drop_model(s, k, ranks);
    s->model = 0;
    s->recorded = (step_shape){0};
}

static void session_free(session *s, int ranks)
{
    drop_models(s, ranks);
    mesh_close(s->mesh);
    adapter_set_change(&s->adapters, NULL);
    for (int k = 0; k < BUILTS; k++) {
        free(s->rank[k]);
        free(s->made[k]);
        free(s->attached[k]);
        free(s->adopted[k]);
    }
    free(s);
}

static flux1_status session_open(flux1_context *c, const mesh_device *d, uint64_t number, session **out)
{
    int ranks = mesh_ranks(context_mesh(c, d));
    session *s = calloc(1, sizeof *s);
    if (!s)
        return error_oom(&c->error, sizeof *s, "a session");
    s->context = c;
    s->number = number;
    s->device = d;
    for (int k = 0; k < BUILTS; k++) {
        s->adopted[k] = calloc((size_t)ranks, sizeof *s->adopted[k]);
        s->made[k] = calloc((size_t)ranks, sizeof *s->made[k]);
        s->attached[k] = calloc((size_t)ranks, sizeof *s->attached[k]);
        if (s->adopted[k] && s->made[k] && s->attached[k])
            s->rank[k] = calloc((size_t)ranks, sizeof *s->rank[k]);
        if (!s->rank[k]) {
            session_free(s, ranks);
            return error_oom(&c->error, 0, "a session");
        }
    }
    flux1_status st = mesh_open(context_mesh(c, d), d, &s->mesh, &c->error);
    if (st != FLUX1_OK) {
        session_free(s, ranks);
        return st;
    }
    sessions_tell_notes(c, d->kind); /* of libraries that are missing, where it is known by now: threads load them */
    s->next = c->sessions;
    c->sessions = s;
    *out = s;
    return FLUX1_OK;
}

flux1_status session_find(flux1_context *c, const mesh_device *d, uint64_t number, session **out)
{
    for (session *s = c->sessions; s; s = s->next)
        if (s->number == number) {
            *out = s;
            return FLUX1_OK;
        }
    return session_open(c, d, number, out);
}

/* Detached where they are attached: their files may be closed now. A part that others were merged into, or will be, is
 * built again. Its blocks that are not changed by them are found as they were prepared (kept.h). */
static void use_adapters(session *s, int ranks, const adapter_set *adapters)
{
    const adapter_set none = {0}, *now = adapters ? adapters : &none;
    if (adapter_set_same(&s->adapters, now))
        return;
    for (int k = 0; k < BUILTS; k++) {
        if (!adapter_set_merges_same(&s->adapters, now, component_part(KINDS[k].part)))
            drop_model(s, k, ranks);
        for (int r = 0; r < ranks; r++)
            if (s->made[k][r])
                block_list_plain(s->made[k][r]);
    }
    adapter_set_change(&s->adapters, adapters);
    s->adapted++;
}

void session_use(flux1_context *c, session *s, const flux1_model *m, const adapter_set *adapters)
{
    if (s->model != m->source.number)
        drop_models(s, mesh_ranks(context_mesh(c, s->device)));
    s->model = m->source.number;
    use_adapters(s, mesh_ranks(context_mesh(c, s->device)), adapters);
}

static flux1_status rest_body(void *arg, mesh *m)
{
    (void)arg;
    ops_release(m->o, 0);
    ops_rest(m->o);
    return FLUX1_OK;
}

flux1_status session_rest(session *s, flux1_error *err) { return mesh_run(s->mesh, rest_body, NULL, err); }

/* ---- orders ---- */

flux1_status session_describe_take(parcel *p, take_order *t, flux1_error *err)
{
    model_source *m = &t->source;
    int weights = (int)m->weights;
    TRY(parcel_bool(p, "a session's device", &t->text, err));
    TRY(parcel_u64(p, "a model's number", &m->number, err));
    TRY(parcel_text(p, "a model's path", m->model, sizeof m->model, err));
    for (int c = 0; c < COMPONENTS; c++)
        TRY(parcel_text(p, "the path of a model's part", m->part[c], sizeof m->part[c], err));
    TRY(parcel_text(p, "the path of a model's tokenizers", m->tokenizers, sizeof m->tokenizers, err));
    TRY(parcel_text(p, "a model's file variant", m->variant, sizeof m->variant, err));
    TRY(parcel_bool(p, "a model's kind", &m->synthetic, err));
    TRY(parcel_int(p, "a model's dtype", 0, DTYPE_COUNT - 1, &weights, err));
    m->weights = (dtype)weights;
    TRY(parcel_u64(p, "a model's sizes", &m->sizes, err));
    TRY(parcel_u64(p, "a model's content", &t->content, err));
    TRY(parcel_int(p, "the number of adapters", 0, ADAPTERS_MAX, &t->adapters, err));
    for (int i = 0; i < t->adapters; i++) {
        TRY(parcel_u64(p, "an adapter's number", &t->adapter[i].number, err));
        TRY(parcel_u64(p, "an adapter's content", &t->adapter[i].content, err));
        TRY(parcel_float(p, "an adapter's scale", &t->adapter[i].scale, err));
        TRY(parcel_text(p, "an adapter's path", t->adapter[i].path, sizeof t->adapter[i].path, err));
    }
    return FLUX1_OK;
}

flux1_status session_describe_reserve(parcel *p, int ranks, size_t **arena_bytes, size_t **weights, flux1_error *err)
{
    TRY(parcel_bulk(p, "the arenas' sizes", ranks, sizeof **arena_bytes, (void **)arena_bytes, err));
    return parcel_bulk(p, "the weights' shares of memory", ranks, sizeof **weights, (void **)weights, err);
}

static flux1_status list_adapters(const adapter_set *set, take_order *t, flux1_error *err)
{
    t->adapters = set ? set->count : 0;
    for (int i = 0; i < t->adapters; i++) {
        const struct flux1_adapter *a = set->adapter[i];
        t->adapter[i].number = a->number;
        t->adapter[i].content = store_sample(a->file->store);
        t->adapter[i].scale = set->scale[i];
        if (strlen(a->path) >= FOLDER_PATH_MAX)
            return error_set(err, FLUX1_ERR_LIMIT, "%s: a path of more than %d bytes", a->path, FOLDER_PATH_MAX - 1);
        memcpy(t->adapter[i].path, a->path, strlen(a->path) + 1);
    }
    return FLUX1_OK;
}

/* found: the session, NULL for a new one. */
static flux1_status order_take(flux1_context *c, const mesh_device *d, uint64_t number, const session *found,
                               const flux1_model *m, const adapter_set *adapters)
{
    parcel *p = c->order;
    order what = ORDER_TAKE;
    flux1_status st;
    if (c->processes && !team_leads(c))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "this process follows another: it computes by flux1_context_follow alone");
    if (!d->processes)
        return FLUX1_OK;
    take_order *t = calloc(1, sizeof *t); /* with paths: too large for a small stack */
    if (!t)
        return error_oom(&c->error, sizeof *t, "an order");
    t->text = d != &c->device;
    t->source = m->source;
    t->content = found && found->model == m->source.number ? 0 : content_of(m);
    TRY_CLEANUP(list_adapters(adapters, t, &c->error));
    parcel_begin(p);
    TRY_CLEANUP(team_describe(p, &what, &number, &c->error));
    TRY_CLEANUP(session_describe_take(p, t, &c->error));
    st = team_send(c, p);
cleanup:
    free(t);
    return st;
}

/* The end of an order that is no body: how it went here is `st`. */
static flux1_status end_of_order(flux1_context *c, const mesh_device *d, flux1_status st)
{
    return d->processes ? team_agree(c, st) : st;
}

flux1_status session_take(flux1_context *c, const mesh_device *d, const flux1_model *m, const adapter_set *adapters,
                          session **out)
{
    session *found = NULL;
    *out = NULL;
    for (session *s = c->sessions; s; s = s->next)
        if (!s->busy && s->device == d && (!found || s->model == m->source.number))
            found = s;
    uint64_t number = found ? found->number : ++c->last_session;
    TRY(order_take(c, d, number, found, m, adapters));
    TRY(end_of_order(c, d, session_find(c, d, number, &found)));
    session_use(c, found, m, adapters);
    found->busy = true;
    mesh_profile(found->mesh, c->profile);
    *out = found;
    return FLUX1_OK;
}

static flux1_status order_reserve(flux1_context *c, session *s, const size_t *arena_bytes, const size_t *weights)
{
    parcel *p = c->order;
    order what = ORDER_RESERVE;
    size_t *bytes = (size_t *)arena_bytes, *shares = (size_t *)weights; /* they are read only */
    if (!s->device->processes)
        return FLUX1_OK;
    parcel_begin(p);
    TRY(team_describe(p, &what, &s->number, &c->error));
    TRY(session_describe_reserve(p, mesh_ranks(&c->mesh), &bytes, &shares, &c->error));
    return team_send(c, p);
}

flux1_status session_reserve(flux1_context *c, session *s, const size_t *arena_bytes, const size_t *weights)
{
    TRY(order_reserve(c, s, arena_bytes, weights));
    mesh_weights_budget(s->mesh, weights);
    return end_of_order(c, s->device, mesh_reserve(s->mesh, arena_bytes, &c->error));
}

static flux1_status order_give(flux1_context *c, session *s)
{
    parcel *p = c->order;
    order what = ORDER_GIVE;
    if (!s->device->processes)
        return FLUX1_OK;
    parcel_begin(p);
    TRY(team_describe(p, &what, &s->number, &c->error));
    return team_send(c, p);
}

void sessions_tell_notes(flux1_context *c, const ops_device_kind *devices)
{
    ops_note note;
    while (c->log && devices->next_note && devices->next_note(&note))
        c->log(c->log_user, note.warning ? FLUX1_LOG_WARNING : FLUX1_LOG_INFO, note.text);
}

void sessions_tell_cache(flux1_context *c)
{
    for (char *warning; c->cache && (warning = prepared_next_warning(c->cache)); free(warning))
        if (c->log)
            c->log(c->log_user, FLUX1_LOG_WARNING, warning);
}

/* What can fail here is told by the next run; the message of what failed before stays. */
void session_give(flux1_context *c, session *s)
{
    if (!s)
        return;
    const flux1_error before = c->error;
    flux1_error ignored = {0};
    mesh_profile(s->mesh, NULL);
    if (order_give(c, s) == FLUX1_OK)
        session_rest(s, &ignored);
    c->error = before;
    s->busy = false;
    sessions_tell_cache(c); /* on the caller's thread, which ranks are not */
    sessions_tell_notes(c, s->device->kind);
}

uint64_t session_recording(session *s, const step_shape *shape)
{
    const step_shape *old = &s->recorded;
    bool same = old->batch == shape->batch && old->text_rows == shape->text_rows && old->grid_h == shape->grid_h &&
                old->grid_w == shape->grid_w && old->steps == shape->steps && old->passes == shape->passes &&
                old->scale == shape->scale && old->step_cache == shape->step_cache && old->adapters == shape->adapters;
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
        session_free(s, mesh_ranks(context_mesh(c, s->device)));
    }
    c->sessions = NULL;
}
