#include "ops/cuda/search.h"

#include "base/builder.h"
#include "base/file.h"

#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Takes `path`, which may be NULL (memory has run out). */
static flux1_status add_taken(cuda_search *s, char *path, flux1_error *err)
{
    char **more = path ? realloc(s->folder, (s->count + 1) * sizeof *more) : NULL;
    if (!more) {
        free(path);
        return error_oom(err, 0, "the folders of NVIDIA's libraries");
    }
    s->folder = more;
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(more[i], path) == 0) {
            free(path);
            return FLUX1_OK;
        }
    more[s->count++] = path;
    return FLUX1_OK;
}

static flux1_status add(cuda_search *s, const char *path, flux1_error *err) { return add_taken(s, strdup(path), err); }

/* The parts of a list between colons, without the empty ones. */
static flux1_status add_named(cuda_search *s, const char *list, flux1_error *err)
{
    for (size_t length; list && *list; list += length + (list[length] == ':')) {
        length = strcspn(list, ":");
        if (length > 0)
            TRY(add_taken(s, strndup(list, length), err));
    }
    s->named = s->count;
    return FLUX1_OK;
}

/* A path as a pattern of glob that means nothing but this path. */
static void add_literal(builder *b, const char *path)
{
    for (; *path; path++) {
        if (strchr("*?[]\\", *path))
            builder_add(b, "\\");
        builder_add_bytes(b, path, 1);
    }
}

/* The folders that match <prefix><pattern>, by name. */
static flux1_status add_matching(cuda_search *s, const char *prefix, const char *pattern, flux1_error *err)
{
    builder b = {0};
    char *text;
    glob_t found;
    flux1_status st = FLUX1_OK;
    add_literal(&b, prefix);
    builder_add(&b, pattern);
    TRY(builder_take(&b, "a pattern of paths", &text, err));
    int result = glob(text, GLOB_ONLYDIR, NULL, &found);
    free(text);
    if (result == GLOB_NOSPACE)
        return error_oom(err, 0, "the folders of NVIDIA's libraries");
    if (result != 0) /* nothing, or nothing that may be read */
        return FLUX1_OK;
    for (size_t i = 0; i < found.gl_pathc && st == FLUX1_OK; i++)
        st = add(s, found.gl_pathv[i], err);
    globfree(&found);
    return st;
}

/* What was installed under `prefix`; NULL and "" are none. */
static flux1_status add_prefix(cuda_search *s, const char *prefix, flux1_error *err)
{
    static const char *const patterns[] = {"/lib/python3.*/site-packages/nvidia/*/lib",
                                           "/lib/python3.*/dist-packages/nvidia/*/lib"};
    for (size_t i = 0; prefix && *prefix && i < sizeof patterns / sizeof *patterns; i++)
        TRY(add_matching(s, prefix, patterns[i], err));
    return FLUX1_OK;
}

/* The prefix that the program `path` was installed under: /opt/x of /opt/x/bin/python3. */
static flux1_status add_prefix_of(cuda_search *s, char *path, flux1_error *err)
{
    for (int i = 0; i < 2; i++) {
        char *slash = strrchr(path, '/');
        if (!slash)
            return FLUX1_OK;
        *slash = 0;
    }
    TRY(add_prefix(s, path, err));
    return strcmp(path, "/usr") == 0 ? add_prefix(s, "/usr/local", err) : FLUX1_OK; /* where Debian's pip installs */
}

/* The first python3 on PATH, under the name it has there (a virtual environment's is a link), and where that leads. */
static flux1_status add_python(cuda_search *s, const char *path, flux1_error *err)
{
    char program[PATH_MAX], real[PATH_MAX];
    for (size_t length; path && *path; path += length + (path[length] == ':')) {
        length = strcspn(path, ":");
        if (length == 0 || *path != '/' || length + sizeof "/python3" > sizeof program)
            continue;
        snprintf(program, sizeof program, "%.*s/python3", (int)length, path);
        if (access(program, X_OK) != 0)
            continue;
        bool leads = realpath(program, real) != NULL;
        TRY(add_prefix_of(s, program, err));
        return leads ? add_prefix_of(s, real, err) : FLUX1_OK;
    }
    return FLUX1_OK;
}

static flux1_status add_home(cuda_search *s, const char *home, flux1_error *err)
{
    if (!home || !*home)
        return FLUX1_OK;
    char *local = path_join(home, ".local");
    if (!local)
        return error_oom(err, 0, "the folders of NVIDIA's libraries");
    flux1_status st = add_prefix(s, local, err);
    free(local);
    return st;
}

static flux1_status add_all(cuda_search *s, flux1_error *err)
{
    const char *conda = getenv("CONDA_PREFIX");
    TRY(add_named(s, getenv("FLUX1_CUDA_LIBRARIES"), err));
    TRY(add_matching(s, "/usr/local/cuda/lib64", "", err));
    TRY(add_prefix(s, getenv("VIRTUAL_ENV"), err));
    TRY(add_prefix(s, conda, err));
    if (conda && *conda)
        TRY(add_matching(s, conda, "/lib", err));
    TRY(add_python(s, getenv("PATH"), err));
    return add_home(s, getenv("HOME"), err);
}

flux1_status cuda_search_folders(cuda_search *out, flux1_error *err)
{
    *out = (cuda_search){0};
    flux1_status st = add_all(out, err);
    if (st != FLUX1_OK)
        cuda_search_free(out);
    return st;
}

void cuda_search_free(cuda_search *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->folder[i]);
    free(s->folder);
    *s = (cuda_search){0};
}
