/* What the stages of a picture take on a machine. There is no other model of FLUX here: the stages are those that run
 * (pipeline/stages.h), and a clock listens to their dry runs (cost.h). Weights are taken to be where they are used, and
 * a picture to be decoded whole. */
#ifndef FLUX1_TOOLS_ESTIMATE_H
#define FLUX1_TOOLS_ESTIMATE_H

#include "pipeline/text_to_image.h"
#include "tools/timeline.h"

/* What is told of a picture, in order: enum, name. */
#define ESTIMATE_MAP(X)       \
    X(CLIP, "clip")           \
    X(T5, "t5")               \
    X(OPENING, "dit opening") \
    X(STEP, "dit step")       \
    X(DECODE, "vae decode")

typedef enum estimate_index {
#define ESTIMATE_ENUM(id, name) ESTIMATE_##id,
    ESTIMATE_MAP(ESTIMATE_ENUM)
#undef ESTIMATE_ENUM
        ESTIMATE_PARTS
} estimate_index;
extern const char *const estimate_names[ESTIMATE_PARTS];

typedef struct estimate_part {
    int64_t times;
    cost cost;                  /* of one time, on the slowest rank */
    double memory;              /* bytes of a rank at its peak */
    double kept;                /* of those, what a card keeps behind the part; 0 elsewhere */
    double flops, moved_by_all; /* of one time, all ranks: work, bytes */
} estimate_part;

/* What is estimated; all pointers are borrowed. */
typedef struct estimate_job {
    flux1_context *c; /* its messages, threads and cancelling */
    const flux1_model *model;
    const request *r;
    const flux1_text *text; /* token ids of any prompt of the request's length */
    int64_t batch;          /* pictures denoised together */
    const machine *machine;
    machine_dtype dtype;
} estimate_job;

typedef struct estimator {
    estimate_job job;
    flux1_context *shadow; /* a context of the machine, which plans and never computes */
    machine_device device;
} estimator;

flux1_status estimator_open(estimator *e, const estimate_job *job); /* e stays where it is until it is closed */
void estimator_close(estimator *e);                                 /* harmless when zeroed */

/* CLIP's and T5's parts on a mesh, and all others. */
flux1_status estimator_texts(estimator *e, const mesh_config *shape, estimate_part part[ESTIMATE_PARTS]);
flux1_status estimator_pictures(estimator *e, const mesh_config *shape, estimate_part part[ESTIMATE_PARTS]);

/* Bytes that a rank needs for pictures one behind the other: of a card what all parts keep, and the most that one of
 * them has beside. */
double estimate_memory(const estimate_part part[ESTIMATE_PARTS]);

/* A step of rank 0 over time, and its seconds. */
flux1_status estimator_draw(estimator *e, const mesh_config *shape, timeline *t, double *seconds);

#endif
