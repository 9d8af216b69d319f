/* A request with every default filled in and every value checked. */
#ifndef FLUX1_PIPELINE_REQUEST_H
#define FLUX1_PIPELINE_REQUEST_H

#include "pipeline/adapter_set.h"
#include "pipeline/bounds.h"
#include "pipeline/context.h"

typedef struct request {
    const char *prompt;
    int64_t width, height; /* multiples of the model's unit */
    int64_t steps;
    float guidance;
    uint64_t seed;
    flux1_rng rng;
    int rng_threads;              /* of a GPU, with FLUX1_RNG_CUDA */
    const flux1_latents *latents; /* in place of noise, checked; NULL: none */
    int64_t count;
    int length;        /* T5 tokens */
    int preview_every; /* steps; 0: no previews */
    flux1_preview_kind preview_kind;
    flux1_tiling tiling;
    const char *negative_prompt; /* NULL: none */
    float true_cfg_scale;
    int passes;                             /* 2 with true CFG, otherwise 1 */
    int64_t batch;                          /* 0: chosen by the plan */
    float step_cache;                       /* threshold; 0: none */
    const flux1_text *text, *negative_text; /* given by the caller, or NULL */
    adapter_set adapters;                   /* borrowed from the caller */
    const char *dump, *profile;
    flux1_progress_fn *progress;
    void *progress_user;
    flux1_image_fn *image;
    void *image_user;
    flux1_undecoded_fn *undecoded;
    flux1_cancel_token *cancel;
} request;

/* The caller's params, those of an older version too; FLUX1_ERR_ARGUMENT for NULL, and where size is not set. */
flux1_status request_params(flux1_context *c, const flux1_generate_params *params, flux1_generate_params *out);

/* Of p, as request_params gives it, a call that is not flux1_generate keeps what it uses; the rest becomes the
 * defaults, so that no call refuses a member, or warns of it, that it does not use. */
void request_only_text(flux1_generate_params *p);    /* flux1_encode_text */
void request_only_sampler(flux1_generate_params *p); /* flux1_sampler_create */
void request_only_decode(flux1_generate_params *p);  /* flux1_decode */

/* FLUX1_ERR_ARGUMENT or FLUX1_ERR_LIMIT. Roundings and ignored values are logged. Strings are borrowed from p. */
flux1_status request_make(flux1_context *c, const flux1_model *m, const flux1_generate_params *p, request *out);

/* Checks these adapters, and gives them to the request in place of its own. */
flux1_status request_adapters(flux1_context *c, const flux1_model *m, const flux1_adapter_use *uses, int count,
                              request *r);

/* Of that many pictures, how many are computed together where memory allows it. */
int64_t request_batch(const flux1_context *c, const flux1_model *m, const request *r, int64_t pictures);

/* Logs a warning where the size is far outside what the model was trained for. */
void request_warn_size(flux1_context *c, const flux1_model *m, const request *r);

static inline int64_t request_grid_h(const request *r, const flux1_model *m)
{
    return r->height / folder_size_multiple(m);
}
static inline int64_t request_grid_w(const request *r, const flux1_model *m)
{
    return r->width / folder_size_multiple(m);
}

#endif
