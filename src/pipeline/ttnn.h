/* Tenstorrent's cards as the device of a context, "ttnn" or "ttnn:MACHINE": stages that the worker makes run there, by
 * recordings; the others run on the CPU (docs/tenstorrent.md). */
#ifndef FLUX1_PIPELINE_TTNN_H
#define FLUX1_PIPELINE_TTNN_H

#include "base/pool.h"
#include "pipeline/text_to_image.h"
#include "pipeline/ttnn_program.h"
#include "pipeline/ttnn_worker.h"

/* What is done on cards in place of a stage's own way. Called by a table, since the stages do not depend on this module
 * (context.h has the cards of a context). */
typedef struct ttnn_calls {
    /* FLUX1_ERR_UNSUPPORTED for what a request on cards cannot have: a step cache. */
    flux1_status (*check)(flux1_context *c, const request *r);
    /* An encoder's result, [1, hidden] or [1, length, d_model], from the job's ids. */
    flux1_status (*encode)(flux1_context *c, ttnn_part_id part, const text_job *job, tensor *out);
    /* The denoiser's calls of these names; d->batch is 1. One picture is on the cards at a time: FLUX1_ERR_UNSUPPORTED
     * for a step of another. */
    flux1_status (*start)(denoiser *d, const tensor *noise);
    flux1_status (*step)(denoiser *d, int64_t k);
    flux1_status (*latent)(denoiser *d, int64_t expected_of, tensor *latent);
    void (*rest)(denoiser *d);
    /* [h·w, channels] of latents to pixels [height·width, 3]. */
    flux1_status (*decode)(decoder *d, const float *rows, float *pixels);
} ttnn_calls;

typedef struct ttnn {
    const ttnn_calls *call;
    const ttnn_machine *machine;
    mesh_config mesh;
    tile_format weights;
    pool *workers;       /* pack weights for all parts; NULL: nothing was asked of cards yet */
    ttnn_worker *worker; /* NULL: not started; it starts with the first stage that it may make */
    uint64_t model;      /* whose weights it has */
    uint64_t tried;      /* numbers of models that there are not, from the last one down (ttnn_try) */
    recording *given;    /* a recording in place of those that are made; NULL: none */
    ttnn_program part[TTNN_PART_COUNT];
    bool sent[TTNN_PART_COUNT]; /* the worker has it */
    const void *picture;        /* the denoiser whose latent is on the cards; NULL: none */
    float *latent[2];           /* of previews: behind the last step, and the one before; NULL: not there */
} ttnn;

/* A part of a recording on the cards with values that `from` gives in place of a model and a request; its lines are
 * moved away. ttnn_try sends it, and makes `dit.open` of the transformer's part. ttnn_try_step makes what comes behind:
 * step `step` and then the stage with the output, or the part's only stage; out [rows, cols]: the result.
 * ttnn_try_times, of the transformer's part: the median of `times` more of that step. Seconds of each are on the cards,
 * until all devices have come to an end. */
flux1_status ttnn_try(flux1_context *c, recording *r, ttnn_part_id part, const script_sources *from);
flux1_status ttnn_try_step(flux1_context *c, ttnn_part_id part, int64_t step, const script_sources *from, tensor *out);
flux1_status ttnn_try_times(flux1_context *c, ttnn_part_id part, int64_t step, int times, double *seconds);
/* Before what `from` gives is gone. */
void ttnn_try_end(flux1_context *c, ttnn_part_id part);

/* Whether a device is named so. */
bool ttnn_is_device(const char *name);

/* Finds the machine, and its mesh where mesh, sp and tp name none; starts nothing. FLUX1_ERR_UNSUPPORTED. */
flux1_status ttnn_open(flux1_context *c, const flux1_context_params *p);
void ttnn_close(flux1_context *c);

#endif
