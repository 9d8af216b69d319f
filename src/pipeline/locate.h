/* Where each part of a model lies: what the user has named, made into paths, and the rest looked for beside it, in the
 * folders of FLUX1_PATH and in Hugging Face's cache. */
#ifndef FLUX1_PIPELINE_LOCATE_H
#define FLUX1_PIPELINE_LOCATE_H

#include "pipeline/folder.h"
#include "pipeline/notes.h"

typedef struct located {
    char *model, *part[COMPONENTS], *tokenizers; /* as in model_paths */
    const char *variant;                         /* the caller's */
    notes notes;                                 /* what was chosen, and what was skipped */
    char *repository;                            /* org/name of the model in Hugging Face's cache, or NULL */
    char *pull;                                  /* what flux1 pull calls that snapshot of it, or NULL */
    bool missing[COMPONENTS];
    char *misfit[COMPONENTS]; /* of a missing part: why a file that holds it was not taken, or NULL */
} located;

/* FLUX1_ERR_MODEL for a name that stands for nothing, or a snapshot that is not complete, and what a file that was
 * named returns. Parts that are nowhere are `missing`, and folder_open_parts will say so. located_free in any case. */
flux1_status locate(const model_paths *named, located *out, flux1_error *err);

/* The same for the model, its transformer and its tokenizers alone: nothing else is looked for. */
flux1_status locate_tokenizers(const model_paths *named, located *out, flux1_error *err);

/* For folder_open_parts; as long as `l`. */
model_paths located_paths(const located *l);

/* Appends to the error of an opening how to get what is missing. */
void locate_advise(const located *l, flux1_error *err);

/* Notes the tensors of the parts' files that belong to no part. FLUX1_ERR_MEMORY. */
flux1_status locate_strays(located *l, flux1_error *err);

void located_free(located *l);

#endif
