#include "support/damage.h"

#include "base/file.h"
#include "base/json_write.h"

#include <dirent.h>
#include <sys/stat.h>

static void copy_tree(const char *from, const char *to)
{
    DIR *d = opendir(from);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        struct stat s;
        if (e->d_name[0] == '.')
            continue;
        char *source = path_join(from, e->d_name), *target = path_join(to, e->d_name);
        assert_true(source && target);
        assert_int_equal(stat(source, &s), 0);
        if (S_ISDIR(s.st_mode)) {
            assert_int_equal(mkdir(target, 0700), 0);
            copy_tree(source, target);
        } else
            assert_int_equal(symlink(source, target), 0);
        free(source);
        free(target);
    }
    closedir(d);
}

static void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        char *one = path_join(path, e->d_name);
        assert_non_null(one);
        if (unlink(one) != 0)
            remove_tree(one);
        free(one);
    }
    if (d)
        closedir(d);
    rmdir(path);
}

copy copy_of(const char *pipeline)
{
    copy k = {"/tmp/flux1-test-XXXXXX", ""};
    snprintf(k.original, sizeof k.original, "%s/pipelines/%s", TEST_DATA, pipeline);
    assert_non_null(mkdtemp(k.path));
    copy_tree(k.original, k.path);
    return k;
}

void copy_free(copy *k) { remove_tree(k->path); }

const char *copy_path(const copy *k, const char *part)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", k->path, part);
    return path;
}

void copy_lose(const copy *k, const char *part)
{
    const char *path = copy_path(k, part);
    if (unlink(path) != 0)
        remove_tree(path);
    assert_false(is_there(path));
}

void copy_mend(const copy *k, const char *part)
{
    const char *path = copy_path(k, part);
    char *source = path_join(k->original, part);
    assert_non_null(source);
    if (unlink(path) != 0)
        remove_tree(path);
    assert_int_equal(symlink(source, path), 0);
    free(source);
}

void copy_write(const copy *k, const char *part, const void *bytes, size_t size)
{
    const char *path = copy_path(k, part);
    unlink(path);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
}

static unsigned char *copy_read(const copy *k, const char *part, size_t *size)
{
    FILE *f = fopen(copy_path(k, part), "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    unsigned char *bytes = malloc(*size + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *size, f), *size);
    fclose(f);
    return bytes;
}

void copy_cut(const copy *k, const char *part, size_t keep)
{
    size_t size;
    unsigned char *bytes = copy_read(k, part, &size);
    copy_write(k, part, bytes, size * keep / 1000);
    free(bytes);
}

void copy_set(const copy *k, const char *part, const char *key, const char *value)
{
    json_value *object = NULL, *list = NULL;
    json_writer w = {.style = JSON_LINE};
    char bracketed[512], *text;
    const char *name;
    assert_int_equal(json_parse_file(copy_path(k, part), &object, NULL), FLUX1_OK);
    snprintf(bracketed, sizeof bracketed, "[%s]", value ? value : "");
    assert_int_equal(json_parse_python(bracketed, strlen(bracketed), key, &list, NULL), FLUX1_OK);
    assert_true(value || json_object_get(object, key));
    json_begin_object(&w, NULL);
    for (size_t i = 0; i < json_object_size(object); i++) {
        const json_value *member = json_object_at(object, i, &name);
        if (strcmp(name, key) != 0)
            json_put_value(&w, name, member);
    }
    if (value)
        json_put_value(&w, key, json_array_get(list, 0));
    json_end_object(&w);
    assert_int_equal(json_take(&w, "a config", &text, NULL), FLUX1_OK);
    copy_write(k, part, text, strlen(text));
    free(text);
    json_free(list);
    json_free(object);
}

tensors tensors_read(const copy *k, const char *part)
{
    tensors t;
    uint64_t length = 0;
    t.bytes = copy_read(k, part, &t.size);
    for (int i = 7; i >= 0; i--)
        length = length << 8 | t.bytes[i];
    t.data = 8 + (size_t)length;
    assert_int_equal(json_parse((const char *)t.bytes + 8, (size_t)length, part, &t.header, NULL), FLUX1_OK);
    return t;
}

/* A tensor's entry, its shape the other way round where `turned`. */
static void tensors_put_entry(json_writer *w, const char *name, const json_value *entry, bool turned)
{
    const json_value *shape = json_object_get(entry, "shape");
    json_begin_object(w, name);
    json_put_value(w, "dtype", json_object_get(entry, "dtype"));
    json_begin_array(w, "shape");
    for (size_t i = 0, n = json_array_size(shape); i < n; i++)
        json_put_value(w, NULL, json_array_get(shape, turned ? n - 1 - i : i));
    json_end_array(w);
    json_put_value(w, "data_offsets", json_object_get(entry, "data_offsets"));
    json_end_object(w);
}

void tensors_write(const copy *k, const char *part, tensors *t, const char *from, const char *to, bool turned)
{
    json_writer w = {.style = JSON_COMPACT};
    const char *name;
    char *header;
    json_begin_object(&w, NULL);
    for (size_t i = 0; i < json_object_size(t->header); i++) {
        const json_value *entry = json_object_at(t->header, i, &name);
        bool changed = from && strcmp(name, from) == 0;
        if (strcmp(name, "__metadata__") == 0)
            json_put_value(&w, name, entry);
        else
            tensors_put_entry(&w, changed ? to : name, entry, changed && turned);
    }
    json_end_object(&w);
    assert_int_equal(json_take(&w, "a header", &header, NULL), FLUX1_OK);
    size_t length = strlen(header), data = t->size - t->data;
    unsigned char *all = malloc(8 + length + data);
    assert_non_null(all);
    for (int i = 0; i < 8; i++)
        all[i] = (unsigned char)((uint64_t)length >> (8 * i));
    memcpy(all + 8, header, length);
    memcpy(all + 8 + length, t->bytes + t->data, data);
    copy_write(k, part, all, 8 + length + data);
    free(all);
    free(header);
    free(t->bytes);
    json_free(t->header);
}

void copy_poison(const copy *k, const char *part, const char *name, size_t index, bool nan)
{
    tensors t = tensors_read(k, part);
    const json_value *one = json_object_get(t.header, name);
    if (!one)
        fail_msg("no tensor %s in %s", name, part);
    const char *type = json_string_value(json_object_get(one, "dtype"));
    size_t begin = (size_t)json_integer_value(json_array_get(json_object_get(one, "data_offsets"), 0)),
           wide = type[0] == 'B' || type[1] == '1' ? 2 : 4;
    uint32_t value = strcmp(type, "F32") == 0 ? (nan ? 0x7FC00000 : 0x7F800000)
                     : type[0] == 'B'         ? (nan ? 0x7FC0 : 0x7F80)
                                              : (nan ? 0x7E00 : 0x7C00);
    for (size_t i = 0; i < wide; i++)
        t.bytes[t.data + begin + index * wide + i] = (unsigned char)(value >> (8 * i));
    tensors_write(k, part, &t, NULL, NULL, false);
}
