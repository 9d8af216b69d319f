#include "weights/container.h"

#include "base/utf8.h"
#include "weights/foreign.h"

#include <stdlib.h>
#include <string.h>

flux1_status container_open(char *path, container *out, flux1_error *err)
{
    *out = (container){.path = path};
    TRY(file_map_open(path, &out->map, err));
    const char *foreign = foreign_file(out->map.bytes, out->map.size);
    if (foreign)
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "%s: %s", path, foreign);
    out->is_gguf = gguf_is(out->map.bytes, out->map.size);
    const flux1_status st = out->is_gguf
                                ? gguf_parse(out->map.bytes, out->map.size, path, &out->gguf, err)
                                : safetensors_parse(out->map.bytes, out->map.size, path, &out->safetensors, err);
    TRY(file_map_check(&out->map, path, err)); /* of a file that was cut meanwhile anything may have been read */
    return st;
}

void container_close(container *c)
{
    safetensors_free(&c->safetensors);
    gguf_free(&c->gguf);
    file_map_close(&c->map);
    free(c->path);
    *c = (container){0};
}

size_t container_count(const container *c) { return c->is_gguf ? c->gguf.count : c->safetensors.count; }

const char *container_name(const container *c, size_t i)
{
    return c->is_gguf ? c->gguf.entry[i].name : c->safetensors.entry[i].name;
}

const tensor *container_view(const container *c, size_t i)
{
    return c->is_gguf ? &c->gguf.entry[i].view : &c->safetensors.entry[i].view;
}

size_t container_find(const container *c, const char *name)
{
    if (c->is_gguf) {
        const gguf_entry *e = gguf_find(&c->gguf, name);
        return e ? (size_t)(e - c->gguf.entry) : SIZE_MAX;
    }
    const safetensors_entry *e = safetensors_find(&c->safetensors, name);
    return e ? (size_t)(e - c->safetensors.entry) : SIZE_MAX;
}

flux1_status container_texts(const container *c, container_text_fn *visit, void *arg)
{
    const json_value *metadata = json_object_get(c->safetensors.header, "__metadata__"), *value;
    const char *key;
    for (size_t i = 0; i < c->gguf.texts; i++) {
        const gguf_text *t = &c->gguf.text[i];
        if (utf8_valid(t->text, t->length) && !memchr(t->text, 0, t->length))
            TRY(visit(arg, t->key, t->key_length, t->text, t->length));
    }
    for (size_t i = 0; (value = json_object_at(metadata, i, &key)); i++)
        TRY(visit(arg, key, strlen(key), json_string_value(value), json_string_length(value)));
    return FLUX1_OK;
}

const char *container_metadata(const container *c, const char *key)
{
    return c->is_gguf ? NULL : safetensors_metadata(&c->safetensors, key);
}
