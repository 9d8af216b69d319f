/* A request with every default filled in and every value checked. */
#ifndef FLUX1_PIPELINE_REQUEST_H
#define FLUX1_PIPELINE_REQUEST_H

#include "pipeline/adapter_set.h"
#include "pipeline/context.h"

#define SIZE_LIMIT 65536 /* pixels per side: larger values are taken as typing errors */
#define STEPS_LIMIT 10000
#define COUNT_LIMIT 10000

typedef struct request {
    const char *prompt;
    int64_t width, height; /* multiples of the model's unit */
    int64_t steps;
    float guidance;
    uint64_t seed;
    int64_t count;
    int length; /* T5 tokens */
    int preview_every;
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
    flux1_cancel_token *cancel;
} request;

/* FLUX1_ERR_ARGUMENT or FLUX1_ERR_LIMIT. Roundings and ignored values are logged. Strings are borrowed from p. */
flux1_status request_make(flux1_context *c, const flux1_model *m, const flux1_generate_params *p, request *out);

static inline int64_t request_grid_h(const request *r, const flux1_model *m)
{
    return r->height / folder_size_multiple(m);
}
static inline int64_t request_grid_w(const request *r, const flux1_model *m)
{
    return r->width / folder_size_multiple(m);
}

#endif
