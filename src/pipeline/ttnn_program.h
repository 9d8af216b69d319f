/* What the worker is given of a part of the model: the calls of its stages on all ranks, and where each weight comes
 * from. */
#ifndef FLUX1_PIPELINE_TTNN_PROGRAM_H
#define FLUX1_PIPELINE_TTNN_PROGRAM_H

#include "mesh/script_play.h"
#include "pipeline/recording.h"

/* Parts whose stages share activations and weights: name, first stage, number of stages. */
#define TTNN_PARTS(X)        \
    X(TEXT_CLIP, CLIP, 1)    \
    X(TEXT_T5, T5, 1)        \
    X(DENOISER, DIT_OPEN, 3) \
    X(DECODER, VAE, 1)

typedef enum ttnn_part_id {
#define TTNN_PART_ENUM(id, first, stages) TTNN_##id,
    TTNN_PARTS(TTNN_PART_ENUM)
#undef TTNN_PART_ENUM
        TTNN_PART_COUNT
} ttnn_part_id;

recording_stage ttnn_first_stage(ttnn_part_id part);
int ttnn_stages(ttnn_part_id part);

/* A weight's recipe on a rank, and its bias's. */
typedef struct ttnn_recipe {
    bool there, has_bias;
    weight_recipe w, bias;
} ttnn_recipe;

/* Zeroed, then made; ttnn_program_free ends it. */
typedef struct ttnn_program {
    bool there, from_file;
    uint64_t model;                       /* its number */
    int64_t width, height, steps, length; /* that it was recorded for */
    int passes;                           /* of the denoiser, and their scale */
    float scale;
    recording r;          /* other parts' stages are empty */
    adapter_set adapters; /* those that are in its weights, held */
    adapter_merges merges;
    int ranks;
    size_t weights;      /* numbers are below it */
    ttnn_recipe *recipe; /* [ranks][weights] */
} ttnn_program;

void ttnn_program_free(ttnn_program *p);

/* Records the part for a request's picture on a mesh; *p is made anew unless it is of the same already. The request's
 * adapters are merged into the weights; the lines do not know of them. given (may be NULL): a recording from a file,
 * whose lines are moved here instead, once. Either way the calls are checked one by one. *made: it was made anew.
 * FLUX1_ERR_FORMAT and FLUX1_ERR_MODEL as recording_play. */
flux1_status ttnn_program_make(flux1_context *c, const flux1_model *m, const request *r, const mesh_config *shape,
                               recording *given, ttnn_part_id part, ttnn_program *p, bool *made);

/* The same of a recording's part, which is moved here, with what it asks for in place of a model. */
flux1_status ttnn_program_take(flux1_context *c, recording *given, ttnn_part_id part, const script_sources *from,
                               ttnn_program *p);

/* Of the adapters in its weights and their scales: equal numbers, equal weights of a model. 0: none. */
uint64_t ttnn_program_edition(const ttnn_program *p);

/* A tensor of the part, with these adapters. */
flux1_status ttnn_program_tensor(ttnn_program *p, const flux1_model *m, ttnn_part_id part, const char *name,
                                 const store_tensor **out, flux1_error *err);

/* How the ranks' recipes of a weight, or of its bias, differ. */
script_vary ttnn_program_varies(const ttnn_program *p, int64_t w, bool bias);

/* The recipe of a rank; NULL: that rank has no such weight, or no bias. */
const weight_recipe *ttnn_program_recipe(const ttnn_program *p, int rank, int64_t w, bool bias);

#endif
