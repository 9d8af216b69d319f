#include "weights/tensor_file.h"

#include "base/units.h"
#include "weights/store_base.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* ---- what it will hold ---- */

flux1_status tensor_file_add(tensor_file *f, const char *name, dtype type, int dims, const int64_t *shape,
                             size_t *index, flux1_error *err)
{
    const dtype_info *info = dtype_describe(type);
    int64_t elements;
    char text[256];
    file_tensor t = {.type = type, .dims = dims};
    if (strlen(name) > TENSOR_FILE_NAME_MAX)
        return error_set(err, FLUX1_ERR_LIMIT, "tensor \"%.60s…\": a name of more than %d bytes", name,
                         TENSOR_FILE_NAME_MAX);
    if (dims > (f->is_gguf ? 4 : TENSOR_DIMS) || !(f->is_gguf ? info->ggml >= 0 : info->in_safetensors) ||
        !tensor_size(type, dims, shape, &elements, &t.bytes) ||
        (info->block_elements > 1 && (dims == 0 || shape[dims - 1] % info->block_elements)))
        return error_set(err, FLUX1_ERR_LIMIT, "tensor \"%s\": %s cannot hold %s of shape %s", name,
                         f->is_gguf ? "GGUF" : "safetensors", info->name,
                         tensor_shape_text(dims, shape, text, sizeof text));
    if (dims > 0)
        memcpy(t.shape, shape, (size_t)dims * sizeof *shape);
    TRY(grow((void **)&f->tensor, &f->room, f->count, sizeof *f->tensor, err));
    if (!(t.name = strdup(name)))
        return error_oom(err, strlen(name), name);
    *index = f->count;
    f->tensor[f->count++] = t;
    return FLUX1_OK;
}

/* *out: a new entry of that key; NULL if there is one. */
static flux1_status add_fact(tensor_file *f, const char *key, size_t length, file_fact **out, flux1_error *err)
{
    *out = NULL;
    if (length == 0 || length > TENSOR_FILE_NAME_MAX)
        return FLUX1_OK;
    for (size_t i = 0; i < f->facts; i++)
        if (strlen(f->fact[i].key) == length && memcmp(f->fact[i].key, key, length) == 0)
            return FLUX1_OK;
    TRY(grow((void **)&f->fact, &f->fact_room, f->facts, sizeof *f->fact, err));
    f->fact[f->facts] = (file_fact){.key = strndup(key, length)};
    if (!f->fact[f->facts].key)
        return error_oom(err, length, "the metadata");
    *out = &f->fact[f->facts++];
    return FLUX1_OK;
}

flux1_status tensor_file_text(tensor_file *f, const char *key, size_t key_length, const char *text, size_t length,
                              flux1_error *err)
{
    file_fact *fact;
    TRY(add_fact(f, key, key_length, &fact, err));
    if (fact && !(fact->text = strndup(text, length)))
        return error_oom(err, length, "the metadata");
    return FLUX1_OK;
}

flux1_status tensor_file_number(tensor_file *f, const char *key, uint32_t value, flux1_error *err)
{
    file_fact *fact = NULL;
    if (f->is_gguf)
        TRY(add_fact(f, key, strlen(key), &fact, err));
    if (fact)
        fact->number = value;
    return FLUX1_OK;
}

flux1_status tensor_file_real(tensor_file *f, const char *key, float value, flux1_error *err)
{
    file_fact *fact = NULL;
    if (f->is_gguf)
        TRY(add_fact(f, key, strlen(key), &fact, err));
    if (fact) {
        fact->is_real = true;
        fact->real = value;
    }
    return FLUX1_OK;
}

/* ---- writing ---- */

static flux1_status write_at(const tensor_file *f, size_t at, const void *bytes, size_t size, flux1_error *err)
{
    const unsigned char *p = bytes;
    while (size > 0) {
        const ssize_t n = pwrite(fileno(f->writer.stream), p, size, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_io(err, f->writer.path, "write");
        p += n;
        at += (size_t)n;
        size -= (size_t)n;
    }
    return FLUX1_OK;
}

/* Told before hours of work, not after. */
static flux1_status check_space(const tensor_file *f, flux1_error *err)
{
    struct statvfs disk;
    if (fstatvfs(fileno(f->writer.stream), &disk) != 0)
        return FLUX1_OK; /* writing will tell */
    const double available = (double)disk.f_bavail * (double)disk.f_frsize;
    if ((double)f->bytes <= available)
        return FLUX1_OK;
    char needed[BYTES_TEXT], left[BYTES_TEXT];
    return error_set(err, FLUX1_ERR_IO,
                     "%s: the file will have %s, but its disk has only %s left; make room or choose another place",
                     f->writer.path, format_bytes(needed, sizeof needed, (double)f->bytes),
                     format_bytes(left, sizeof left, available));
}

flux1_status tensor_file_begin(tensor_file *f, const char *path, flux1_error *err)
{
    builder header = {0};
    flux1_status st;
    TRY_CLEANUP((f->is_gguf ? tensor_file_gguf : tensor_file_safetensors)(f, &header, err));
    TRY_CLEANUP(file_begin(path, &f->writer, err));
    TRY_CLEANUP(check_space(f, err));
    if (ftruncate(fileno(f->writer.stream), (off_t)f->bytes) != 0) {
        st = error_io(err, f->writer.path, "write");
        goto cleanup;
    }
    st = write_at(f, 0, header.text, header.length, err);
cleanup:
    builder_free(&header);
    return st;
}

flux1_status tensor_file_put(const tensor_file *f, size_t index, size_t at, const void *bytes, size_t size,
                             flux1_error *err)
{
    return write_at(f, f->tensor[index].offset + at, bytes, size, err);
}

flux1_status tensor_file_commit(tensor_file *f, flux1_error *err) { return file_commit(&f->writer, err); }

void tensor_file_free(tensor_file *f)
{
    file_abandon(&f->writer);
    for (size_t i = 0; i < f->count; i++)
        free(f->tensor[i].name);
    for (size_t i = 0; i < f->facts; i++) {
        free(f->fact[i].key);
        free(f->fact[i].text);
    }
    free(f->tensor);
    free(f->fact);
    *f = (tensor_file){0};
}
