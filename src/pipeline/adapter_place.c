#include "pipeline/adapter_place.h"

#include "base/builder.h"
#include "base/file.h"
#include "base/listing.h"
#include "pipeline/places.h"
#include "pipeline/resolve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENDING ".safetensors"
#define USUAL "pytorch_lora_weights" ENDING /* what diffusers' training writes, and its loading prefers */

/* folder/name or folder/name.safetensors, if there is one. */
static flux1_status try_name(const char *folder, const char *name, char **path, flux1_error *err)
{
    char whole[FOLDER_PATH_MAX];
    const int n = snprintf(whole, sizeof whole, "%s" ENDING, name);
    const char *there = file_exists_in(folder, name)                                         ? name
                        : n > 0 && (size_t)n < sizeof whole && file_exists_in(folder, whole) ? whole
                                                                                             : NULL;
    if (there && !(*path = path_join(folder, there)))
        return error_oom(err, 0, "a path");
    if (*path && file_is_directory(*path)) {
        free(*path);
        *path = NULL;
    }
    return FLUX1_OK;
}

static flux1_status find_in(const char *folder, const char *name, int depth, char **path, flux1_error *err)
{
    listing l;
    flux1_error one = {0};
    TRY(try_name(folder, name, path, err));
    if (*path || depth == 0)
        return FLUX1_OK;
    if (listing_read(folder, &l, &one) != FLUX1_OK)
        return error_pass_memory(&one, err);
    flux1_status st = FLUX1_OK;
    for (size_t i = 0; st == FLUX1_OK && !*path && i < l.count; i++) {
        char *below = path_join(folder, l.name[i]);
        if (!below)
            st = error_oom(err, 0, "a path");
        else if (file_is_directory(below))
            st = find_in(below, name, depth - 1, path, err);
        free(below);
    }
    listing_free(&l);
    return st;
}

static flux1_status find_in_places(const char *const *given, size_t count, const char *name, char **path,
                                   flux1_error *err)
{
    places p;
    flux1_status st = places_of_adapters(given, count, &p, err);
    for (size_t i = 0; st == FLUX1_OK && !*path && i < p.count; i++)
        st = find_in(p.place[i].path, name, p.place[i].depth, path, err);
    places_free(&p);
    return st;
}

/* The only file of weights in a snapshot or folder, or the one of the usual name. */
static flux1_status only_file(const char *name, const char *folder, char **path, flux1_error *err)
{
    listing l;
    builder b = {0};
    char *names = NULL;
    const char *first = NULL;
    int count = 0;
    bool usual = false;
    TRY(listing_read(folder, &l, err));
    for (size_t i = 0; i < l.count; i++) {
        const size_t n = strlen(l.name[i]);
        if (n <= strlen(ENDING) || strcmp(l.name[i] + n - strlen(ENDING), ENDING) != 0)
            continue;
        usual = usual || strcmp(l.name[i], USUAL) == 0;
        first = first ? first : l.name[i];
        builder_format(&b, "%s%s/%s", count++ ? ", " : "", name, l.name[i]);
    }
    flux1_status st = builder_take(&b, "the names of files", &names, err);
    first = usual ? USUAL : first;
    if (st == FLUX1_OK && count != 1 && !usual)
        st = error_set(err, FLUX1_ERR_MODEL, "%s: %s in its folder %s%s%s", name,
                       count ? "several files of weights are" : "there is no file of weights (" ENDING ")", folder,
                       count ? "; name one of them: " : "", names);
    else if (st == FLUX1_OK && !(*path = path_join(folder, first)))
        st = error_oom(err, 0, "a path");
    free(names);
    listing_free(&l);
    return st;
}

/* A name that is no path was looked for in more than one folder. */
static flux1_status check_found(const char *name, const char *path, flux1_error *err)
{
    bool there = true;
    if (!strchr(name, '/'))
        TRY(file_find(path, &there, err));
    return there ? FLUX1_OK
                 : error_set(err, FLUX1_ERR_IO,
                             "%s: there is no such adapter here, in a folder loras beside the model, or in the folders "
                             "of FLUX1_PATH",
                             name);
}

flux1_status adapter_locate_beside(const char *const *given, size_t count, const char *name, char **path,
                                   flux1_error *err)
{
    resolved r;
    *path = NULL;
    if (!file_exists(name) && name[0] != '/')
        TRY(find_in_places(given, count, name, path, err));
    if (*path)
        return FLUX1_OK;
    flux1_status st = resolve(name, &r, err);
    if (st == FLUX1_OK && file_is_directory(r.path)) {
        st = only_file(name, r.path, path, err);
    } else if (st == FLUX1_OK && (st = check_found(name, r.path, err)) == FLUX1_OK) {
        *path = r.path;
        r.path = NULL;
    }
    resolved_free(&r);
    return st;
}

flux1_status adapter_locate(const model_source *model, const char *name, char **path, flux1_error *err)
{
    const char *given[COMPONENTS + 1];
    size_t count = 0;
    if (model->model[0] && !model->synthetic)
        given[count++] = model->model;
    for (int c = 0; c < COMPONENTS; c++)
        if (model->part[c][0])
            given[count++] = model->part[c];
    return adapter_locate_beside(given, count, name, path, err);
}
