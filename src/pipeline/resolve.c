#include "pipeline/resolve.h"

#include "base/builder.h"
#include "base/ending.h"
#include "base/file.h"
#include "base/hub.h"
#include "base/listing.h"
#include "pipeline/search.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PREFIX "models--" /* of a repository's folder in the cache */
#define NAMED_MAX 3       /* files that a message names; the rest are counted */

/* ---- folders of the cache ---- */

/* "org/name" of ".../models--org--name/snapshots/commit/…" in `out`; false if the path is no such one. */
static bool repository_of(const char *path, char out[PATH_MAX])
{
    char whole[PATH_MAX];
    const char *at = realpath(path, whole) ? strstr(whole, "/" PREFIX) : NULL;
    if (!at)
        return false;
    snprintf(out, PATH_MAX, "%s", at + strlen("/" PREFIX));
    out[strcspn(out, "/")] = '\0';
    char *dashes = strstr(out, "--");
    if (!dashes)
        return false;
    *dashes = '/';
    memmove(dashes + 1, dashes + 2, strlen(dashes + 2) + 1);
    return true;
}

/* *path: the only snapshot there is, in a repository whose main branch is not noted; NULL if that is not so. */
static flux1_status only_snapshot(const char *snapshots, char **path, flux1_error *err)
{
    listing l = {0};
    flux1_error one = {0};
    if (listing_read(snapshots, &l, &one) != FLUX1_OK)
        return error_pass_memory(&one, err);
    flux1_status st = FLUX1_OK;
    if (l.count == 1 && !(*path = path_join(snapshots, l.name[0])))
        st = error_oom(err, 0, "a path");
    listing_free(&l);
    return st;
}

/* *path: the snapshot of the main branch, or the only one there is; NULL if there is none. `folder`: a repository's. */
static flux1_status snapshot_in(const char *folder, char **path, flux1_error *err)
{
    char commit[HUB_COMMIT + 1];
    flux1_error one = {0};
    char *all = path_join(folder, "snapshots");
    *path = NULL;
    if (!all)
        return error_oom(err, 0, "a path");
    flux1_status st = FLUX1_OK;
    if (hub_commit(folder, "main", commit, &one) != FLUX1_OK)
        st = error_pass_memory(&one, err);
    else if (file_exists_in(all, commit) && !(*path = path_join(all, commit)))
        st = error_oom(err, 0, "a path");
    if (st == FLUX1_OK && !*path)
        st = only_snapshot(all, path, err);
    free(all);
    return st;
}

/* What pipelines a folder that is Hugging Face's cache holds. */
typedef struct cache_contents {
    bool is_cache;
    int pipelines;
    char *first; /* its snapshot */
    builder names;
} cache_contents;

static flux1_status look_at_repository(const char *root, const char *name, cache_contents *out, flux1_error *err)
{
    char repository[PATH_MAX], *folder = path_join(root, name), *snapshot = NULL;
    bool pipeline = false;
    flux1_status st = folder ? snapshot_in(folder, &snapshot, err) : error_oom(err, 0, "a path");
    if (st == FLUX1_OK && snapshot)
        st = search_is_pipeline(snapshot, &pipeline, err);
    if (st == FLUX1_OK && pipeline) {
        builder_format(&out->names, "%s%s", out->pipelines++ ? ", " : "",
                       repository_of(snapshot, repository) ? repository : snapshot);
        if (!out->first) {
            out->first = snapshot;
            snapshot = NULL;
        }
    }
    free(snapshot);
    free(folder);
    return st;
}

static flux1_status look_at_cache(const char *root, cache_contents *out, flux1_error *err)
{
    listing l;
    flux1_error one = {0};
    flux1_status st = FLUX1_OK;
    if (listing_read(root, &l, &one) != FLUX1_OK)
        return error_pass_memory(&one, err);
    for (size_t i = 0; st == FLUX1_OK && i < l.count; i++)
        if (strncmp(l.name[i], PREFIX, strlen(PREFIX)) == 0) {
            out->is_cache = true;
            st = look_at_repository(root, l.name[i], out, err);
        }
    listing_free(&l);
    return st;
}

