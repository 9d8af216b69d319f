/* A copy of a pipeline folder to be damaged: folders are real, files are links to the original until they are changed.
 */
#ifndef TESTS_SUPPORT_DAMAGE_H
#define TESTS_SUPPORT_DAMAGE_H

#include "support/golden.h"

#include "base/json.h"

typedef struct copy {
    char path[64], original[512];
} copy;

copy copy_of(const char *pipeline);
void copy_free(copy *k);

/* `part` is a path in the folder. The full path is valid until the next call. */
const char *copy_path(const copy *k, const char *part);
/* A file's or a folder's disappearance. */
void copy_lose(const copy *k, const char *part);
/* A changed or lost file is the original again. */
void copy_mend(const copy *k, const char *part);
void copy_write(const copy *k, const char *part, const void *bytes, size_t size);
/* Only the first `keep` of 1000 parts of a file stay. */
void copy_cut(const copy *k, const char *part, size_t keep);
/* Sets `key` of a JSON file to the value of that JSON text; NULL: takes it away. */
void copy_set(const copy *k, const char *part, const char *key, const char *value);

/* A safetensors file taken apart. */
typedef struct tensors {
    unsigned char *bytes;
    size_t size, data; /* offset of the data */
    json_value *header;
} tensors;

tensors tensors_read(const copy *k, const char *part);
/* Writes the file with its data as they are by now, and the tensor `from` (NULL: none) under the name `to`, its shape
 * the other way round if `turned`. Frees *t. */
void tensors_write(const copy *k, const char *part, tensors *t, const char *from, const char *to, bool turned);
/* Writes NaN, or else infinity, into the element `index` of a tensor. */
void copy_poison(const copy *k, const char *part, const char *name, size_t index, bool nan);

#endif
