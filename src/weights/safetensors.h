/* The header of a safetensors file: u64 little-endian length, then JSON {name: {dtype, shape, data_offsets}}, then the
 * tensors' bytes without gaps. Parsed strictly by the format's own rules (huggingface/safetensors README): whatever
 * passes can be used without further checks. */
#ifndef FLUX1_WEIGHTS_SAFETENSORS_H
#define FLUX1_WEIGHTS_SAFETENSORS_H

#include "base/json.h"
#include "tensor/tensor.h"

#define SAFETENSORS_HEADER_MAX 100000000u

typedef struct safetensors_entry {
    char *name;        /* UTF-8, owned */
    tensor view;       /* data points into the block that was parsed */
    size_t begin, end; /* bytes, relative to the data section */
} safetensors_entry;

typedef struct safetensors {
    size_t count;
    safetensors_entry *entry; /* sorted by name (strcmp) */
    json_value *header;       /* all of it, for safetensors_metadata; NULL where it has no metadata */
} safetensors;

/* Whether a file seems to begin like one: a length below 4 GB, then JSON. Nine bytes are enough. */
bool safetensors_like(const unsigned char *bytes, size_t size);

/* Parses a whole file lying at bytes[0..size); `path` is for messages. Reads the header only, never the tensors' bytes.
 * The views point into `bytes`, which must outlive them. FLUX1_ERR_FORMAT (file and tensor named),
 * FLUX1_ERR_UNSUPPORTED for a dtype that DTYPE_MAP does not have, FLUX1_ERR_LIMIT for a header with far too many
 * values, FLUX1_ERR_MEMORY. */
flux1_status safetensors_parse(const unsigned char *bytes, size_t size, const char *path, safetensors *out,
                               flux1_error *err);

void safetensors_free(safetensors *s); /* harmless on a zeroed one */

/* The text under `key` of the file's metadata; NULL if there is none. */
const char *safetensors_metadata(const safetensors *s, const char *key);

/* NULL if there is none of that name. */
const safetensors_entry *safetensors_find(const safetensors *s, const char *name);

#endif
