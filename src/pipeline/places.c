#include "pipeline/places.h"

#include "base/builder.h"
#include "base/file.h"
#include "base/hub.h"
#include "base/listing.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER_DEPTH 2 /* of folders below one of a known name, or below one that is named */
#define ANCESTORS 4    /* folders above a given file that may have a known name: models/unet/flux/schnell/x.gguf */

/* What lies in a folder of a known name: a bit a component, and one for adapters. */
#define HOLDS(c) (1u << COMPONENT_##c)
#define HOLDS_ENCODERS (HOLDS(CLIP) | HOLDS(T5))
#define HOLDS_PARTS (HOLDS_ENCODERS | HOLDS(DIT) | HOLDS(VAE))
#define HOLDS_ADAPTERS (1u << COMPONENTS)

/* ComfyUI's names of the folders in models/, then those of Forge and SwarmUI; upper and lower case are alike. */
static const struct {
    const char *name;
    unsigned holds;
    bool later; /* files of other kinds too, many and large: looked at after the others */
} known_folders[] = {
    {"text_encoders", HOLDS_ENCODERS, false}, {"clip", HOLDS_ENCODERS, false},
    {"text_encoder", HOLDS_ENCODERS, false},  {"vae", HOLDS(VAE), false},
    {"diffusion_models", HOLDS(DIT), false},  {"unet", HOLDS(DIT), false},
    {"checkpoints", HOLDS_PARTS, true},       {"stable-diffusion", HOLDS_PARTS, true},
    {"loras", HOLDS_ADAPTERS, false},         {"lora", HOLDS_ADAPTERS, false},
};

/* Repositories of the Hugging Face hub that hold a part. */
static const struct {
    component part;
    const char *repository;
} repositories[] = {
    {COMPONENT_CLIP, "comfyanonymous/flux_text_encoders"}, {COMPONENT_CLIP, "black-forest-labs/FLUX.1-schnell"},
    {COMPONENT_CLIP, "black-forest-labs/FLUX.1-dev"},      {COMPONENT_T5, "comfyanonymous/flux_text_encoders"},
    {COMPONENT_T5, "city96/t5-v1_1-xxl-encoder-gguf"},     {COMPONENT_T5, "black-forest-labs/FLUX.1-schnell"},
    {COMPONENT_T5, "black-forest-labs/FLUX.1-dev"},        {COMPONENT_VAE, "black-forest-labs/FLUX.1-schnell"},
    {COMPONENT_VAE, "black-forest-labs/FLUX.1-dev"},
};

const char *places_command(component c)
{
    static const char *const commands[COMPONENTS] = {
        [COMPONENT_CLIP] = "flux1 pull comfyanonymous/flux_text_encoders --file clip_l.safetensors",
        [COMPONENT_T5] = "flux1 pull comfyanonymous/flux_text_encoders --file t5xxl_fp16.safetensors",
        [COMPONENT_DIT] = "flux1 pull city96/FLUX.1-schnell-gguf --file flux1-schnell-Q8_0.gguf",
        [COMPONENT_VAE] = "flux1 pull black-forest-labs/FLUX.1-schnell --file ae.safetensors"};
    return commands[c];
}

/* ---- one place more ---- */

typedef struct maker {
    places *out;
    unsigned wanted; /* HOLDS_… */
    int group;
    flux1_error *err;
} maker;

/* `path` is the list's, also on failure. What is no folder, or is in the list, is left out. */
static flux1_status add(maker *m, char *path, const char *why, int depth)
{
    struct stat info;
    if (!path)
        return error_oom(m->err, 0, "a path");
    bool known = stat(path, &info) != 0 || !S_ISDIR(info.st_mode);
    for (size_t i = 0; !known && i < m->out->count; i++)
        known = m->out->place[i].device == (uint64_t)info.st_dev && m->out->place[i].inode == (uint64_t)info.st_ino &&
                m->out->place[i].depth >= depth;
    place *larger = known ? NULL : realloc(m->out->place, (m->out->count + 1) * sizeof *larger);
    if (!larger) {
        free(path);
        return known ? FLUX1_OK : error_oom(m->err, 0, "the places of parts");
    }
    m->out->place = larger;
    m->out->place[m->out->count++] = (place){.path = path,
                                             .why = why,
                                             .depth = depth,
                                             .group = m->group,
                                             .device = (uint64_t)info.st_dev,
                                             .inode = (uint64_t)info.st_ino};
    return FLUX1_OK;
}

