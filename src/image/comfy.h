/* ComfyUI's graphs of nodes, as its PNGs carry them: what made a picture, where the graph is a plain one of text to
 * image with FLUX.1: one sampler (KSampler, KSamplerAdvanced, SamplerCustom, SamplerCustomAdvanced), texts encoded by
 * CLIPTextEncode or CLIPTextEncodeFlux, an empty latent. Nodes of other kinds are passed where they hand something on.
 */
#ifndef FLUX1_IMAGE_COMFY_H
#define FLUX1_IMAGE_COMFY_H

#include "base/json.h"

enum { COMFY_LORAS = 16, COMFY_MISSING = 512 };

typedef struct comfy_lora {
    const char *name;
    double strength, clip_strength; /* of the transformer and of the text encoders */
} comfy_lora;

/* Strings and values belong to root; NULL: the graph does not say it. */
typedef struct comfy_facts {
    json_value *root;
    const char *prompt, *clip_prompt, *negative_prompt; /* clip_prompt: where CLIP had another one than T5 */
    const json_value *seed, *steps, *guidance, *width, *height, *cfg, *denoise; /* numbers */
    const char *sampler, *scheduler, *model;
    comfy_lora lora[COMFY_LORAS];
    int loras;
    char ignored[64];            /* "add_noise, start_at_step": by which it made a part of the steps only; "" if none */
    char missing[COMFY_MISSING]; /* "prompt, steps (from MyNode)": what could not be found; "" if nothing */
    const char *problem;         /* why the graph as a whole cannot be read; NULL: it can */
} comfy_facts;

/* prompt: the chunk "prompt", what ComfyUI ran. workflow: the chunk of that name, what its user saw, taken where there
 * is no other. Either may be NULL. Text that is no graph is a problem, not an error. FLUX1_ERR_MEMORY; *out is zeroed
 * then. */
flux1_status comfy_read(const char *prompt, const char *workflow, comfy_facts *out, flux1_error *err);
void comfy_free(comfy_facts *facts); /* harmless on a zeroed one */

#endif
