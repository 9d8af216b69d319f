#include "tools/convert.h"

#include "base/listing.h"
#include "pipeline/folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const part_names[MODEL_PARTS] = {
    [MODEL_CLIP] = "clip", [MODEL_T5] = "t5", [MODEL_TRANSFORMER] = "transformer", [MODEL_VAE] = "vae"};

static flux1_status part_named(const char *name, model_part *out, flux1_error *err)
{
    for (int i = 0; i < MODEL_PARTS; i++)
        if (strcmp(part_names[i], name) == 0) {
            *out = (model_part)i;
            return FLUX1_OK;
        }
    return error_set(err, FLUX1_ERR_ARGUMENT, "part \"%s\": it should be transformer, t5, clip or vae", name);
}

static component component_of(model_part part)
{
    int c = 0;
    while (component_part((component)c) != part)
        c++;
    return (component)c;
}

/* ---- files ---- */

static flux1_status open_file(const char *path, bool chosen, model_part *part, store **s, flux1_error *err)
{
    store_contents held;
    char names[64] = "";
    size_t used = 0;
    int count = 0;
    TRY(store_look(path, &held, err));
    for (int i = 0; i < MODEL_PARTS; i++) {
        if (!held.prefix[i])
            continue;
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", count++ ? ", " : "", part_names[i]);
        if (!chosen)
            *part = (model_part)i;
    }
    if (!chosen && count > 1)
        return error_set(err, FLUX1_ERR_ARGUMENT, "%s: holds several parts (%s); say which one is meant", path, names);
    return store_open_part(path, *part, s, err);
}

/* ---- folders ---- */

static const char *const stems[] = {"diffusion_pytorch_model", "model", NULL};

/* Whether it is the folder of one part: weights lie in it, in any variant. */
static flux1_status has_weights(const char *folder, bool *found, flux1_error *err)
{
    char variant[WEIGHT_VARIANT_MAX];
    listing l;
    *found = false;
    TRY(listing_read(folder, &l, err));
    for (size_t i = 0; !*found && i < l.count; i++)
        *found = weight_name(l.name[i], variant) != WEIGHT_NONE;
    listing_free(&l);
    return FLUX1_OK;
}

static bool is_part(const store *s, model_part part)
{
    for (const char *const *sign = name_map_of(part)->signs; *sign; sign++)
        if (store_find(s, *sign))
            return true;
    return false;
}

/* A part's own folder, with diffusers' names. */
static flux1_status open_component(const char *folder, const char *variant, bool chosen, model_part *part, store **s,
                                   flux1_error *err)
{
    int found = MODEL_PARTS;
    TRY(store_open(folder, stems, variant, s, err));
    for (int i = 0; i < MODEL_PARTS; i++)
        found = is_part(*s, (model_part)i) ? i : found;
    if (found < MODEL_PARTS && (!chosen || (model_part)found == *part)) {
        *part = (model_part)found;
        return FLUX1_OK;
    }
    store_close(*s);
    *s = NULL;
    if (found == MODEL_PARTS)
        return error_set(err, FLUX1_ERR_MODEL, "%s: its weights are of no part of FLUX.1", folder);
    return error_set(err, FLUX1_ERR_MODEL, "%s: holds the %s, not the %s", folder, part_names[found],
                     part_names[*part]);
}

/* Whether it is a pipeline folder: it has one of the parts' folders. */
static bool has_parts(const char *path)
{
    bool found = false;
    for (int c = 0; !found && c < COMPONENTS; c++) {
        char *folder = path_join(path, component_folder((component)c));
        found = !folder || file_is_directory(folder);
        free(folder);
    }
    return found;
}

static flux1_status open_folder(const char *path, const char *variant, bool chosen, model_part *part, store **s,
                                flux1_error *err)
{
    bool single;
    TRY(has_weights(path, &single, err));
    if (single)
        return open_component(path, variant, chosen, part, s, err);
    if (!chosen && !has_parts(path))
        return error_set(err, FLUX1_ERR_MODEL, "%s: a folder without weights of FLUX.1", path);
    if (!chosen)
        return error_set(err, FLUX1_ERR_ARGUMENT,
                         "%s: a folder of several parts; say which one is meant: transformer, t5, clip or vae", path);
    char *folder = path_join(path, component_folder(component_of(*part)));
    flux1_status st = folder ? open_component(folder, variant, true, part, s, err) : error_oom(err, 0, "a path");
    free(folder);
    return st;
}

flux1_status convert_open(const char *path, const char *part, const char *variant, model_part *out, store **s,
                          flux1_error *err)
{
    *s = NULL;
    if (part)
        TRY(part_named(part, out, err));
    bool there;
    TRY(file_find(path, &there, err));
    if (!there)
        return error_set(err, FLUX1_ERR_IO, "%s: no such file or folder", path);
    TRY(file_is_directory(path) ? open_folder(path, variant, part, out, s, err) : open_file(path, part, out, s, err));
    if (!variant || strcmp(store_variant(*s), variant) == 0)
        return FLUX1_OK;
    store_close(*s);
    *s = NULL;
    return error_set(err, FLUX1_ERR_MODEL, "%s: there are no weights of the file variant \"%s\"", path, variant);
}
