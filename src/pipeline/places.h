/* Where files of a model's parts may lie: beside a given one, in the folders of FLUX1_PATH, in Hugging Face's cache;
 * the folders of ComfyUI, Forge and SwarmUI are known by their names. */
#ifndef FLUX1_PIPELINE_PLACES_H
#define FLUX1_PIPELINE_PLACES_H

#include "pipeline/folder.h"

typedef struct place {
    char *path;
    const char *why; /* "beside it", "in FLUX1_PATH" */
    int depth;       /* how many levels of folders below it belong to it */
    int group;       /* the places of a group are one: its best file counts */
    uint64_t device, inode;
} place;

typedef struct places {
    place *place; /* in the order in which they are looked at */
    size_t count;
} places;

/* For component c. `given`: what the user has named, files or folders, in order. Folders that are not there are left
 * out. FLUX1_ERR_MEMORY. places_free in any case. */
flux1_status places_of_part(component c, const char *const *given, size_t count, places *out, flux1_error *err);

/* A folder that is named, with those of known names in it. */
flux1_status places_of_folder(component c, const char *folder, places *out, flux1_error *err);

/* As places_of_part, for files of adapters. */
flux1_status places_of_adapters(const char *const *given, size_t count, places *out, flux1_error *err);
void places_free(places *p);

/* Whether a folder of this name has a place of its own in a layout. */
bool places_know(const char *name);

/* How to get a part that is nowhere: a command of flux1. */
const char *places_command(component c);

#endif
