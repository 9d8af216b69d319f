#include "weights/weights_choice.h"

#include "base/builder.h"
#include "base/file.h"
#include "base/listing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN_VARIANTS 8 /* in a message */

typedef struct search {
    const char *folder;
    const char *const *stems;
    weights_choice *out;
    flux1_error *err;
} search;

/* ---- one stem ---- */

static flux1_status name_of(const char *stem, const char *variant, bool is_index, char **out, flux1_error *err)
{
    builder b = {0};
    const char *dot = variant[0] ? "." : "";
    if (is_index)
        builder_format(&b, "%s.safetensors.index%s%s.json", stem, dot, variant);
    else
        builder_format(&b, "%s%s%s.safetensors", stem, dot, variant);
    return builder_take(&b, "a name", out, err);
}

/* *path: of the file if it is there, else NULL. */
static flux1_status look_for(search *s, const char *name, char **path)
{
    bool there = false;
    if (!(*path = path_join(s->folder, name)))
        return error_oom(s->err, 0, "a path");
    const flux1_status st = file_find(*path, &there, s->err);
    if (there)
        return st;
    free(*path);
    *path = NULL;
    return st;
}

static flux1_status take(search *s, char **path, bool is_index, const char *variant)
{
    s->out->path = *path;
    s->out->is_index = is_index;
    snprintf(s->out->variant, sizeof s->out->variant, "%s", variant);
    *path = NULL;
    return FLUX1_OK;
}

static flux1_status take_one_of_two(search *s, const char *stem, char **single, char **index, const char *variant)
{
    builder note = {0};
    const bool by_index = strcmp(stem, "model") != 0;
    builder_format(&note, "%s: %s is used, as %s does, and %s beside it is not", s->folder,
                   strrchr(by_index ? *index : *single, '/') + 1, by_index ? "diffusers" : "transformers",
                   strrchr(by_index ? *single : *index, '/') + 1);
    TRY(builder_take(&note, "a note", &s->out->note, s->err));
    return take(s, by_index ? index : single, by_index, variant);
}

static flux1_status try_stem(search *s, const char *stem, const char *variant)
{
    char *file = NULL, *list = NULL, *single = NULL, *index = NULL;
    flux1_status st;
    TRY_CLEANUP(name_of(stem, variant, false, &file, s->err));
    TRY_CLEANUP(name_of(stem, variant, true, &list, s->err));
    TRY_CLEANUP(look_for(s, file, &single));
    TRY_CLEANUP(look_for(s, list, &index));
    if (single && index)
        st = take_one_of_two(s, stem, &single, &index, variant);
    else if (single || index)
        st = take(s, single ? &single : &index, index != NULL, variant);
cleanup:
    free(file);
    free(list);
    free(single);
    free(index);
    return st;
}

static flux1_status try_stems(search *s, const char *variant)
{
    for (int i = 0; s->stems[i] && !s->out->path; i++)
        TRY(try_stem(s, s->stems[i], variant));
    return FLUX1_OK;
}

/* ---- a folder without plain weights ---- */

static bool has_stem(const search *s, const char *name)
{
    for (int i = 0; s->stems[i]; i++)
        if (strncmp(name, s->stems[i], strlen(s->stems[i])) == 0)
            return true;
    return false;
}

typedef struct contents {
    char variant[SHOWN_VARIANTS][WEIGHT_VARIANT_MAX];
    int variants;
    const char *shard, *pickle; /* one of them */
} contents;

static void note_variant(contents *c, const char *variant)
{
    for (int i = 0; i < c->variants; i++)
        if (strcmp(c->variant[i], variant) == 0)
            return;
    if (c->variants < SHOWN_VARIANTS)
        snprintf(c->variant[c->variants++], WEIGHT_VARIANT_MAX, "%s", variant);
}

static bool is_pickle(const char *name)
{
    static const char *const endings[] = {".bin", ".pt", ".pth", ".ckpt", ".bin.index.json"};
    const size_t n = strlen(name);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (n > strlen(endings[i]) && strcmp(name + n - strlen(endings[i]), endings[i]) == 0)
            return true;
    return false;
}

static void list_contents(const search *s, const listing *l, contents *out)
{
    char variant[WEIGHT_VARIANT_MAX];
    *out = (contents){0};
    for (size_t i = 0; i < l->count; i++) {
        const weight_kind kind = has_stem(s, l->name[i]) ? weight_name(l->name[i], variant) : WEIGHT_NONE;
        if (kind == WEIGHT_SHARD)
            out->shard = l->name[i];
        else if (kind != WEIGHT_NONE && variant[0])
            note_variant(out, variant);
        else if (is_pickle(l->name[i]))
            out->pickle = l->name[i];
    }
}

static flux1_status several(const search *s, const contents *c)
{
    char names[SHOWN_VARIANTS * (WEIGHT_VARIANT_MAX + 2)] = "";
    size_t at = 0;
    for (int i = 0; i < c->variants; i++)
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", c->variant[i]);
    return error_set(s->err, FLUX1_ERR_MODEL,
                     "%s: has no plain weights but several variants (%s); say which one with file_variant", s->folder,
                     names);
}

static flux1_status nothing(const search *s, const contents *c)
{
    const char *stem = s->stems[0];
    if (c->shard)
        return error_set(s->err, FLUX1_ERR_MODEL,
                         "%s: has shards (%s) but no %s.safetensors.index.json, which says what is in them; fetch it",
                         s->folder, c->shard, stem);
    if (c->pickle)
        return error_set(s->err, FLUX1_ERR_MODEL,
                         "%s: its weights are a pickle (%s), which could run any program when it is loaded; it has "
                         "neither %s.safetensors nor %s.safetensors.index.json: fetch the safetensors",
                         s->folder, c->pickle, stem, stem);
    return error_set(
        s->err, FLUX1_ERR_MODEL,
        "%s: has neither %s.safetensors nor %s.safetensors.index.json; fetch the weights (safetensors only)", s->folder,
        stem, stem);
}

static flux1_status take_only_variant(search *s, const contents *c)
{
    builder note = {0};
    if (c->variants > 1)
        return several(s, c);
    if (c->variants == 1)
        TRY(try_stems(s, c->variant[0]));
    if (!s->out->path)
        return nothing(s, c);
    if (s->out->note)
        return FLUX1_OK;
    builder_format(&note, "%s: %s is used, there are no plain weights", s->folder, strrchr(s->out->path, '/') + 1);
    return builder_take(&note, "a note", &s->out->note, s->err);
}

flux1_status weights_choose(const char *folder, const char *const *stems, const char *variant, weights_choice *out,
                            flux1_error *err)
{
    search s = {.folder = folder, .stems = stems, .out = out, .err = err};
    listing l;
    contents c;
    *out = (weights_choice){0};
    if (variant)
        TRY(try_stems(&s, variant));
    if (!out->path)
        TRY(try_stems(&s, ""));
    if (out->path)
        return FLUX1_OK;
    TRY(listing_read(folder, &l, err));
    list_contents(&s, &l, &c);
    const flux1_status st = take_only_variant(&s, &c);
    listing_free(&l);
    return st;
}

void weights_choice_free(weights_choice *c)
{
    free(c->path);
    free(c->note);
    *c = (weights_choice){0};
}
