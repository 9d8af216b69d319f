/* Sessions of a context: ranks on one of its devices, with the models built there and the last recorded step. A stage
 * takes one, runs on it and gives it back. It stays open for the next stage and the next request, until the context is
 * destroyed. A context has as many sessions as were ever taken at the same time. */
#ifndef FLUX1_PIPELINE_SESSION_H
#define FLUX1_PIPELINE_SESSION_H

#include "mesh/mesh.h"
#include "pipeline/adapter_set.h"
#include "pipeline/adopt.h"
#include "pipeline/folder.h"
#include "pipeline/parcel.h"

/* One row per model that is built on ranks: name, component, type. */
#define BUILT_MAP(X)                       \
    X(CLIP, COMPONENT_CLIP, clip)          \
    X(T5, COMPONENT_T5, t5)                \
    X(DIT, COMPONENT_DIT, dit_weights)     \
    X(DECODER, COMPONENT_VAE, vae_decoder) \
    X(ENCODER, COMPONENT_VAE, vae_encoder)

typedef enum built {
#define BUILT_ENUM(name, part, type) BUILT_##name,
    BUILT_MAP(BUILT_ENUM)
#undef BUILT_ENUM
        BUILTS
} built;

/* What the calls of a recorded step depend on. Equal shapes on one session make the same calls on the same memory. */
typedef struct step_shape {
    int64_t batch, text_rows, grid_h, grid_w, steps, passes;
    float scale, step_cache;
    uint64_t adapters; /* session.adapted */
} step_shape;

struct flux1_context;

typedef struct session {
    const struct flux1_context *context; /* its own */
    uint64_t number;                     /* in its context; the same in all processes */
    mesh_session *mesh;
    const mesh_device *device;
    bool busy;
    uint64_t touched;           /* bytes of the host's memory that its last stage may have left written */
    uint64_t model;             /* flux1_model.number of the model whose parts are built; 0: none */
    void **rank[BUILTS];        /* [ranks] each, NULL where not built, or another process's */
    block_list **made[BUILTS];  /* [ranks] each: their blocks */
    adapter_set adapters;       /* of the request that it was taken for, held */
    uint64_t adapted;           /* how often they were changed */
    uint64_t *attached[BUILTS]; /* [ranks] each: of which change its adapters are */
    adopted *adopted[BUILTS];   /* [ranks] each: what these use of the cache on disk */
    step_shape recorded;
    uint64_t recording; /* number of the recording of that shape */
    struct session *next;
} session;

/* ---- in the process that leads, or the only one ---- */

/* A free session on `d` (one of the context's two devices), preferably one that has this model already; opened if there
 * is none. Parts of another model are dropped, adapters that are not the request's (NULL: it has none) detached.
 * FLUX1_ERR_ARGUMENT in a process that follows. */
flux1_status session_take(struct flux1_context *c, const mesh_device *d, const struct flux1_model *m,
                          const adapter_set *adapters, session **out);

/* Gives each rank of the session an empty arena of at least arena_bytes[rank]: mesh_reserve; and of mapped weights,
 * weights[rank] bytes that may stay in memory: mesh_weights_budget. */
flux1_status session_reserve(struct flux1_context *c, session *s, const size_t *arena_bytes, const size_t *weights);

/* Gives a session back. Its arena is released; models stay built. Logs what went wrong with the cache on disk, and the
 * device's notes. NULL is fine. */
void session_give(struct flux1_context *c, session *s);

/* The number of a step of this shape on this session: the one it had before if the last shape was the same. */
uint64_t session_recording(session *s, const step_shape *shape);

/* ---- in each process ---- */

/* The session of this number, opened on `d` if there is none yet. */
flux1_status session_find(struct flux1_context *c, const mesh_device *d, uint64_t number, session **out);

/* From now on the session has parts of this model only, with these adapters (NULL: none). */
void session_use(struct flux1_context *c, session *s, const struct flux1_model *m, const adapter_set *adapters);

/* Releases activations of all ranks: mesh_run. */
flux1_status session_rest(session *s, flux1_error *err);

/* Logs what went wrong with the cache on disk that nobody has heard. */
void sessions_tell_cache(struct flux1_context *c);

/* Logs the notes of this kind of device that nobody has heard. */
void sessions_tell_notes(struct flux1_context *c, const struct ops_device_kind *devices);

void sessions_close(struct flux1_context *c);

/* What an order to take a session for a model says, beside the session (team.h). */
typedef struct take_order {
    bool text; /* on the encoders' device */
    model_source source;
    uint64_t content; /* content_of's; 0: the session has the model already */
    int adapters;
    struct {
        uint64_t number, content; /* in the process that it comes from; store_sample's */
        float scale;
        char path[FOLDER_PATH_MAX];
    } adapter[ADAPTERS_MAX];
} take_order;
flux1_status session_describe_take(parcel *p, take_order *t, flux1_error *err);
/* [ranks] each */
flux1_status session_describe_reserve(parcel *p, int ranks, size_t **arena_bytes, size_t **weights, flux1_error *err);

/* The model `what` of this rank, built on the session on first use, with the session's adapters. With a NULL session (a
 * dry run) it is built for this call, with `dry` (NULL: none), and session_model_done destroys it. */
flux1_status session_model(session *s, const struct flux1_model *m, const adapter_set *dry, built what, mesh *rank,
                           void **out);
void session_model_done(const session *s, built what, void *model); /* NULL is fine */

#endif