static int known_folder(const char *name)
{
    for (int i = 0; i < (int)(sizeof known_folders / sizeof *known_folders); i++)
        if (strcasecmp(known_folders[i].name, name) == 0)
            return i;
    return -1;
}

bool places_know(const char *name) { return known_folder(name) >= 0; }

/* A pipeline's own folder text_encoder or vae is none of those known by name. */
static flux1_status add_known(maker *m, const char *root, const listing *l, bool later, const char *why)
{
    m->group++;
    for (size_t i = 0; i < l->count; i++) {
        const int k = known_folder(l->name[i]);
        if (k < 0 || known_folders[k].later != later || !(known_folders[k].holds & m->wanted))
            continue;
        char *path = path_join(root, l->name[i]);
        if (path && file_exists_in(path, "config.json"))
            free(path);
        else
            TRY(add(m, path, why, FOLDER_DEPTH));
    }
    return FLUX1_OK;
}

/* The folders of known names in `root`: ComfyUI's models, say. */
static flux1_status add_layout(maker *m, const char *root, const char *why)
{
    listing l;
    flux1_error one = {0};
    if (listing_read(root, &l, &one) != FLUX1_OK)
        return error_pass_memory(&one, m->err);
    flux1_status st = add_known(m, root, &l, false, why);
    if (st == FLUX1_OK)
        st = add_known(m, root, &l, true, why);
    listing_free(&l);
    return st;
}

/* The same, also where `root` is ComfyUI's own folder, with models in it. */
static flux1_status add_root(maker *m, const char *root, const char *why)
{
    char *models = path_join(root, "models");
    if (!models)
        return error_oom(m->err, 0, "a path");
    flux1_status st = add_layout(m, root, why);
    if (st == FLUX1_OK)
        st = add_layout(m, models, why);
    free(models);
    return st;
}

/* ---- beside what is given ---- */

/* "a/b" of "a/b/c", "." of "c"; malloc'd. */
static char *folder_of(const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    while (end > 0 && path[end - 1] != '/')
        end--;
    if (end == 0)
        return strdup(".");
    while (end > 1 && path[end - 1] == '/')
        end--;
    return strndup(path, end);
}

/* Absolute, as it is written (a link among its folders may be how a layout is made), without slashes at its end. */
static char *absolute(const char *path)
{
    char *here = path[0] == '/' ? NULL : getcwd(NULL, 0), *whole = NULL;
    if (path[0] == '/')
        whole = strdup(path);
    else if (here)
        whole = strcmp(path, ".") == 0 ? strdup(here) : path_join(here, path);
    free(here);
    for (size_t n = whole ? strlen(whole) : 0; n > 1 && whole[n - 1] == '/';)
        whole[--n] = '\0';
    return whole;
}

/* The layout that `folder` is part of: one of its nearest ancestors, itself included, has a known name. */
static flux1_status add_ancestors(maker *m, const char *folder, const char *why)
{
    flux1_status st = FLUX1_OK;
    char *at = absolute(folder);
    if (!at)
        return error_oom(m->err, 0, "a path");
    for (int i = 0; st == FLUX1_OK && i < ANCESTORS && strcmp(at, "/") != 0; i++) {
        const bool known = known_folder(strrchr(at, '/') + 1) >= 0;
        char *up = folder_of(at);
        free(at);
        if (!(at = up))
            return error_oom(m->err, 0, "a path");
        if (known)
            st = add_layout(m, at, why);
    }
    free(at);
    return st;
}

