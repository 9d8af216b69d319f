#include "weights/contents.h"
#include "weights/store_items.h"
#include "weights/variant.h"

#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Maps and parses one more file; `path` is the store's from here on, also on failure. */
static flux1_status add_file(store *s, char *path, flux1_error *err)
{
    container *files = realloc(s->file, (s->file_count + 1) * sizeof *files);
    if (!files) {
        free(path);
        return error_oom(err, (s->file_count + 1) * sizeof *files, "the list of files");
    }
    s->file = files;
    return container_open(path, &s->file[s->file_count++], err);
}

static flux1_status make_raw(store *s, size_t count, flux1_error *err)
{
    size_t least = count ? count : 1;
    s->raw = calloc(least, sizeof *s->raw);
    return s->raw ? FLUX1_OK : error_oom(err, least * sizeof *s->raw, "the list of tensors");
}

static void add_raw(store *s, const container *file, size_t index)
{
    const tensor *view = container_view(file, index);
    const char *name = container_name(file, index);
    s->raw[s->raw_count++].tensor =
        (store_tensor){.name = name,
                       .stored_as = name,
                       .file = file->path,
                       .view = *view,
                       .store = s->number,
                       .source = file->map.identity,
                       .offset = (uint64_t)((const unsigned char *)view->data - file->map.bytes),
                       .content = &file->content};
}

/* `path` is the store's, also on failure. */
static flux1_status open_single(store *s, char *path, flux1_error *err)
{
    TRY(add_file(s, path, err));
    const size_t count = container_count(&s->file[0]);
    TRY(make_raw(s, count, err));
    for (size_t i = 0; i < count; i++)
        add_raw(s, &s->file[0], i);
    return FLUX1_OK;
}

/* The shard among the files opened so far. */
static container *find_file(const store *s, const char *folder, const char *shard)
{
    size_t folder_length = strlen(folder);
    if (folder_length > 0 && folder[folder_length - 1] == '/')
        folder_length--;
    for (size_t i = s->file_count; i-- > 0;) /* an index is mostly sorted: the last one first */
        if (strcmp(s->file[i].path + folder_length + 1, shard) == 0)
            return &s->file[i];
    return NULL;
}

static flux1_status open_shard(store *s, const char *folder, const char *index_path, const char *tensor_name,
                               const char *shard, flux1_error *err)
{
    if (shard[0] == '\0' || strchr(shard, '/') || strchr(shard, '\\') || strcmp(shard, ".") == 0 ||
        strcmp(shard, "..") == 0)
        return error_set(err, FLUX1_ERR_FORMAT,
                         "%s: tensor \"%s\" is said to be in \"%s\", which is not the name of a file beside the index",
                         index_path, tensor_name, shard);
    char *path = path_join(folder, shard);
    if (!path)
        return error_oom(err, 0, shard);
    if (!file_exists(path)) {
        error_set(err, FLUX1_ERR_MODEL, "%s: the shard %s is missing (%s lists it for \"%s\"); fetch it", folder, shard,
                  index_path, tensor_name);
        free(path);
        return FLUX1_ERR_MODEL;
    }
    return add_file(s, path, err);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const store_raw *)a)->tensor.name, ((const store_raw *)b)->tensor.name);
}

static flux1_status open_shards(store *s, const char *folder, const json_value *map, const char *index_path,
                                flux1_error *err)
{
    const char *name;
    const json_value *value;
    /* all shards first: the items point at their paths, which the growing list may move */
    for (size_t i = 0; (value = json_object_at(map, i, &name)); i++) {
        if (!json_is_string(value))
            return error_set(err, FLUX1_ERR_FORMAT, "%s: \"weight_map\": \"%s\" should name a file", index_path, name);
        if (!find_file(s, folder, json_string_value(value)))
            TRY(open_shard(s, folder, index_path, name, json_string_value(value), err));
    }
    TRY(make_raw(s, json_object_size(map), err));
    for (size_t i = 0; (value = json_object_at(map, i, &name)); i++) {
        const container *file = find_file(s, folder, json_string_value(value));
        const size_t at = container_find(file, name);
        if (at == SIZE_MAX)
            return error_set(err, FLUX1_ERR_MODEL,
                             "%s: tensor \"%s\" is missing, though %s says it is there; the two do not belong together",
                             file->path, name, index_path);
        add_raw(s, file, at);
    }
    qsort(s->raw, s->raw_count, sizeof *s->raw, by_name);
    return FLUX1_OK;
}

/* `index_path` is only read. */
static flux1_status open_index(store *s, const char *folder, const char *index_path, flux1_error *err)
{
    json_value *index;
    TRY(json_parse_file(index_path, &index, err));
    flux1_status st = json_require(index, index_path, "weight_map", err);
    if (st == FLUX1_OK) {
        const json_value *map = json_object_get(index, "weight_map");
        if (!json_is_object(map))
            st = error_set(err, FLUX1_ERR_FORMAT,
                           "%s: \"weight_map\" should be an object that gives each tensor's file", index_path);
        else
            st = open_shards(s, folder, map, index_path, err);
    }
    json_free(index);
    return st;
}

