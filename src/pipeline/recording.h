/* Recordings: all that is done for one picture, as data (docs/recording.md). The calls of each stage on all ranks of a
 * mesh (ops/script.h), and what they are of: the model's sizes, the picture's, the noise levels. */
#ifndef FLUX1_PIPELINE_RECORDING_H
#define FLUX1_PIPELINE_RECORDING_H

#include "ops/script.h"
#include "pipeline/request.h"

#define RECORDING_VERSION 1

/* The stages in order: enum, name. What `dit.open` makes is there for `dit.step`, which is made once for each noise
 * level, and for `dit.latent`. The others begin with nothing and leave nothing. */
#define RECORDING_MAP(X)        \
    X(CLIP, "clip")             \
    X(T5, "t5")                 \
    X(DIT_OPEN, "dit.open")     \
    X(DIT_STEP, "dit.step")     \
    X(DIT_LATENT, "dit.latent") \
    X(VAE, "vae")

typedef enum recording_stage {
#define RECORDING_ENUM(id, name) RECORDING_##id,
    RECORDING_MAP(RECORDING_ENUM)
#undef RECORDING_ENUM
        RECORDING_STAGES
} recording_stage;
extern const char *const recording_names[RECORDING_STAGES];

/* Zeroed, then made or read; recording_free ends it. */
typedef struct recording {
    char *path;    /* of the model, as it was named; NULL: none was */
    bool guidance; /* a model with a guidance embedding (dev) */
    mesh_config mesh;
    int64_t width, height, steps;
    int64_t clip_tokens, t5_tokens;
    float guidance_scale;
    float *sigmas; /* [steps + 1] */
    script stage[RECORDING_STAGES];
} recording;

void recording_free(recording *r);

/* FLUX1_ERR_UNSUPPORTED for a request with what a recording cannot have: adapters, a step cache, true CFG, previews. */
flux1_status recording_takes(const request *r, flux1_error *err);

/* Of a request's picture on a mesh. path: see above. Fails as recording_takes. */
flux1_status recording_make(flux1_context *c, const flux1_model *m, const request *r, const mesh_config *shape,
                            const char *path, recording *out);

/* `stages` stages from `first` on alone, those of the transformer together; the others are empty. What the request has
 * that a recording cannot have is not looked at. */
flux1_status recording_make_stages(flux1_context *c, const flux1_model *m, const request *r, const mesh_config *shape,
                                   recording_stage first, int stages, recording *out);

/* The same of rank 0 alone, whose shares are the largest: scripts with sp and tp 1. */
flux1_status recording_make_first(flux1_context *c, const flux1_model *m, const request *r, const mesh_config *shape,
                                  recording_stage first, int stages, recording *out);

/* The text of it, NUL-terminated; free it. */
flux1_status recording_text(const recording *r, char **out, flux1_error *err);

/* The file, under a temporary name until it is complete. */
flux1_status recording_write(const recording *r, const char *path, flux1_error *err);

/* FLUX1_ERR_FORMAT names the file, the line and what is wrong with it. Whether the calls do what their entries allow is
 * checked by recording_play. */
flux1_status recording_read(const char *path, recording *out, flux1_error *err);

/* The same of a text that ends with a NUL and is changed; `name` stands for it in messages. */
flux1_status recording_parse(char *text, const char *name, recording *out, flux1_error *err);

#endif
