/* Where each part of a model comes from, and its sizes. */
#ifndef FLUX1_PIPELINE_PARTS_H
#define FLUX1_PIPELINE_PARTS_H

#include "pipeline/folder.h"

typedef struct part_source {
    const char *file; /* a single file that holds it, or NULL: */
    char *folder;     /* a folder with config.json and weights */
    char *config;     /* the part's config.json; NULL: there is none */
} part_source;

typedef struct parts {
    part_source part[COMPONENTS];
    const char *folder;     /* the pipeline folder, or NULL */
    const char *variant;    /* as in model_paths */
    const char *tokenizers; /* the folder of both tokenizers; NULL: those that are compiled in */
} parts;

/* FLUX1_ERR_UNSUPPORTED if the folder's model_index.json is of a pipeline that is not made of FLUX.1's parts. */
flux1_status parts_check_class(const char *folder, flux1_error *err);

/* FLUX1_ERR_MODEL, naming everything that is missing. `paths` must outlive `out`; parts_free in any case. */
flux1_status parts_find(const model_paths *paths, parts *out, flux1_error *err);

/* Reads the configs, opens the single files, and fills in the model's sizes and scheduler. */
flux1_status parts_read_sizes(const parts *p, struct flux1_model *m, flux1_error *err);

/* Opens the stores of the parts that lie in folders. */
flux1_status parts_open_folders(const parts *p, struct flux1_model *m, flux1_error *err);

/* After a failure that `err` has: if a part whose tensors are not as they should be is quantised by a method that flux1
 * does not read, by its config.json, then this is what is said. Returns the status of `err`. */
flux1_status parts_name_quantised(const parts *p, const struct flux1_model *m, flux1_error *err);

void parts_free(parts *p);

/* FLUX.1 dev's or schnell's own. */
scheduler_config parts_scheduler(bool dev);

#endif
