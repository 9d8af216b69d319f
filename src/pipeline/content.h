/* Whether two processes' models are of the same content, without reading all of it. */
#ifndef FLUX1_PIPELINE_CONTENT_H
#define FLUX1_PIPELINE_CONTENT_H

#include "pipeline/folder.h"

/* Stands for the content of the model's files (store_sample); 0 for a synthetic one. */
uint64_t content_of(const struct flux1_model *m);

#endif
