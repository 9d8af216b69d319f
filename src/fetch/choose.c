#include "fetch/choose.h"

#include "base/builder.h"
#include "base/ending.h"
#include "base/weight_name.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN_NAMES 12 /* of a repository, in a message */

static const char *const folders[] = {"scheduler",   "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2",
                                      "transformer", "vae"};
enum { FOLDERS = sizeof folders / sizeof *folders };

/* ---- a pipeline's folders ---- */

/* The name in the folder; NULL if the path is not directly in it. */
static const char *in_folder(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    return strncmp(path, folder, n) == 0 && path[n] == '/' && !strchr(path + n + 1, '/') ? path + n + 1 : NULL;
}

/* Whether the folder has weights of this kind and variant. */
static bool has_weights(const hub_listing *l, const char *folder, weight_kind kind, const char *variant)
{
    for (size_t i = 0; i < l->count; i++) {
        char found[WEIGHT_VARIANT_MAX];
        const char *name = in_folder(l->names[i], folder);
        if (name && weight_name(name, found) == kind && strcmp(found, variant) == 0)
            return true;
    }
    return false;
}

static bool has_variant(const hub_listing *l, const char *folder, const char *variant)
{
    return has_weights(l, folder, WEIGHT_WHOLE, variant) || has_weights(l, folder, WEIGHT_INDEX, variant);
}

/* The variant of the folder's weights, where they have no plain form and no other variant; else "". */
static void only_variant(const hub_listing *l, const char *folder, char out[WEIGHT_VARIANT_MAX])
{
    bool several = false;
    out[0] = '\0';
    for (size_t i = 0; i < l->count; i++) {
        char found[WEIGHT_VARIANT_MAX];
        const char *name = in_folder(l->names[i], folder);
        const weight_kind kind = name ? weight_name(name, found) : WEIGHT_NONE;
        if (kind != WEIGHT_WHOLE && kind != WEIGHT_INDEX)
            continue;
        several = several || !found[0] || (out[0] && strcmp(out, found) != 0);
        memcpy(out, found, sizeof found);
    }
    if (several)
        out[0] = '\0';
}

static void choose_folder(const hub_listing *l, const char *folder, const char *variant, bool *chosen)
{
    char only[WEIGHT_VARIANT_MAX];
    if (!has_variant(l, folder, variant)) {
        only_variant(l, folder, only);
        variant = only;
    }
    const bool sharded = has_weights(l, folder, WEIGHT_INDEX, variant); /* then a whole file beside it is a copy */
    for (size_t i = 0; i < l->count; i++) {
        char found[WEIGHT_VARIANT_MAX];
        const char *name = in_folder(l->names[i], folder);
        weight_kind kind = name ? weight_name(name, found) : WEIGHT_NONE;
        if (kind != WEIGHT_NONE)
            chosen[i] = strcmp(found, variant) == 0 && (kind != WEIGHT_WHOLE) == sharded;
        else if (name)
            chosen[i] = ends_in(name, ".json") || ends_in(name, ".txt") || ends_in(name, ".model");
    }
}

/* ---- other repositories ---- */

static bool is_weights(const char *path) { return ends_in(path, ".safetensors") || ends_in(path, ".gguf"); }

/* Bytes of a path without its ending and shard number: shards of one model agree in them. */
static size_t set_length(const char *path)
{
    size_t n = strlen(path) - strlen(strrchr(path, '.'));
    return n - weight_shard_suffix(path, n);
}

static bool same_set(const char *a, const char *b)
{
    size_t n = set_length(a);
    return strcmp(a, b) == 0 || (n == set_length(b) && strncmp(a, b, n) == 0 &&
                                 weight_shard_suffix(a, strlen(a) - strlen(strrchr(a, '.'))) > 0);
}

/* Weights if there is only one choice; otherwise *why says what is wrong. */
static bool choose_only(const hub_listing *l, bool *chosen, const char **why)
{
    const char *first = NULL;
    *why = "it is no pipeline in diffusers' layout, and which of its weights to fetch must be said (file patterns)";
    for (size_t i = 0; i < l->count; i++) {
        const char *name = l->names[i];
        chosen[i] = is_weights(name) || (ends_in(name, ".json") && !strchr(name, '/'));
        if (is_weights(name) && first && !same_set(first, name))
            return false;
        first = is_weights(name) && !first ? name : first;
    }
    *why = "it has no weights (safetensors or GGUF)";
    return first != NULL;
}

