/* The two texts that describe a picture in its PNG. */
#ifndef FLUX1_IMAGE_METADATA_H
#define FLUX1_IMAGE_METADATA_H

#include "base/status.h"

#include <stdbool.h>

typedef struct image_lora {
    const char *path;
    float scale;
} image_lora;

/* Strings are UTF-8 and may not be NULL unless stated. */
typedef struct image_metadata {
    const char *prompt;
    const char *model;   /* name of the model (the folder's); NULL: left out */
    const char *version; /* flux1's */
    int width, height, steps;
    bool has_guidance; /* the model has a guidance embedding: `guidance` was used */
    float guidance;
    uint64_t seed;
    int rng_threads;             /* the noise is torch's on a GPU of so many threads; 0: on a CPU */
    bool given_noise;            /* it began with the caller's latents, not with the seed's */
    int max_sequence_length;     /* T5 tokens; 0: left out */
    const char *dtype, *device;  /* of the arithmetic ("f32", "cpu"); NULL: left out */
    const char *mesh;            /* "2x4"; NULL: left out */
    const char *negative_prompt; /* NULL: none, or it had no effect */
    float true_cfg_scale;        /* with negative_prompt */
    float step_cache;            /* threshold of the first-block cache; 0: left out */
    const image_lora *loras;
    int lora_count;
    const char *written; /* the prompt with the tags of adapters that were in it; NULL: there were none */
} image_metadata;

/* Keyword "parameters", as AUTOMATIC1111's web UI writes and reads it: the prompt, a line "Negative prompt: …" if there
 * is one, then one line of `Key: value` pairs:
 *
 *     Steps: 4, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, Seed: 1,
 *     Size: 1024x1024, Model: name, Version: flux1 0.1.0
 *
 * and "RNG: NV" behind the size where the noise is a GPU's. A value with a comma, colon or newline is written as a JSON
 * string. Behind the prompt stands a tag for each adapter, <lora:NAME:SCALE>, unless `written` has them in their
 * places; one whose name cannot stand in a tag is left out. The distilled scale is there only with guidance; the CFG
 * scale is that of true CFG. *out is malloc'd. FLUX1_ERR_MEMORY. */
flux1_status metadata_parameters(const image_metadata *m, char **out, flux1_error *err);

/* Keyword "flux1": one JSON object with every member above under its own name. *out is malloc'd. FLUX1_ERR_MEMORY. */
flux1_status metadata_json(const image_metadata *m, char **out, flux1_error *err);

#endif
