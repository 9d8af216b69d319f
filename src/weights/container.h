/* One file of tensors, mapped: safetensors or GGUF, told by its content. */
#ifndef FLUX1_WEIGHTS_CONTAINER_H
#define FLUX1_WEIGHTS_CONTAINER_H

#include "base/file_map.h"
#include "weights/gguf.h"
#include "weights/safetensors.h"

#include <stdatomic.h>

/* What is in a file, whatever its name and place: a hash of all its bytes, once store_hash has read them. */
typedef struct content_hash {
    uint64_t hash[2];
    atomic_bool known;
} content_hash;

typedef struct container {
    char *path;
    file_map map;
    bool is_gguf; /* which of the two is used */
    safetensors safetensors;
    gguf gguf;
    content_hash content;
} container;

/* Maps and parses the file; container_close frees `out` also after a failure. `path` is the container's from here on.
 * FLUX1_ERR_IO, and what the two parsers return; what is neither is named as what it is. */
flux1_status container_open(char *path, container *out, flux1_error *err);
void container_close(container *c);

/* Tensors, sorted by name. */
size_t container_count(const container *c);
const char *container_name(const container *c, size_t index);
const tensor *container_view(const container *c, size_t index);

/* Index of the tensor of that name; SIZE_MAX if there is none. */
size_t container_find(const container *c, const char *name);

/* Calls `visit` with each text of the file's own metadata; neither ends in NUL, both are UTF-8 or are left out. Stops
 * at a status that is not FLUX1_OK and returns it. */
typedef flux1_status container_text_fn(void *arg, const char *key, size_t key_length, const char *text, size_t length);
flux1_status container_texts(const container *c, container_text_fn *visit, void *arg);

/* A text of the file's own metadata (safetensors), or NULL. */
const char *container_metadata(const container *c, const char *key);

#endif
