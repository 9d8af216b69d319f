/* Internals of a context: its devices, sessions, limits and last message. */
#ifndef FLUX1_PIPELINE_CONTEXT_H
#define FLUX1_PIPELINE_CONTEXT_H

#include "mesh/mesh.h"
#include "pipeline/folder.h"
#include "weights/prepared_folder.h"

struct profile;
struct session;
struct processes;
struct parcel;
struct text_cache;
struct ttnn;
struct stage_plan;

/* What a sampler has in the host's memory between its calls. */
typedef struct memory_hold {
    uint64_t model;  /* its number */
    size_t decoding; /* what its decoder takes beside it, while it decodes */
    struct session *session;
    const struct stage_plan *plan, *beside; /* of its denoiser and decoder */
    bool lowered;                           /* it has got less room for mapped weights than when it was opened */
    struct memory_hold *next;
} memory_hold;

struct flux1_context {
    mesh_config mesh;
    mesh_device device;
    /* of the encoders, if has_text_device. On the "host" they are on the first rank's alone: one rank, in this process
     */
    mesh_config text_mesh;
    mesh_device text_device;
    bool has_text_device;
    uint64_t max_memory;        /* bytes of the host's */
    uint64_t program;           /* of max_memory, what this process had when the context was created; 0: not counted */
    uint64_t opened;            /* bytes that the model in use took when it was opened, since the context is there */
    uint64_t dump;              /* bytes that the run in progress keeps for its dump */
    uint64_t run_texts;         /* bytes of the prompts that it encodes or has found in `texts` */
    uint64_t models;            /* number of the newest model when the context was created */
    memory_hold *holds;         /* samplers that are open */
    uint64_t model;             /* number of the model in use */
    ops_kept_limit kept;        /* of prepared weights in the host's memory that nobody uses */
    uint64_t max_device_memory; /* of the devices' own, all ranks together; 0: the device is the host */
    uint64_t asked_memory, asked_device_memory; /* what the caller gave for both; 0: nothing */
    prepared_folder *cache;                     /* of prepared weights on disk; NULL: none */
    bool ready;                                 /* flux1_context_create went well */
    struct session *sessions;
    struct text_cache *texts;    /* encoded prompts; NULL: none yet */
    uint64_t last_session;       /* the number of the session that was opened last */
    struct ttnn *cards;          /* Tenstorrent's, as the device; the others are then the host's. NULL: none */
    struct processes *processes; /* NULL: all ranks are in this one */
    struct parcel *order;        /* the one that is sent or carried out; NULL without processes */
    struct profile *profile;     /* of the call that runs, or NULL */
    void (*log)(void *user, flux1_log_level level, const char *message);
    void *log_user;
    atomic_int cancel;
    flux1_cancel_token *token; /* of the call that runs, or NULL */
    flux1_error error;
};

/* The mesh that computes on d, one of the context's two devices. */
static inline const mesh_config *context_mesh(const flux1_context *c, const mesh_device *d)
{
    return d == &c->text_device ? &c->text_mesh : &c->mesh;
}

/* The model in use from here on. What was there when the context was created is not of its requests (`program` has it
 * where it counts). */
static inline void context_uses(flux1_context *c, const struct flux1_model *m)
{
    c->model = m->source.number;
    c->opened = m->source.number > c->models ? m->opened : 0;
    c->dump = c->run_texts = 0;
}

/* What both devices compute with: as flux1_context_params.dtype, and with a cache folder or without. Sessions that are
 * open keep what they have, so this is for plans; the caller puts both devices back. */
flux1_status context_choose(flux1_context *c, flux1_dtype wanted, bool cache);

void context_log(flux1_context *c, flux1_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What flux1_dtype came to (arithmetic.h); where weights are rounded, that too. */
const char *context_dtype(const flux1_context *c);

/* Says in the picture what makes it: dtype, device and mesh. */
void context_sign(const flux1_context *c, flux1_image *image);

/* Every public call begins here: clears the last message and any cancel that came before. FLUX1_ERR_ARGUMENT for
 * NULL. */
flux1_status context_begin(flux1_context *c);

/* FLUX1_ERR_ARGUMENT "<name> is NULL" if p is NULL. */
flux1_status context_needs(flux1_context *c, const void *p, const char *name);
/* The same of a path, which may not be "" either: "the path of <of> is empty". */
flux1_status context_needs_path(flux1_context *c, const char *path, const char *of);

/* FLUX1_ERR_ARGUMENT if a member that says yes or no is neither 0 nor 1: it was not set, or means something in another
 * version. */
flux1_status context_flag(flux1_context *c, const char *name, int value);

/* FLUX1_ERR_ARGUMENT if flux1_context_create failed and the context was kept for its message alone. */
flux1_status context_computes(flux1_context *c);

bool token_is_cancelled(const flux1_cancel_token *token); /* NULL: never */

/* Until token_leave, cancelling the token (NULL is fine) also cancels this context. FLUX1_ERR_CANCELLED if it is
 * already cancelled; call token_leave in any case. */
flux1_status token_enter(flux1_context *c, flux1_cancel_token *token);
void token_leave(flux1_context *c);

#endif