/* *path: the snapshot of the cache's only pipeline; NULL if `root` is no cache. */
static flux1_status from_cache(const char *root, const char *said, char **path, flux1_error *err)
{
    cache_contents in = {0};
    char *names = NULL;
    flux1_status st = look_at_cache(root, &in, err);
    const flux1_status told = builder_take(&in.names, "the names of pipelines", &names, st == FLUX1_OK ? err : NULL);
    if (st == FLUX1_OK)
        st = told;
    if (st == FLUX1_OK && in.is_cache && in.pipelines == 0)
        st = error_set(err, FLUX1_ERR_MODEL,
                       "%s: Hugging Face's cache, without a pipeline of FLUX.1; to get one: flux1 pull "
                       "black-forest-labs/FLUX.1-schnell",
                       said);
    else if (st == FLUX1_OK && in.pipelines > 1)
        st = error_set(err, FLUX1_ERR_MODEL, "%s: Hugging Face's cache, with %d pipelines; name one of them: %s", said,
                       in.pipelines, names);
    if (st == FLUX1_OK)
        *path = in.first;
    else
        free(in.first);
    free(names);
    return st;
}

/* A folder that is there: the cache, a repository in it, or any other. */
static flux1_status resolve_folder(const char *text, resolved *out, flux1_error *err)
{
    if (file_exists_in(text, "model_index.json"))
        return FLUX1_OK;
    if (file_exists_in(text, "snapshots")) {
        TRY(snapshot_in(text, &out->path, err));
        return out->path ? FLUX1_OK
                         : error_set(err, FLUX1_ERR_MODEL,
                                     "%s: a repository of Hugging Face's cache without a snapshot of its main branch; "
                                     "name the folder of one in snapshots/",
                                     text);
    }
    TRY(from_cache(text, text, &out->path, err));
    if (out->path || !file_exists_in(text, "hub"))
        return FLUX1_OK;
    char *hub = path_join(text, "hub");
    const flux1_status st = hub ? from_cache(hub, text, &out->path, err) : error_oom(err, 0, "a path");
    free(hub);
    return st;
}

/* ---- org/name ---- */

static bool ends_like_a_file(const char *text)
{
    static const char *const endings[] = {".safetensors", ".gguf", ".sft", ".json", ".ckpt", ".pt", ".bin"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (ends_in_any_case(text, endings[i]))
            return true;
    return false;
}

/* Takes org/name[@revision][/file] apart; false if the text is not like that. *file points into `text`, or is NULL. */
static bool take_apart(const char *text, hub_name *name, const char **file)
{
    const char *slash = strchr(text, '/'), *second = slash && !strchr(text, '@') ? strchr(slash + 1, '/') : NULL;
    char head[PATH_MAX];
    const size_t length = second ? (size_t)(second - text) : strlen(text);
    if (length >= sizeof head)
        return false;
    memcpy(head, text, length);
    head[length] = '\0';
    if (second && !second[1]) /* "org/name/" */
        second = NULL;
    *file = second ? second + 1 : NULL;
    return hub_name_parse(head, name, NULL) == FLUX1_OK &&
           (second ? hub_path_valid(second + 1) : !ends_like_a_file(text));
}

/* *path: a snapshot of the revision, or the only one of a repository whose main branch is not noted; or NULL. */
static flux1_status cached_snapshot(const char *root, const hub_name *name, char **path, flux1_error *err)
{
    flux1_error one = {0};
    *path = NULL;
    if (hub_snapshot(root, name, path, &one) == FLUX1_OK || strcmp(name->revision, "main") != 0)
        return error_pass_memory(&one, err);
    TRY(error_pass_memory(&one, err));
    char *folder = hub_repository_folder(root, name);
    const flux1_status st = folder ? snapshot_in(folder, path, err) : error_oom(err, 0, "a path");
    free(folder);
    return st;
}

/* FLUX1_ERR_IO where a repository may be in the cache, but not be looked at. */
static flux1_status check_permission(const char *root, const hub_name *name, flux1_error *err)
{
    bool there;
    char *folder = hub_repository_folder(root, name), *inside = folder ? path_join(folder, "snapshots/.") : NULL;
    const flux1_status st = inside ? file_find(inside, &there, err) : error_oom(err, 0, "a path");
    free(inside);
    free(folder);
    return st;
}

static flux1_status resolve_file(const hub_name *name, const char *file, resolved *out, flux1_error *err)
{
    char *path = path_join(out->path, file);
    if (!path)
        return error_oom(err, 0, "a path");
    free(out->path);
    out->path = path;
    bool there;
    TRY(file_find(path, &there, err));
    if (there)
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_MODEL, "%s: %s is not in Hugging Face's cache; to get it: flux1 pull %s --file %s",
                     name->repository, file, name->repository, file);
}

/* Notes the repository, and what flux1 pull calls this revision of it. */
static flux1_status keep_names(const char *repository, const char *revision, resolved *out, flux1_error *err)
{
    builder b = {0};
    builder_add(&b, repository);
    if (strcmp(revision, "main") != 0)
        builder_format(&b, "@%s", revision);
    TRY(builder_take(&b, "a name", &out->pull, err));
    out->repository = strdup(repository);
    return out->repository ? FLUX1_OK : error_oom(err, 0, "a name");
}

