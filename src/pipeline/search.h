/* The best file for a part among those that lie in a list of places. Files are known by their content: first by their
 * first bytes, then by the names of their tensors. Only headers are read. */
#ifndef FLUX1_PIPELINE_SEARCH_H
#define FLUX1_PIPELINE_SEARCH_H

#include "pipeline/fit.h"
#include "pipeline/notes.h"
#include "pipeline/places.h"

/* What one opening of a model has looked at; zeroed but for `notes` and `variant`. */
typedef struct search {
    notes *notes;
    const char *variant; /* of weights in folders, as in model_paths */
    fit fit;
    struct looked *looked; /* files, by device and inode */
    size_t looked_count, room;
    size_t weights, skipped;      /* files of weights; those that could not be read */
    char misfit[COMPONENTS][512]; /* the first file that holds the part but does not fit: a sentence, or "" */
} search;

/* *path: a file, or a folder with config.json and weights, malloc'd; NULL if there is none. The nearest group of places
 * that has one counts. Among several, in this order: the usual name (ae, clip_l), the most bits a weight, the name. A
 * note says what was taken and what else there is. Files that cannot be read are left out with a note.
 * FLUX1_ERR_MEMORY. */
flux1_status search_part(search *s, component c, const places *p, char **path, flux1_error *err);

/* Whether a file that the user has named for another part holds this one too. */
flux1_status search_file(search *s, component c, const char *file, bool *holds, flux1_error *err);

/* A folder with both tokenizers in a list of places, malloc'd; NULL if there is none. */
flux1_status search_tokenizers(search *s, const places *p, char **path, flux1_error *err);

/* Whether a folder has tokenizer/ and tokenizer_2/ as FLUX.1 needs them. */
bool search_has_tokenizers(const char *folder);

/* Whether a folder holds a pipeline of FLUX.1, by its model_index.json. FLUX1_ERR_MEMORY. */
flux1_status search_is_pipeline(const char *folder, bool *is, flux1_error *err);

void search_end(search *s);

#endif
