/* Opening a model as the user names it, and telling what was chosen: what the calls of the library and the tools share.
 */
#ifndef FLUX1_PIPELINE_OPENING_H
#define FLUX1_PIPELINE_OPENING_H

#include "pipeline/context.h"
#include "pipeline/locate.h"

/* The caller's parts, which must outlive `out`. FLUX1_ERR_ARGUMENT for a struct without its size. */
flux1_status opening_paths(flux1_context *c, const flux1_model_parts *parts, model_paths *out);

/* FLUX1_ERR_ARGUMENT for what cannot be a variant of files. NULL is none. */
flux1_status opening_variant(flux1_context *c, const char *variant);

/* Locates the parts, logs what was chosen, and opens them. `parts` may be used for more afterwards; located_free in any
 * case. */
flux1_status opening_locate(flux1_context *c, const model_paths *named, located *parts, struct flux1_model **out);

/* The same where only the model is wanted. */
flux1_status opening_run(flux1_context *c, const model_paths *named, struct flux1_model **out);

#endif
