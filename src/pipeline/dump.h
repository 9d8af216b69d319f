/* The tensors of every stage in one safetensors file, under diffusers' names (flux1 generate --dump). Kept in memory
 * until dump_write. */
#ifndef FLUX1_PIPELINE_DUMP_H
#define FLUX1_PIPELINE_DUMP_H

#include "tensor/tensor.h"

typedef struct dump dump;

flux1_status dump_create(int64_t batch, dump **out, flux1_error *err);
void dump_destroy(dump *d); /* NULL is fine */

/* Copies `data` [dims…] into entry `index` of the tensor `name` [batch, dims…]; with index −1 the tensor is [dims…].
 * type: F32 or I32. Does nothing if d is NULL. */
flux1_status dump_add(dump *d, const char *name, dtype type, int dims, const int64_t *shape, int64_t index,
                      const void *data, flux1_error *err);

/* A text of the file's metadata. Does nothing if d is NULL. */
flux1_status dump_note(dump *d, const char *key, const char *text, flux1_error *err);

flux1_status dump_write(const dump *d, const char *path, flux1_error *err);

#endif
