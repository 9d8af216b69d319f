/* Memory of the host and of devices: what plans need, what there is, and what would need less. */
#ifndef FLUX1_PIPELINE_MEMORY_H
#define FLUX1_PIPELINE_MEMORY_H

#include "pipeline/request.h"
#include "pipeline/stages.h"

/* What a stage takes of the memory that its activations lie in: the device's own, or the host's. Sums over ranks. */
typedef struct memory_need {
    size_t activations;
    size_t scratch; /* of the host's threads */
    size_t held;    /* weights in the backend's own form */
    size_t mapped;  /* of the mapped files, what must be in memory at the same time */
    bool device;    /* of a device's own memory, whose weights are streamed where they do not fit */
    bool bf16;      /* float32 is computed with, and the device has bf16 */
} memory_need;

memory_need memory_of(const mesh_device *d, const stage_plan *p);

uint64_t memory_total(memory_need n);

/* Both at the same time. */
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
    HINT_DTYPE = 64    /* bf16: given by the need itself */
} memory_hint;

/* FLUX1_ERR_LIMIT if it does not fit: "<doing> takes …", what takes it, which limit it is, what would take less. */
flux1_status memory_check(flux1_context *c, memory_need n, unsigned hints, const char *doing, ...)
    __attribute__((format(printf, 4, 5)));

#endif