static flux1_status add_folder(maker *m, const char *folder, const char *why, int depth)
{
    m->group++;
    TRY(add(m, strdup(folder), why, depth));
    TRY(add_root(m, folder, why));
    return add_ancestors(m, folder, "in the same folders of models");
}

/* A folder that holds one part, with its config.json, counts as a file. */
static bool is_folder_of_files(const char *path)
{
    return file_is_directory(path) && !file_exists_in(path, "config.json");
}

/* Where the file is, and where it really is if it is a link; not the blobs of Hugging Face's cache, which have no
 * names. */
static flux1_status add_given(maker *m, const char *given)
{
    if (is_folder_of_files(given))
        return add_folder(m, given, "in it", FOLDER_DEPTH);
    char real[PATH_MAX];
    const bool there = realpath(given, real);
    char *beside = folder_of(given), *really = there ? folder_of(real) : NULL;
    flux1_status st = beside && (really || !there) ? FLUX1_OK : error_oom(m->err, 0, "a path");
    if (st == FLUX1_OK)
        st = add_folder(m, beside, "beside it", 0);
    if (st == FLUX1_OK && there && strcmp(strrchr(really, '/') + 1, "blobs") != 0)
        st = add_folder(m, really, "beside it", 0);
    free(beside);
    free(really);
    return st;
}

/* ---- FLUX1_PATH and the cache ---- */

static flux1_status add_named(maker *m)
{
    const char *path = getenv("FLUX1_PATH");
    while (path && *path) {
        const size_t n = strcspn(path, ":");
        char *folder = n ? strndup(path, n) : strdup("."); /* as in PATH */
        m->group++;
        flux1_status st = add(m, folder ? strdup(folder) : NULL, "in FLUX1_PATH", 0);
        if (st == FLUX1_OK)
            st = add_root(m, folder, "in FLUX1_PATH");
        free(folder);
        TRY(st);
        path += n + (path[n] == ':');
    }
    return FLUX1_OK;
}

static flux1_status add_cached(maker *m, component c)
{
    char *root, *snapshot;
    hub_name name;
    flux1_error one = {0};
    if (hub_cache_root(&root, &one) != FLUX1_OK)
        return error_pass_memory(&one, m->err);
    flux1_status st = FLUX1_OK;
    for (size_t i = 0; st == FLUX1_OK && i < sizeof repositories / sizeof *repositories; i++) {
        if (repositories[i].part != c || hub_name_parse(repositories[i].repository, &name, NULL) != FLUX1_OK)
            continue;
        m->group++;
        if (hub_snapshot(root, &name, &snapshot, &one) != FLUX1_OK)
            st = error_pass_memory(&one, m->err);
        else
            st = add(m, snapshot, "in Hugging Face's cache", FOLDER_DEPTH);
    }
    free(root);
    return st;
}

flux1_status places_of_part(component c, const char *const *given, size_t count, places *out, flux1_error *err)
{
    maker m = {.out = out, .wanted = 1u << c, .err = err};
    *out = (places){0};
    for (size_t i = 0; i < count; i++)
        TRY(add_given(&m, given[i]));
    TRY(add_named(&m));
    return add_cached(&m, c);
}

flux1_status places_of_folder(component c, const char *folder, places *out, flux1_error *err)
{
    maker m = {.out = out, .wanted = 1u << c, .err = err};
    *out = (places){0};
    TRY(add(&m, strdup(folder), "in it", FOLDER_DEPTH));
    return add_root(&m, folder, "in it");
}

flux1_status places_of_adapters(const char *const *given, size_t count, places *out, flux1_error *err)
{
    maker m = {.out = out, .wanted = HOLDS_ADAPTERS, .err = err};
    *out = (places){0};
    for (size_t i = 0; i < count; i++)
        TRY(add_given(&m, given[i]));
    return add_named(&m);
}

void places_free(places *p)
{
    for (size_t i = 0; i < p->count; i++)
        free(p->place[i].path);
    free(p->place);
    *p = (places){0};
}
