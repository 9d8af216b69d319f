/* The tensors of every stage in one safetensors file, under diffusers' names (flux1 generate --dump). Kept in memory
 * until dump_write. */
#ifndef FLUX1_PIPELINE_DUMP_H
#define FLUX1_PIPELINE_DUMP_H

#include "tensor/tensor.h"

typedef struct dump dump;

flux1_status dump_create(int64_t batch, dump **out, flux1_error *err);
void dump_destroy(dump *d); /* NULL is fine */

/* Copies entry `index` of the tensor `name`, whose shape is [batch, dims…] (or [dims…] with index −1). type: F32 or
 * I32. No-op when d is NULL. */
flux1_status dump_add(dump *d, const char *name, dtype type, int dims, const int64_t *shape, int64_t index,
                      const void *data, flux1_error *err);

flux1_status dump_write(const dump *d, const char *path, flux1_error *err);

#endif