/* The same for a snapshot that was named by its folder. */
static flux1_status keep_names_of(const char *snapshot, resolved *out, flux1_error *err)
{
    static const char between[] = "/snapshots/";
    char repository[PATH_MAX], whole[PATH_MAX], main[HUB_COMMIT + 1];
    flux1_error one = {0};
    if (!repository_of(snapshot, repository) || !realpath(snapshot, whole))
        return FLUX1_OK;
    char *commit = strstr(whole, between);
    if (commit) {
        *commit = '\0'; /* whole: the repository's folder */
        commit += sizeof between - 1;
        commit[strcspn(commit, "/")] = '\0';
    }
    const bool other = commit && hub_is_commit(commit) && hub_commit(whole, "main", main, &one) == FLUX1_OK &&
                       strcmp(commit, main) != 0;
    TRY(error_pass_memory(&one, err));
    return keep_names(repository, other ? commit : "main", out, err);
}

static flux1_status resolve_repository(const char *text, const hub_name *name, const char *file, resolved *out,
                                       flux1_error *err)
{
    char *root;
    TRY(hub_cache_root(&root, err));
    flux1_status st = keep_names(name->repository, name->revision, out, err);
    if (st == FLUX1_OK)
        st = cached_snapshot(root, name, &out->path, err);
    if (st == FLUX1_OK && !out->path)
        st = check_permission(root, name, err);
    if (st == FLUX1_OK && !out->path)
        st = error_set(err, FLUX1_ERR_MODEL,
                       "%s: there is no such file or folder, and %s is not in Hugging Face's cache (%s); to get it: "
                       "flux1 pull %s",
                       text, out->pull, root, out->pull);
    else if (st == FLUX1_OK && file)
        st = resolve_file(name, file, out, err);
    free(root);
    return st;
}

flux1_status resolve(const char *text, resolved *out, flux1_error *err)
{
    hub_name name;
    const char *file;
    bool there;
    *out = (resolved){0};
    TRY(file_find(text, &there, err));
    if (file_is_directory(text))
        TRY(resolve_folder(text, out, err));
    else if (!there && take_apart(text, &name, &file))
        return resolve_repository(text, &name, file, out, err);
    if (!out->path && !(out->path = strdup(text)))
        return error_oom(err, 0, "a path");
    return file_is_directory(out->path) ? keep_names_of(out->path, out, err) : FLUX1_OK;
}

void resolved_free(resolved *r)
{
    free(r->path);
    free(r->repository);
    free(r->pull);
    *r = (resolved){0};
}

/* ---- links that lead nowhere ---- */

static flux1_status find_dangling(const char *snapshot, const char *name, builder *names, size_t *count,
                                  flux1_error *err)
{
    struct stat info;
    listing l = {0};
    flux1_error one = {0};
    char path[PATH_MAX], *folder = path_join(snapshot, name);
    if (!folder)
        return error_oom(err, 0, "a path");
    if (listing_read(folder, &l, &one) == FLUX1_OK)
        for (size_t i = 0; i < l.count; i++) {
            snprintf(path, sizeof path, "%s/%s", folder, l.name[i]);
            if (lstat(path, &info) == 0 && S_ISLNK(info.st_mode) && !file_exists(path) && (*count)++ < NAMED_MAX)
                builder_format(names, "%s%s/%s", *count > 1 ? ", " : "", name, l.name[i]);
        }
    listing_free(&l);
    free(folder);
    return error_pass_memory(&one, err);
}

flux1_status resolve_check(const char *snapshot, const char *pull, const model_paths *named, flux1_error *err)
{
    static const char *const others[] = {"scheduler", "tokenizer", "tokenizer_2"};
    builder b = {0};
    size_t count = 0;
    char *names = NULL;
    flux1_status st = FLUX1_OK;
    for (int c = 0; st == FLUX1_OK && c < COMPONENTS; c++)
        if (!named->part[c])
            st = find_dangling(snapshot, component_folder((component)c), &b, &count, err);
    for (int i = 0; st == FLUX1_OK && i < (named->tokenizers ? 1 : 3); i++)
        st = find_dangling(snapshot, others[i], &b, &count, err);
    if (count > NAMED_MAX)
        builder_format(&b, " and %zu more", count - NAMED_MAX);
    if (st == FLUX1_OK)
        st = builder_take(&b, "the names of files", &names, err);
    if (st == FLUX1_OK && count)
        st = error_set(err, FLUX1_ERR_MODEL,
                       "%s: not downloaded completely, %s %s missing; to complete it: flux1 pull %s", snapshot, names,
                       count > 1 ? "are" : "is", pull);
    builder_free(&b);
    free(names);
    return st;
}
