/* What a recording asks for by name (docs/recording.md): matrices that the host makes from prompt, seed and guidance,
 * and from what earlier stages gave. */
#ifndef FLUX1_PIPELINE_RECORDING_INPUTS_H
#define FLUX1_PIPELINE_RECORDING_INPUTS_H

#include "mesh/script_play.h"
#include "pipeline/recording.h"
#include "pipeline/text_to_image.h"

/* What a picture is made of. */
typedef struct recording_request {
    const char *prompt;
    uint64_t seed;
    float guidance;
} recording_request;

/* What the stages gave, [rows, cols] each; recording_results_free ends it. */
typedef struct recording_results {
    tensor pooled, embeds, latent, pixels;
} recording_results;
void recording_results_free(recording_results *r);

/* Enum, name, rows, columns, type. s: what they are sized by. */
/* clang-format off */
#define RECORDING_INPUTS(X) \
    X(CLIP_IDS, "clip.ids", s->r->clip_tokens, 1, DTYPE_I32) \
    X(T5_IDS, "t5.ids", s->r->t5_tokens, 1, DTYPE_I32) \
    X(T5_BIAS, "t5.bias", s->m->t5.heads, 2 * s->r->t5_tokens - 1, DTYPE_F32) \
    X(EMBEDS, "prompt_embeds", s->r->t5_tokens, s->m->t5.d_model, DTYPE_F32) \
    X(POOLED, "pooled", 1, s->m->clip.hidden, DTYPE_F32) \
    X(EMBEDS_NEGATIVE, "prompt_embeds.negative", s->r->t5_tokens, s->m->t5.d_model, DTYPE_F32) \
    X(POOLED_NEGATIVE, "pooled.negative", 1, s->m->clip.hidden, DTYPE_F32) \
    X(TIME, "time", s->r->steps, TIME_CHANNELS, DTYPE_F32) \
    X(GUIDANCE, "guidance", 1, TIME_CHANNELS, DTYPE_F32) \
    X(DSIGMA, "dsigma", s->r->steps, 1, DTYPE_F32) \
    X(ROPE_TEXT, "rope.text", s->r->t5_tokens, s->m->dit.head_dim, DTYPE_F32) \
    X(ROPE_IMAGE, "rope.image", s->tokens, s->m->dit.head_dim, DTYPE_F32) \
    X(NOISE, "noise", s->tokens, s->m->dit.in_channels, DTYPE_F32) \
    X(LATENT_PLANE, "latent_plane", s->h * s->w, s->m->vae.latent_channels, DTYPE_F32)
/* clang-format on */

typedef enum recording_input {
#define RECORDING_INPUT_ENUM(id, name, rows, cols, type) IN_##id,
    RECORDING_INPUTS(RECORDING_INPUT_ENUM)
#undef RECORDING_INPUT_ENUM
        RECORDING_INPUT_COUNT
} recording_input;

/* Zeroed, then made; recording_inputs_free ends it. */
typedef struct recording_inputs {
    flux1_context *c; /* its messages and its log */
    const flux1_model *m;
    const recording *r;
    recording_stage stage;       /* whose calls ask; tensors are those of its part of the model */
    int64_t tokens, h, w;        /* of the picture; of the latent plane */
    int64_t pooled_row;          /* "clip.pooled_row" */
    const store_tensor *t5_bias; /* in place of the model's, to be set before they are filled; NULL: that */
    flux1_text *ids;
    tensor in[RECORDING_INPUT_COUNT];
} recording_inputs;

/* Token ids, and the shapes of all others and of *out. FLUX1_ERR_MODEL says why the model is not one that the recording
 * is of. */
flux1_status recording_inputs_make(flux1_context *c, const flux1_model *m, const recording *r, const char *prompt,
                                   recording_inputs *s, recording_results *out);

/* Their data, and room for what stages give, in *out and in the inputs that are made of it. */
flux1_status recording_inputs_fill(recording_inputs *s, const recording_request *q, recording_results *out);
void recording_inputs_free(recording_inputs *s);

/* What a stage has given goes into the inputs of those behind it: `clip`, `t5` and `dit.latent` have some. */
void recording_inputs_take(recording_inputs *s, recording_stage stage, const recording_results *from);

component recording_part(recording_stage stage); /* whose weights it has */

/* The tensor of the part whose stage it is, under either of its names. FLUX1_ERR_MODEL if there is none. */
flux1_status recording_tensor_find(const flux1_model *m, recording_stage stage, const char *name,
                                   const store_tensor **out, flux1_error *err);

/* What the calls of s->stage ask for: the model's tensors, these inputs. FLUX1_ERR_FORMAT for an input that is none. */
script_sources recording_sources(recording_inputs *s, tensor *output);

#endif
