/* Which files of a repository are fetched. */
#ifndef FLUX1_FETCH_CHOOSE_H
#define FLUX1_FETCH_CHOOSE_H

#include "fetch/listing.h"

#include <stdbool.h>

#define CHOOSE_FILES_MAX 10000

/* Marks the chosen ones of l->names in chosen[l->count].
 *
 * With patterns: what matches one of them (fnmatch; '*' matches '/' too, "vae/" is all of the folder), as
 * huggingface_hub's allow_patterns. Otherwise, of a pipeline in diffusers' layout: model_index.json, and of its folders
 * configurations, tokenizers and safetensors, of weights in several variants those of `variant` (NULL: the plain ones),
 * in each folder that has them, and of a folder with one variant alone that one. Of any other repository: its JSON
 * files at the top, and its weights (safetensors or GGUF) if there is one file or one set of shards.
 *
 * FLUX1_ERR_ARGUMENT: nothing is chosen, and what there is; FLUX1_ERR_LIMIT: more than CHOOSE_FILES_MAX files.
 * `repository` is for messages. */
flux1_status choose_files(const hub_listing *l, const char *repository, const char *variant,
                          const char *const *patterns, size_t pattern_count, bool *chosen, flux1_error *err);

#endif
