/* The stages of text to image: encoder, denoiser, decoder. flux1_generate, the staged calls and the tools use them. */
#ifndef FLUX1_PIPELINE_TEXT_TO_IMAGE_H
#define FLUX1_PIPELINE_TEXT_TO_IMAGE_H

#include "pipeline/memory.h"
#include "pipeline/progress.h"
#include "pipeline/request.h"
#include "pipeline/tasks.h"
#include "pipeline/vae_tiles.h"

/* An encoded prompt. */
struct flux1_text {
    uint64_t model; /* the number of the model that encoded it */
    int32_t *clip_ids, *t5_ids;
    int clip_length, t5_length;
    tensor pooled; /* [1, hidden] */
    tensor embeds; /* [1, length, d_model] */
};

/* Token ids only; pooled and embeds are still empty. *clip_cut, *t5_cut (may be NULL): the prompt was too long. */
flux1_status text_tokenize(const flux1_model *m, const char *prompt, size_t bytes, int t5_length, flux1_text **out,
                           bool *clip_cut, bool *t5_cut, flux1_error *err);

/* The ids of a prompt that CLIP sees as `clip_tokens` tokens, its beginning and end included; nothing encoded. What is
 * planned or timed with them holds for any prompt of that length. */
flux1_status text_stand_in(const flux1_model *m, int clip_tokens, int t5_length, flux1_text **out, flux1_error *err);

/* All ids zero, nothing encoded; NULL: out of memory. */
flux1_text *text_create(uint64_t model, int clip_length, int t5_length);

/* The same ids, nothing encoded; NULL: out of memory. */
flux1_text *text_like(const flux1_text *text);
bool text_same_ids(const flux1_text *a, const flux1_text *b);

/* What an encoded prompt takes, and one of this model's with t5_length tokens. */
uint64_t text_bytes(const flux1_text *text);
uint64_t text_bytes_of(const flux1_model *m, int64_t t5_length);

/* FLUX1_ERR_ARGUMENT unless `given` was made by this model from these ids. name: of the parameter, for messages. */
flux1_status text_check(flux1_context *c, const flux1_model *m, const flux1_text *given, const flux1_text *ids,
                        const char *name);

/* Where the encoders run. */
static inline const mesh_device *text_device(const flux1_context *c)
{
    return c->has_text_device ? &c->text_device : &c->device;
}

/* The plans of both encoders, and encoding a prompt for which CLIP needs no more rows than for the planned one. */
typedef struct text_plan {
    text_job job;
    stage_plan clip, t5;
    const size_t *reserve; /* [ranks]: bytes for the arena, at least what both need; NULL: each what it needs */
} text_plan;
/* adapters: NULL, or those of the requests; they outlive the plan. */
flux1_status text_plan_make(flux1_context *c, const flux1_model *m, const adapter_set *adapters, const flux1_text *ids,
                            text_plan *out);
flux1_status text_encode(flux1_context *c, const flux1_model *m, text_plan *plan, flux1_text *text, progress *p);
void text_plan_free(text_plan *plan);

/* What one row of a batch is conditioned on. */
typedef struct batch_row {
    const flux1_text *text, *negative; /* negative NULL: one pass */
    float guidance;
} batch_row;

/* The denoiser of batches of one size: planned once, opened for rows, then started for each batch of such rows. */
typedef struct denoiser {
    flux1_context *context;
    const flux1_model *model;
    dit_job job;
    stage_plan plan;
    const stage_plan *beside; /* of a stage that runs while it is open; NULL: none */
    session *session;
    adapter_set adapters; /* borrowed */
    batch_row *rows;      /* [batch] that it is open for */
    bool open;
    bool previews;   /* they will be asked for */
    float *sigmas;   /* [steps + 1] */
    float *ids;      /* [text rows + tokens, DIT_ID_AXES] */
    float *guidance; /* [batch] */
    int64_t batch, tokens, channels;
    step_shape shape;
} denoiser;
flux1_status denoiser_plan(flux1_context *c, const flux1_model *m, const request *r, int64_t batch, denoiser *out);