/* ---- messages ---- */

/* "a, b, c and 40 more": weights first. */
static void add_names(builder *b, const hub_listing *l)
{
    size_t shown = 0;
    for (int weights = 1; weights >= 0; weights--)
        for (size_t i = 0; i < l->count && shown < SHOWN_NAMES; i++)
            if (is_weights(l->names[i]) == (weights == 1))
                builder_format(b, "%s%.150s", shown++ ? ", " : "", l->names[i]);
    if (l->count > shown)
        builder_format(b, " and %zu more", l->count - shown);
}

static flux1_status nothing_chosen(const hub_listing *l, const char *repository, const char *why, flux1_error *err)
{
    builder b = {0};
    char *names;
    add_names(&b, l);
    TRY(builder_take(&b, "a message", &names, err));
    error_set(err, FLUX1_ERR_ARGUMENT, l->count ? "%s: %s; it holds %s" : "%s: %s; it holds no files%s", repository,
              why, names);
    free(names);
    return FLUX1_ERR_ARGUMENT;
}

static bool matches(const char *path, const char *pattern)
{
    char folder[HUB_PATH_MAX + 2];
    if (ends_in(pattern, "/")) {
        snprintf(folder, sizeof folder, "%s*", pattern);
        pattern = folder;
    }
    return fnmatch(pattern, path, FNM_NOESCAPE) == 0;
}

/* Each pattern must match something: a misspelt one would go unnoticed. */
static flux1_status choose_matching(const hub_listing *l, const char *repository, const char *const *patterns,
                                    size_t count, bool *chosen, flux1_error *err)
{
    for (size_t p = 0; p < count; p++) {
        bool any = false;
        for (size_t i = 0; i < l->count; i++)
            if (matches(l->names[i], patterns[p]))
                any = chosen[i] = true;
        if (!any) {
            char why[400];
            snprintf(why, sizeof why, "no file of it matches \"%.300s\"", patterns[p]);
            return nothing_chosen(l, repository, why, err);
        }
    }
    return FLUX1_OK;
}

static bool has_file(const hub_listing *l, const char *path)
{
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->names[i], path) == 0)
            return true;
    return false;
}

/* A variant that no folder has is a mistake. */
static flux1_status choose_pipeline(const hub_listing *l, const char *repository, const char *variant, bool *chosen,
                                    flux1_error *err)
{
    bool any = !variant;
    for (size_t i = 0; i < l->count; i++)
        chosen[i] = strcmp(l->names[i], "model_index.json") == 0 || strcmp(l->names[i], "flux1.json") == 0;
    for (int f = 0; f < FOLDERS; f++) {
        any = any || has_variant(l, folders[f], variant);
        choose_folder(l, folders[f], variant ? variant : "", chosen);
    }
    char why[200];
    snprintf(why, sizeof why, "none of its folders has weights of the variant \"%.60s\"", variant ? variant : "");
    return any ? FLUX1_OK : nothing_chosen(l, repository, why, err);
}

flux1_status choose_files(const hub_listing *l, const char *repository, const char *variant,
                          const char *const *patterns, size_t pattern_count, bool *chosen, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    const char *why;
    size_t count = 0;
    memset(chosen, 0, l->count * sizeof *chosen);
    if (pattern_count > 0)
        st = choose_matching(l, repository, patterns, pattern_count, chosen, err);
    else if (has_file(l, "model_index.json"))
        st = choose_pipeline(l, repository, variant, chosen, err);
    else if (!choose_only(l, chosen, &why))
        st = nothing_chosen(l, repository, why, err);
    if (st != FLUX1_OK)
        return st;
    for (size_t i = 0; i < l->count; i++)
        count += chosen[i];
    if (count > CHOOSE_FILES_MAX)
        return error_set(err, FLUX1_ERR_LIMIT, "%s: %zu of its files would be fetched, at most %d can be", repository,
                         count, CHOOSE_FILES_MAX);
    return FLUX1_OK;
}
