/* Memory of the host and of devices: what plans need, what there is, and what would need less. */
#ifndef FLUX1_PIPELINE_MEMORY_H
#define FLUX1_PIPELINE_MEMORY_H

#include "pipeline/request.h"
#include "pipeline/stages.h"

/* What a stage needs of the memory that its activations lie in: the device's own, or the host's. */
typedef struct memory_need {
    size_t activations; /* of all ranks */
    size_t weights;     /* prepared ones, and the pages of mapped files that must be resident at the same time */
    bool device;        /* the memory is a device's own */
} memory_need;

memory_need memory_of(const mesh_device *d, const stage_plan *p);

/* Both at the same time, in the same memory. */
memory_need memory_sum(memory_need a, memory_need b);

/* Bytes that are left of this device's limit after `taken`. */
size_t memory_beside(const flux1_context *c, const mesh_device *d, memory_need taken);

bool memory_fits(const flux1_context *c, memory_need n);

/* What would make a request smaller. */
typedef enum memory_hint {
    HINT_SIZE = 1,     /* a smaller picture */
    HINT_TILING = 2,   /* decoding in tiles */
    HINT_BATCH = 4,    /* fewer pictures at a time */
    HINT_PREVIEWS = 8, /* no previews */
    HINT_STEPS = 16,   /* fewer steps */
    HINT_TEXT = 32,    /* a smaller max_sequence_length */
    HINT_DTYPE = 64    /* bf16 */
} memory_hint;

/* FLUX1_ERR_LIMIT "<doing> takes …" if it does not fit; hints: memory_hint bits for the message. */
flux1_status memory_check(flux1_context *c, memory_need n, unsigned hints, const char *doing, ...)
    __attribute__((format(printf, 4, 5)));

#endif
