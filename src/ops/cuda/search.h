/* The folders where NVIDIA's libraries may lie: beside CUDA, and where pip and conda put them, which are on no loader's
 * path. Python is never started. */
#ifndef FLUX1_OPS_CUDA_SEARCH_H
#define FLUX1_OPS_CUDA_SEARCH_H

#include "base/status.h"

#include <stddef.h>

typedef struct cuda_search {
    char **folder; /* absolute or as named, in the order of the search; each once */
    size_t count;
    size_t named; /* so many of the first are the user's: searched before the loader's own path, the others after it */
} cuda_search;

/* From the environment: the folders of FLUX1_CUDA_LIBRARIES (separated by colons); then those that exist of
 * /usr/local/cuda/lib64 and, for VIRTUAL_ENV, CONDA_PREFIX, the prefix of the python3 on PATH and the user's own
 * packages (HOME/.local), the folders of conda's packages (lib) and of pip's (lib/python3.x/site-packages/nvidia/x/lib,
 * or dist-packages). FLUX1_ERR_MEMORY. */
flux1_status cuda_search_folders(cuda_search *out, flux1_error *err);
void cuda_search_free(cuda_search *s);

#endif
