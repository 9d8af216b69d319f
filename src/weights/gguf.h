/* The header of a GGUF file (ggml: docs/gguf.md, src/gguf.cpp): magic, version, metadata, tensor infos, then the
 * tensors' bytes, aligned, in the order of the infos. As strict as ggml: whatever passes can be used without further
 * checks. */
#ifndef FLUX1_WEIGHTS_GGUF_H
#define FLUX1_WEIGHTS_GGUF_H

#include "tensor/tensor.h"

typedef struct gguf_entry {
    char *name;  /* UTF-8, owned */
    tensor view; /* data points into the file; dimensions in row-major order (GGUF stores them reversed) */
} gguf_entry;

/* A text of the metadata; both point into the file and do not end in NUL. */
typedef struct gguf_text {
    const char *key, *text;
    size_t key_length, length;
} gguf_text;

typedef struct gguf {
    char *architecture; /* general.architecture, "" if the file does not say; owned */
    gguf_text *text;    /* of the metadata, in the file's order; owned */
    size_t texts;
    size_t count;
    gguf_entry *entry; /* sorted by name (strcmp) */
} gguf;

bool gguf_is(const unsigned char *bytes, size_t size); /* by its magic */

/* Parses a whole file lying at bytes[0..size); `path` is for messages. The views point into `bytes`, which must outlive
 * them. FLUX1_ERR_FORMAT, FLUX1_ERR_UNSUPPORTED for a version or type that is not known (big-endian files too),
 * FLUX1_ERR_LIMIT for far too many entries, FLUX1_ERR_MEMORY. */
flux1_status gguf_parse(const unsigned char *bytes, size_t size, const char *path, gguf *out, flux1_error *err);

/* NULL if there is none of that name. */
const gguf_entry *gguf_find(const gguf *g, const char *name);

void gguf_free(gguf *g); /* harmless on a zeroed one */

#endif