/* `variant`: of the names, ".fp16"; mostly "". */
static char *join_stem(const char *folder, const char *stem, bool index, const char *variant)
{
    const size_t room = strlen(stem) + strlen(variant) + sizeof ".safetensors.index.json";
    char *file = malloc(room), *path = NULL;
    if (file) {
        snprintf(file, room, index ? "%s.safetensors.index%s.json" : "%s%s.safetensors", stem, variant);
        path = path_join(folder, file);
    }
    free(file);
    return path;
}

/* *found tells whether the stem is there in either form. */
static flux1_status try_stem(store *s, const char *folder, const char *stem, const char *variant, bool *found,
                             flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    char *single = join_stem(folder, stem, false, variant), *index = join_stem(folder, stem, true, variant);
    *found = false;
    if (!single || !index) {
        st = error_oom(err, 0, folder);
    } else if (file_exists(single)) {
        *found = true;
        char *path = single;
        single = NULL;
        st = open_single(s, path, err);
    } else if (file_exists(index)) {
        *found = true;
        st = open_index(s, folder, index, err);
    }
    free(single);
    free(index);
    return st;
}

static flux1_status try_variant(store *s, const char *folder, const char *stem, bool *found, flux1_error *err)
{
    char variant[VARIANT_ROOM];
    TRY(variant_find(folder, stem, variant, err));
    return variant[0] ? try_stem(s, folder, stem, variant, found, err) : FLUX1_OK;
}

flux1_status store_open(const char *folder, const char *const *stems, store **out, flux1_error *err)
{
    store *s;
    bool found = false;
    *out = NULL;
    if (!file_is_directory(folder))
        return error_set(err, FLUX1_ERR_MODEL, "%s: %s", folder,
                         file_exists(folder) ? "is not a folder" : "there is no such folder; is the model complete?");
    TRY(store_create(folder, &s, err));
    flux1_status st = FLUX1_OK;
    for (size_t i = 0; st == FLUX1_OK && !found && stems[i]; i++)
        st = try_stem(s, folder, stems[i], "", &found, err);
    for (size_t i = 0; st == FLUX1_OK && !found && stems[i]; i++)
        st = try_variant(s, folder, stems[i], &found, err);
    const char *prefix = "";
    const name_map *map = found && st == FLUX1_OK ? contents_map(s, &prefix) : NULL;
    if (st == FLUX1_OK && found)
        st = store_make_items(s, map, prefix, err);
    else if (st == FLUX1_OK)
        st = error_set(
            err, FLUX1_ERR_MODEL,
            "%s: has neither %s.safetensors nor %s.safetensors.index.json; fetch the weights (safetensors only)",
            folder, stems[0], stems[0]);
    if (st != FLUX1_OK) {
        store_close(s);
        return st;
    }
    *out = s;
    return FLUX1_OK;
}

/* The file's tensors, not yet items. */
static flux1_status open_raw(const char *path, store **out, flux1_error *err)
{
    store *s;
    *out = NULL;
    TRY(store_create(path, &s, err));
    char *copy = strdup(path);
    flux1_status st = copy ? open_single(s, copy, err) : error_oom(err, strlen(path) + 1, path);
    if (st != FLUX1_OK) {
        store_close(s);
        return st;
    }
    *out = s;
    return FLUX1_OK;
}

flux1_status store_open_file(const char *path, store **out, flux1_error *err)
{
    store *s;
    *out = NULL;
    TRY(open_raw(path, &s, err));
    flux1_status st = store_make_items(s, NULL, "", err);
    if (st != FLUX1_OK) {
        store_close(s);
        return st;
    }
    *out = s;
    return FLUX1_OK;
}

flux1_status store_look(const char *path, store_contents *out, flux1_error *err)
{
    store *s;
    *out = (store_contents){0};
    TRY(open_raw(path, &s, err));
    flux1_status st = contents_of(s, out, err);
    store_close(s);
    return st;
}

flux1_status store_open_part(const char *path, model_part part, store **out, flux1_error *err)
{
    flux1_status st;
    store *s;
    store_contents contents;
    *out = NULL;
    TRY(open_raw(path, &s, err));
    TRY_CLEANUP(contents_of(s, &contents, err));
    if (!contents.prefix[part])
        TRY_CLEANUP(contents_lack(path, &contents, part, err));
    TRY_CLEANUP(store_make_items(s, name_map_of(part), contents.prefix[part], err));
    *out = s;
    return FLUX1_OK;
cleanup:
    store_close(s);
    return st;
}
