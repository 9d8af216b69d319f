/* The history's files: pictures and small ones beside the database. */
#include "server/history_in.h"

#include "base/file.h"
#include "base/json.h"
#include "server/job.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool history_is_picture_name(const char *name)
{
    const size_t n = strlen(name);
    return n < PICTURE_NAME && strspn(name, "0123456789abcdef") == RANDOM_NAME - 1 && name[RANDOM_NAME - 1] == '-' &&
           strspn(name, "0123456789abcdefgjnpw-.") == n && strstr(name, "..") == NULL;
}

char *history_picture_path(const history *s, const char *name)
{
    return history_is_picture_name(name) ? path_join(s->pictures, name) : NULL;
}

static char *thumbnail_path(const history *s, const char *name)
{
    return history_is_picture_name(name) ? path_join(s->thumbnails, name) : NULL;
}

/* Frees the path; NULL: no memory. */
static flux1_status open_file(char *path, int *descriptor, uint64_t *bytes, flux1_error *err)
{
    file_identity identity;
    bool there = false;
    flux1_status st = path ? file_find(path, &there, err) : error_oom(err, 0, "a file name");
    if (there)
        st = file_open_regular(path, descriptor, &identity, err);
    if (there && st == FLUX1_OK)
        *bytes = identity.size;
    else
        *descriptor = -1;
    free(path);
    return st;
}

flux1_status history_open_picture(const history *s, const char *name, int *descriptor, uint64_t *bytes,
                                  flux1_error *err)
{
    *descriptor = -1;
    return history_is_picture_name(name) ? open_file(history_picture_path(s, name), descriptor, bytes, err) : FLUX1_OK;
}

bool history_open_thumbnail(const history *s, const char *name, int *descriptor, uint64_t *bytes)
{
    *descriptor = -1;
    return history_is_picture_name(name) && open_file(thumbnail_path(s, name), descriptor, bytes, NULL) == FLUX1_OK &&
           *descriptor >= 0;
}

flux1_status history_read_picture(const history *s, const char *name, uint8_t **bytes, size_t *count, flux1_error *err)
{
    char *path = history_picture_path(s, name), *text = NULL;
    const flux1_status st =
        path ? file_read(path, (size_t)1 << 31, &text, count, err) : error_oom(err, 0, "a file name");
    free(path);
    *bytes = (uint8_t *)text;
    return st;
}

/* Frees the path; NULL: no memory. */
static flux1_status write_file(char *path, const void *bytes, size_t count, flux1_error *err)
{
    if (!path)
        return error_oom(err, 0, "a file name");
    const flux1_status st = file_write(path, bytes, count, err);
    free(path);
    return st;
}

flux1_status history_write_picture(history *s, const char *name, const void *bytes, size_t count, flux1_error *err)
{
    return write_file(history_picture_path(s, name), bytes, count, err);
}

bool history_write_thumbnail(history *s, const char *name, const void *bytes, size_t count)
{
    return write_file(thumbnail_path(s, name), bytes, count, NULL) == FLUX1_OK;
}

flux1_status history_write_scratch(history *s, const void *bytes, size_t count, char **path, flux1_error *err)
{
    char name[RANDOM_NAME];
    *path = random_name(name) ? path_join(s->folder, name) : NULL;
    const flux1_status st = *path ? file_write(*path, bytes, count, err) : error_oom(err, 0, "a file name");
    if (st == FLUX1_OK)
        return st;
    free(*path);
    *path = NULL;
    return st;
}

void history_remove_pictures(const history *s, const char *text)
{
    json_value *root = NULL;
    if (json_parse(text, strlen(text), "a stored job", &root, NULL) != FLUX1_OK)
        return;
    const json_value *list = json_object_get(root, "pictures");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *url = json_string_value(json_object_get(json_array_get(list, i), "url"));
        const char *name =
            url && strncmp(url, HISTORY_URL, strlen(HISTORY_URL)) == 0 ? url + strlen(HISTORY_URL) : NULL;
        char *path = name ? history_picture_path(s, name) : NULL, *small = name ? thumbnail_path(s, name) : NULL;
        if (path)
            unlink(path);
        if (small)
            unlink(small);
        free(path);
        free(small);
    }
    json_free(root);
}
