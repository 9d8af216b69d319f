/* One call of flux1_generate or flux1_generate_many: the requests, the plan, and the work in progress. run_plan.c
 * fills requests and plan, generate.c runs them. */
#ifndef FLUX1_PIPELINE_RUN_H
#define FLUX1_PIPELINE_RUN_H

#include "pipeline/dump.h"
#include "pipeline/projection.h"
#include "pipeline/text_to_image.h"

typedef struct prompt_text {
    flux1_text *own;        /* ids, and what was encoded here; NULL: there is no such prompt */
    const flux1_text *text; /* own, an equal one of another request, or the caller's */
} prompt_text;

/* Whether it is to be encoded here. */
static inline bool prompt_is_missing(const prompt_text *t)
{
    return t->own && t->text == t->own && !t->own->embeds.data;
}

typedef struct request_texts {
    prompt_text of[2]; /* prompt, negative prompt */
} request_texts;

/* A picture's request, its index there, and its seed. */
typedef struct picture_place {
    int request, index;
    uint64_t seed;
} picture_place;

typedef struct run {
    flux1_context *c;
    const flux1_model *m;
    int n;
    request *r;           /* [n]; size, steps and so on are r[0]'s */
    request_texts *texts; /* [n] */
    int64_t count;        /* pictures of all requests */
    picture_place *place; /* [count] */
    int64_t batch;        /* pictures in a batch; the last one may be smaller */
    bool shrinks;         /* that is made smaller where it does not fit, even if a request says it */
    bool previews;        /* some request has them */
    text_plan text_plan;
    denoiser denoiser, rest; /* of a whole batch, and of the last one if that is smaller */
    decoder decoder;
    const projection *projection; /* of previews that are estimates; otherwise NULL */
    projection_canvas canvas;     /* of these */
    bool alternate;               /* each batch is decoded before the next one is denoised */
    size_t *reserve;              /* [ranks]: arena bytes for all stages, or NULL: each takes its own */
    batch_row *rows;              /* [batch] */
    progress p;
    dump *dump;
    flux1_image *images; /* [count], or NULL: none are kept */
} run;

/* A batch of pictures in progress. */
typedef struct batch {
    int64_t first, size;
    denoiser *denoiser;
    tensor latents;  /* [size, tokens, channels]: noise, then the last latents */
    tensor expected; /* latents of previews */
    bool has_expected;
    int64_t expected_of; /* the step that they were taken behind */
    bool dropped;        /* nobody wanted its pictures when it began */
    int64_t reused;      /* passes that the step cache made short */
} batch;

/* Latent i of a batch [size, tokens, channels]. */
static inline float *run_latent(const tensor *latents, int64_t i)
{
    return (float *)latents->data + i * latents->shape[1] * latents->shape[2];
}

/* Passes through the transformer that a picture takes. */
static inline int64_t run_passes(const run *g) { return g->r[0].steps * g->r[0].passes; }

/* Whether previews come from the VAE, which then is there beside the denoiser. */
static inline bool run_previews_by_vae(const run *g)
{
    return g->previews && g->r[0].preview_kind == FLUX1_PREVIEW_VAE;
}

/* Its request is not cancelled. */
static inline bool run_wants(const run *g, int64_t picture)
{
    return !token_is_cancelled(g->r[g->place[picture].request].cancel);
}

/* A picture without pixels: its seed, request and index, and what makes it. */
static inline flux1_image run_blank_picture(const run *g, int64_t picture)
{
    const picture_place *p = &g->place[picture];
    flux1_image image = {.size = sizeof(flux1_image), .seed = p->seed, .request = p->request, .index = p->index};
    context_sign(g->c, &image);
    return image;
}

/* Runs the body under the request's cancel token. keep: pictures stay in g->images, which then become *images. NULL:
 * the request's callback gets them. */
typedef flux1_status run_body(run *g, bool keep);
flux1_status run_whole(run *g, run_body *body, flux1_image **images);

/* A preview of a latent: by the projection where the run has one, else by the VAE; then the caller frees its pixels. */
flux1_status run_make_preview(run *g, const float *latent, flux1_image *picture);

/* Shows it to the progress callback, as what picture number `picture` is expected to be. */
flux1_status run_show_preview(run *g, int64_t picture, const flux1_image *preview);

/* Decodes the pictures of a batch and hands them out one by one. When one fails, the latents of that one and those
 * behind it go to the request's `undecoded`. */
flux1_status run_decode_batch(run *g, const batch *b);

/* The latents of a batch from its picture `from` on, none of which was decoded because of `why`. */
void run_undecoded(run *g, const batch *b, int64_t from, flux1_status why);

void run_free(run *g);

/* Checks the requests, and that they may share batches. */
flux1_status run_take_requests(run *g, const flux1_generate_params *const *params);

/* Token ids, batches, and the plan of every stage, before anything is computed. FLUX1_ERR_LIMIT if a stage does not
 * fit. */
flux1_status run_plan(run *g);

/* What the dump of this run will hold, and a picture on its way there. */
uint64_t run_dump_bytes(const run *g);

/* Add to the dump. after: steps done, 0 for the noise. */
flux1_status run_dump_texts(run *g);
flux1_status run_dump_latents(run *g, const batch *b, int64_t after);
flux1_status run_dump_facts(run *g); /* with which model, and how the pictures were made that were not cancelled */
flux1_status run_dump_decoded(run *g, int64_t picture, const tensor *decoded);

#endif
