/* Where a file of an adapter lies that the user has named. */
#ifndef FLUX1_PIPELINE_ADAPTER_PLACE_H
#define FLUX1_PIPELINE_ADAPTER_PLACE_H

#include "pipeline/folder.h"

/* *path (malloc'd): `name` itself if there is such a file; else the file of that name, or with .safetensors behind it,
 * beside the model's files, in the folders loras of their layout, or in FLUX1_PATH; else the one file of weights in
 * a folder, or that org/name holds in Hugging Face's cache. A name that stands for nothing stays as it is, for whoever
 * opens it to name. FLUX1_ERR_MODEL for a repository that is not in the cache, and for a folder or one that holds
 * several files, FLUX1_ERR_MEMORY. */
flux1_status adapter_locate(const model_source *model, const char *name, char **path, flux1_error *err);

/* The same beside these files and folders of a model. */
flux1_status adapter_locate_beside(const char *const *given, size_t count, const char *name, char **path,
                                   flux1_error *err);

#endif
