/* What a model's name on the command line or in a call stands for: a file or folder, or a repository in Hugging Face's
 * cache. */
#ifndef FLUX1_PIPELINE_RESOLVE_H
#define FLUX1_PIPELINE_RESOLVE_H

#include "pipeline/folder.h"

typedef struct resolved {
    char *path;       /* of a file or folder; malloc'd */
    char *repository; /* "org/name" if it lies in Hugging Face's cache; else NULL; malloc'd */
    char *pull;       /* the same with "@revision", unless that is the main branch: what flux1 pull completes it by */
} resolved;

/* In this order: a file or folder of that name; in Hugging Face's cache org/name, org/name@revision (a branch, tag or
 * commit), or org/name/file. A folder may also be the cache itself, if it holds one pipeline of FLUX.1, or a
 * repository's folder in it (models--org--name). What is none of these stays as it is, for whoever opens it to name.
 * FLUX1_ERR_MODEL for a repository that is not in the cache, with the command that fetches it. resolved_free in any
 * case. */
flux1_status resolve(const char *text, resolved *out, flux1_error *err);

/* FLUX1_ERR_MODEL, naming them, if links in a snapshot's folders lead nowhere: an unfinished download, which flux1 pull
 * completes by the name `pull`. Parts that are `named` elsewhere do not count. */
flux1_status resolve_check(const char *snapshot, const char *pull, const model_paths *named, flux1_error *err);

void resolved_free(resolved *r);

#endif
