/* A file of tensors being written, safetensors or GGUF: first everything that it will hold is listed, then the header
 * is written, then the tensors' bytes in any order and from any thread. It appears under its name when it is complete.
 */
#ifndef FLUX1_WEIGHTS_TENSOR_FILE_H
#define FLUX1_WEIGHTS_TENSOR_FILE_H

#include "base/builder.h"
#include "base/file.h"
#include "tensor/tensor.h"

typedef struct file_tensor {
    char *name;
    dtype type;
    int dims;
    int64_t shape[TENSOR_DIMS];
    size_t bytes;
    size_t offset; /* in the file, from tensor_file_begin on */
} file_tensor;

/* An entry of the metadata: a text, or where there is none a number (GGUF only). */
typedef struct file_fact {
    char *key, *text;
    bool is_real;
    uint32_t number;
    float real;
} file_fact;

typedef struct tensor_file {
    bool is_gguf;
    file_tensor *tensor;
    size_t count, room;
    file_fact *fact;
    size_t facts, fact_room;
    size_t bytes; /* of the whole file, from tensor_file_begin on */
    file_writer writer;
} tensor_file;

#define TENSOR_FILE_NAME_MAX 255 /* bytes of a name or key */

/* Adds a tensor; *index: for tensor_file_put. FLUX1_ERR_LIMIT for a name, shape or type that the format does not have,
 * FLUX1_ERR_MEMORY. */
flux1_status tensor_file_add(tensor_file *f, const char *name, dtype type, int dims, const int64_t *shape,
                             size_t *index, flux1_error *err);

/* Add to the metadata; a key that is there already keeps its first value, and keys that are empty or too long are left
 * out. Safetensors takes texts alone: numbers are not added. */
flux1_status tensor_file_text(tensor_file *f, const char *key, size_t key_length, const char *text, size_t length,
                              flux1_error *err);
flux1_status tensor_file_number(tensor_file *f, const char *key, uint32_t value, flux1_error *err);
flux1_status tensor_file_real(tensor_file *f, const char *key, float value, flux1_error *err);

/* Lays the file out, creates it beside `path` under a temporary name, and writes the header. Bytes that are not put are
 * zero. FLUX1_ERR_IO, also where the disk has too little room. */
flux1_status tensor_file_begin(tensor_file *f, const char *path, flux1_error *err);

/* `size` bytes of a tensor, from byte `at` of it. */
flux1_status tensor_file_put(const tensor_file *f, size_t index, size_t at, const void *bytes, size_t size,
                             flux1_error *err);

flux1_status tensor_file_commit(tensor_file *f, flux1_error *err);
void tensor_file_free(tensor_file *f); /* removes a file that was not committed; harmless on a zeroed one */

/* tensor_file_formats.c: gives tensors their offsets and makes the header. */
flux1_status tensor_file_gguf(tensor_file *f, builder *header, flux1_error *err);
flux1_status tensor_file_safetensors(tensor_file *f, builder *header, flux1_error *err);

#endif
