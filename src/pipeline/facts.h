/* What pictures, dumps and files of latents say about how they were made. */
#ifndef FLUX1_PIPELINE_FACTS_H
#define FLUX1_PIPELINE_FACTS_H

#include "pipeline/dump.h"
#include "pipeline/request.h"

/* request_make, silently: what it rounds was said when the picture was made. */
flux1_status facts_request(flux1_context *c, const flux1_model *m, const flux1_generate_params *params, request *r);

/* The two texts about a picture of the request (image/metadata.h), malloc'd. names: adapters are told by their files'
 * names, without their folders. written: the prompt with tags of adapters; NULL: as the request has it. */
flux1_status facts_texts(flux1_context *c, const flux1_image *image, const flux1_model *m, const request *r, bool names,
                         const char *written, char **parameters, char **json);

/* The paths of the model and its parts, under the names of flux1_latents_text. */
flux1_status facts_of_model(dump *d, const flux1_model *m, flux1_error *err);

/* Both texts about picture `index` of a file. image: its seed counts. */
flux1_status facts_of_picture(dump *d, int64_t index, flux1_context *c, const flux1_image *image, const flux1_model *m,
                              const request *r);

/* The key of a text about picture `index`: "flux1", then "flux1.1", … */
enum { FACTS_KEY_MAX = 64 };
void facts_key(const char *name, int64_t index, char out[FACTS_KEY_MAX]);

#endif