/* The same for out->batch of so many pictures: as many as the request says, else (and where `shrinks`, of requests that
 * were put together, each with texts of its own) the most that fit and drive no weights out of a device, which would
 * cost more than they gain. text: what encodes the prompts, if it has an arena. */
flux1_status denoiser_plan_pictures(flux1_context *c, const flux1_model *m, const request *r, int64_t pictures,
                                    bool shrinks, const stage_plan *text, denoiser *out);
/* The texts must be encoded. reserve: [ranks] arena bytes, at least those of the plan; NULL: the plan's. *opening:
 * FLOPs of opening; 0 if it was already open for equal rows. */
flux1_status denoiser_open(denoiser *d, const batch_row *rows, const size_t *reserve, progress *p, double *opening);
flux1_status denoiser_start(denoiser *d, const tensor *noise); /* [batch, tokens, channels] */
flux1_status denoiser_step(denoiser *d, int64_t k);            /* submits and waits */
/* Whether step k + 1 may be submitted before step k is waited for. */
bool denoiser_runs_ahead(const denoiser *d);
flux1_status denoiser_submit(denoiser *d, int64_t k);
flux1_status denoiser_wait(denoiser *d, int64_t k);
/* latent [batch, tokens, channels]. With expected_of = k >= 0, after step k: the latent that its velocity points at. */
flux1_status denoiser_latent(denoiser *d, int64_t expected_of, tensor *latent);
/* Passes of this batch that the step cache made short. */
int64_t denoiser_reused(const denoiser *d);
void denoiser_rest(denoiser *d); /* the session goes back; the plan stays */
void denoiser_close(denoiser *d);

/* torch's noise of one seed, by the request's generator, packed: [tokens, channels]; or the request's latents of
 * picture `index`. */
flux1_status make_noise(const flux1_model *m, const request *r, int64_t index, uint64_t seed, float *out,
                        flux1_error *err);

/* The decoder. */
#define TILE_SHAPES 9 /* each side has whole tiles and up to two sizes cut off at its end */

typedef struct tile_plan {
    int64_t h, w; /* latent rows and columns */
    stage_plan plan;
} tile_plan;

typedef struct decoder {
    flux1_context *context;
    const flux1_model *model;
    vae_job job;
    tile_grid grid;
    stage_plan plan; /* of the whole picture, or of all its tiles; the arena is then the largest tile's */
    tile_plan tile[TILE_SHAPES];
    int tile_plans;       /* 0: the picture is decoded whole, or in bands */
    uint64_t whole;       /* bytes that it would take whole; 0: not asked */
    adapter_set adapters; /* borrowed: a session that is taken without them would lose what they are merged into */
    session *session;
} decoder;

/* memory: bytes that decoding may use (see memory.h); what does not fit is planned in the least that it takes. */
flux1_status decoder_plan(flux1_context *c, const flux1_model *m, const request *r, size_t memory, decoder *out);
/* Logs that the picture is decoded in bands or tiles, where that was not asked for. */
void decoder_tell(const decoder *d, flux1_tiling tiling);
/* Packed latent [tokens, channels] → picture; decoded (may be NULL) gets [3, height, width], about −1 to 1. The session
 * is taken with the first picture. */
flux1_status decoder_run(decoder *d, const float *latent, const size_t *reserve, progress *p, tensor *decoded,
                         flux1_image *image);
void decoder_rest(decoder *d);
/* Before and behind the VAE: [h·w, channels] rows of x/scaling + shift, from packed tokens (see latents_pack); and
 * [height·width, 3] pixels as a picture, and as `decoded` above. */
void decoder_unpack(const vae_config *c, const float *tokens, int64_t h, int64_t w, float *rows);
flux1_status decoder_picture(int64_t height, int64_t width, const float *pixels, tensor *decoded, flux1_image *image,
                             flux1_error *err);
void decoder_close(decoder *d);

#endif
