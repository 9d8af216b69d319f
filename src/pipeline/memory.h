/* Memory of the host and of devices: what plans need, what there is, and what would need less. */
#ifndef FLUX1_PIPELINE_MEMORY_H
#define FLUX1_PIPELINE_MEMORY_H

#include "pipeline/request.h"
#include "pipeline/stages.h"

/* What stages take of the memory that their activations lie in: the device's own, all ranks together; or a host's, the
 * ranks there together. */
typedef struct memory_need {
    size_t program;  /* what the process had before, where max_memory is all of it */
    size_t opened;   /* by opening the model: its vocabularies and names */
    size_t latents;  /* that are being read from a file */
    size_t samplers; /* that are open on the context, beside the model's prepared weights */
    size_t activations;
    size_t picture;  /* decoded, on the host of the first process */
    size_t dump;     /* what a run keeps for its dump, there too */
    size_t texts;    /* the prompts of the run, encoded, there too */
    size_t scratch;  /* of the host's threads */
    size_t held;     /* weights in the backend's own form; none where they lie in files of the cache */
    size_t form;     /* of them, a block's at most. In memory_total by `held` */
    size_t mapped;   /* of the mapped files, and those of the cache, what must be in memory at the same time */
    size_t all;      /* of them, what is read at all: in memory while there is room. Not in memory_total */
    size_t in_steps; /* of `all`, what steps read: it stays from one to the next as far as there is room */
    size_t kept;     /* prompts of earlier runs, encoded, on the host of the first process. They give way, so they are
                        not in memory_total */
    bool device;     /* of a device's own memory, whose weights are streamed where they do not fit */
    bool uncached;   /* the device could have prepared weights in files, and there is no folder for them */
    bool bf16;       /* float32 is computed with, and the device has bf16 */
    int process;     /* the first one on that host; 0 on this process's own, if it leads */
} memory_need;

/* Of a plan, and another one (may be NULL) at the same time: on the host that has least to spare. */
memory_need memory_of(const flux1_context *c, const mesh_device *d, const stage_plan *p, const stage_plan *beside);

uint64_t memory_total(memory_need n);

/* What will be in memory at the most: with all mapped weights where the limit leaves room for them; otherwise with two
 * blocks, and as many of those that steps read as there is room for. */
uint64_t memory_peak(const flux1_context *c, const memory_need *n);

/* Of the limit, what prepared weights may take that the stage does not use, and stay for the next one. */
uint64_t memory_for_unused(const flux1_context *c, const memory_need *n);

/* Of the limit, what encoded prompts of earlier runs may take: where all weights stay, what they leave; where weights
 * are streamed, a sixteenth of what is left beside two blocks, as a prompt that is found saves reading all of T5. */
uint64_t memory_for_texts(const flux1_context *c, const memory_need *n);

/* Whether `more` bytes may be there beside all of that: what a larger stage has touched of the arena. */
bool memory_has_room(const flux1_context *c, const memory_need *n, uint64_t more);

/* Whether mapped weights are read again and again, as the limit leaves no room for all of them. */
bool memory_streams(const flux1_context *c, const memory_need *n);

/* Whether steps read some of them again. Where all that steps read fits beside the rest, it stays from the first step
 * on, and each picture reads the others once. */
bool memory_steps_stream(const flux1_context *c, const memory_need *n);

/* What it is compared with: of the device's own memory, or of that host. */
uint64_t memory_limit(const flux1_context *c, const memory_need *n);

/* Bytes that are left of this device's limit beside that plan (NULL: none), on the host that has least to spare. */
size_t memory_beside(const flux1_context *c, const mesh_device *d, const stage_plan *taken);

/* session_reserve with the plan's arenas (or `reserve`, which are no smaller, where that fits), and as many of its
 * mapped weights as fit beside it and another plan (NULL: none) of which all weights stay. A host device that keeps
 * prepared weights is told to keep no more than fits as well, and so is the context's memory of encoded prompts. */
flux1_status memory_reserve(flux1_context *c, session *s, const stage_plan *p, const stage_plan *beside,
                            const size_t *reserve);

/* Begins to count what a sampler has (h->session, plan and beside are set), until memory_let_go. */
void memory_hold_on(flux1_context *c, memory_hold *h, const flux1_model *m);
void memory_let_go(flux1_context *c, memory_hold *h);

/* What a new sampler needs, beside those that are open: one decodes at a time, be it this one or one of them. */
memory_need memory_of_sampler(const flux1_context *c, const stage_plan *denoise, const stage_plan *decode);

/* Before a sampler goes on: where others have taken its room for mapped weights, theirs leave now; and if none is open
 * any more, it gets it back. */
flux1_status memory_hold_again(flux1_context *c, memory_hold *h);
void memory_hold_rest(memory_hold *h); /* behind its step: its pages leave, where others want the room */

/* Logs what a stage will take, where not all of its weights can stay in memory. */
void memory_tell(flux1_context *c, const mesh_device *d, const char *doing, const stage_plan *p,
                 const stage_plan *beside);

bool memory_fits(const flux1_context *c, memory_need n);

/* What would make a request smaller. */
typedef enum memory_hint {
    HINT_SIZE = 1,     /* a smaller picture */
    HINT_TILING = 2,   /* decoding in tiles */
    HINT_BATCH = 4,    /* fewer pictures at a time */
    HINT_PREVIEWS = 8, /* no previews */
    HINT_STEPS = 16,   /* fewer steps */
    HINT_TEXT = 32,    /* a smaller max_sequence_length */
    HINT_PROMPTS = 64, /* fewer prompts in one call */
    HINT_DTYPE = 128,  /* bf16: it and the next one are given by the need itself, with HINT_OPTIONS on a host */
    HINT_CACHE = 256,
    HINT_OPTIONS = 512 /* nobody says which options would do (wish.h) */
} memory_hint;

/* FLUX1_ERR_LIMIT if it does not fit: "<doing> takes …", what takes it, which limit it is, what would take less. */
flux1_status memory_check(flux1_context *c, memory_need n, unsigned hints, const char *doing, ...)
    __attribute__((format(printf, 4, 5)));

#endif
