/* Text to image, and its stages one by one: what flux1_generate and the staged calls are made of. */
#ifndef FLUX1_PIPELINE_TEXT_TO_IMAGE_H
#define FLUX1_PIPELINE_TEXT_TO_IMAGE_H

#include "pipeline/dump.h"
#include "pipeline/progress.h"
#include "pipeline/request.h"
#include "pipeline/stages.h"
#include "pipeline/tiles.h"

/* An encoded prompt. */
struct flux1_text {
    const flux1_model *model;
    int32_t *clip_ids, *t5_ids;
    int clip_length, t5_length;
    tensor pooled; /* [1, hidden] */
    tensor embeds; /* [1, length, d_model] */
};

/* Ids only; pooled and embeds are still empty. */
flux1_status text_tokenize(const flux1_model *m, const char *prompt, size_t bytes, int t5_length, flux1_text **out,
                           bool *clip_cut, bool *t5_cut, flux1_error *err);

/* The plans of both encoders, and the encoding itself. */
typedef struct text_plan {
    text_job job;
    stage_plan clip, t5;
} text_plan;
flux1_status text_plan_make(flux1_context *c, const flux1_model *m, flux1_text *text, text_plan *out);
flux1_status text_encode(flux1_context *c, text_plan *plan, flux1_text *text, progress *p);
void text_plan_free(text_plan *plan);

/* The denoiser: planned, then opened, then any number of pictures. */
typedef struct denoiser {
    flux1_context *context;
    const flux1_model *model;
    dit_job job;
    stage_plan plan;
    mesh_session *session;
    float *sigmas; /* [steps + 1] */
    int64_t tokens, channels;
} denoiser;
flux1_status denoiser_plan(flux1_context *c, const flux1_model *m, const request *r, const flux1_text *text,
                           denoiser *out);
flux1_status denoiser_open(denoiser *d, progress *p); /* the text must be encoded by now */
flux1_status denoiser_start(denoiser *d, const tensor *noise);
flux1_status denoiser_step(denoiser *d, int64_t k); /* submits and waits */
/* Where steps run ahead, step k + 1 may be submitted before step k is waited for. */
bool denoiser_runs_ahead(const denoiser *d);
flux1_status denoiser_submit(denoiser *d, int64_t k);
flux1_status denoiser_wait(denoiser *d, int64_t k);
/* latent [1, tokens, channels], or, after step k, the latent that its velocity points at. */
flux1_status denoiser_latent(denoiser *d, int64_t expected_of, tensor *latent);
void denoiser_close(denoiser *d);

/* torch's noise of one seed, packed: [1, tokens, channels]. */
flux1_status make_noise(const flux1_model *m, const request *r, uint64_t seed, tensor *out, flux1_error *err);

/* The decoder. */
#define TILE_SHAPES 9 /* a side has whole tiles and two that its end cuts off */

typedef struct tile_plan {
    int64_t h, w; /* latent rows and columns */
    stage_plan plan;
} tile_plan;

typedef struct decoder {
    flux1_context *context;
    const flux1_model *model;
    vae_job job;
    tile_grid grid;
    stage_plan plan; /* of the whole picture, or of all its tiles in turn: then it has no arena of its own */
    tile_plan tile[TILE_SHAPES];
    int tile_plans; /* 0: the picture is decoded whole */
} decoder;

/* `memory`: bytes that FLUX1_TILING_AUTO may take. */
flux1_status decoder_plan(flux1_context *c, const flux1_model *m, const request *r, size_t memory, decoder *out);
/* packed latent [1, tokens, channels] → picture; decoded (may be NULL) gets [3, height, width] in about [−1, 1]. */
flux1_status decoder_run(decoder *d, const tensor *latent, progress *p, tensor *decoded, flux1_image *image);
void decoder_close(decoder *d);

/* Bytes that the context allows beside those taken. */
size_t memory_beside(const flux1_context *c, size_t taken);

/* FLUX1_ERR_LIMIT if a plan needs more than the context allows. */
flux1_status check_memory(flux1_context *c, const request *r, const char *stage, size_t bytes);

#endif
