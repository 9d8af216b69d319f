#include "pipeline/parts.h"

#include "base/file.h"
#include "model/sizes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The member of flux1_model_parts that names a component's file. */
static const char *const members[COMPONENTS] = {
    [COMPONENT_CLIP] = "clip", [COMPONENT_T5] = "t5", [COMPONENT_DIT] = "transformer", [COMPONENT_VAE] = "vae"};

/* ---- where ---- */

static flux1_status set_folder(part_source *s, char *folder, flux1_error *err)
{
    s->folder = folder;
    s->config = folder ? path_join(folder, "config.json") : NULL;
    return s->config ? FLUX1_OK : error_oom(err, 0, "a path");
}

/* A file of its own; the config of the folder's part still counts. */
static flux1_status set_file(part_source *s, const char *file, const char *folder, component c, flux1_error *err)
{
    char *name = NULL;
    s->file = file;
    if (!folder)
        return FLUX1_OK;
    if (!(name = path_join(folder, component_folder(c))) || !(s->config = path_join(name, "config.json"))) {
        free(name);
        return error_oom(err, 0, "a path");
    }
    free(name);
    bool there;
    TRY(file_find(s->config, &there, err));
    if (!there) {
        free(s->config);
        s->config = NULL;
    }
    return FLUX1_OK;
}

/* *found: whether the part is anywhere. `held`: what the file `model` holds, if it is one. */
static flux1_status find_part(const model_paths *paths, const store_contents *held, component c, parts *p, bool *found,
                              flux1_error *err)
{
    const char *own = paths->part[c];
    part_source *s = &p->part[c];
    *found = true;
    if (own && file_is_directory(own))
        return set_folder(s, strdup(own), err);
    if (own)
        return set_file(s, own, p->folder, c, err);
    if (p->folder)
        return set_folder(s, path_join(p->folder, component_folder(c)), err);
    *found = held->prefix[component_part(c)] != NULL;
    return *found ? set_file(s, paths->model, NULL, c, err) : FLUX1_OK;
}

static flux1_status find_parts(const model_paths *paths, const store_contents *held, parts *p, flux1_error *err)
{
    char missing[128] = "";
    size_t used = 0;
    for (int c = 0; c < COMPONENTS; c++) {
        bool found;
        TRY(find_part(paths, held, (component)c, p, &found, err));
        if (!found)
            used += (size_t)snprintf(missing + used, sizeof missing - used, "%s%s", used ? ", " : "", members[c]);
    }
    const char *named = paths->model ? paths->model : paths->part[COMPONENT_DIT];
    if (used)
        return error_set(
            err, FLUX1_ERR_MODEL,
            "%s%sparts of the model are missing: %s; name a file or a folder for each, or a model folder in "
            "diffusers' layout",
            named ? named : "", named ? ": " : "", missing);
    return FLUX1_OK;
}

flux1_status parts_find(const model_paths *paths, parts *out, flux1_error *err)
{
    store_contents held = {0};
    *out = (parts){.variant = paths->variant};
    if (paths->model && file_is_directory(paths->model))
        out->folder = paths->model;
    else if (paths->model)
        TRY(store_look(paths->model, &held, err));
    TRY(find_parts(paths, &held, out, err));
    out->tokenizers = paths->tokenizers ? paths->tokenizers : out->folder;
    return FLUX1_OK;
}

void parts_free(parts *p)
{
    for (int c = 0; c < COMPONENTS; c++) {
        free(p->part[c].folder);
        free(p->part[c].config);
    }
    *p = (parts){0};
}

/* ---- sizes ---- */

/* Reads `path` as JSON and lets `read` make a config of it. */
#define READ_CONFIG(path, read, out, err)                      \
    do {                                                       \
        json_value *json_ = NULL;                              \
        flux1_status st_ = json_parse_file(path, &json_, err); \
        if (st_ == FLUX1_OK)                                   \
            st_ = read(json_, path, out, err);                 \
        json_free(json_);                                      \
        TRY(st_);                                              \
    } while (0)

/* The config of a part, or sizes from its open store. */
#define READ_SIZES(c, read, told, out)                      \
    do {                                                    \
        if (p->part[c].config)                              \
            READ_CONFIG(p->part[c].config, read, out, err); \
        else                                                \
            TRY(told(m->store[c], out, err));               \
    } while (0)

/* Pipelines of diffusers that are not made of FLUX.1's four parts. */
static bool has_other_parts(const char *class_name)
{
    return strncmp(class_name, "Flux", strlen("Flux")) != 0 || strncmp(class_name, "Flux2", strlen("Flux2")) == 0 ||
           strncmp(class_name, "FluxPriorRedux", strlen("FluxPriorRedux")) == 0;
}

/* The parts decide, not which of FLUX.1's pipelines saved them: a transformer that wants more than a prompt is known by
 * its channels. */
static flux1_status index_read(const json_value *j, const char *name, void *out, flux1_error *err)
{
    (void)out;
    const char *class_name = NULL;
    TRY(json_require(j, name, "_class_name", err));
    TRY(json_get_string(j, name, "_class_name", &class_name, err));
    if (!class_name || has_other_parts(class_name))
        return error_set(
            err, FLUX1_ERR_UNSUPPORTED,
            "%s: a %s; this version makes pictures with the parts of FluxPipeline (FLUX.1 schnell and dev)", name,
            class_name ? class_name : "pipeline without a name");
    return FLUX1_OK;
}

scheduler_config parts_scheduler(bool dev)
{
    return (scheduler_config){.dynamic = dev,
                              .shift = dev ? 3 : 1,
                              .base_shift = 0.5,
                              .max_shift = 1.15,
                              .base_tokens = 256,
                              .max_tokens = 4096};
}

/* Reads the folder's file as JSON and lets `read` look at it. */
typedef flux1_status json_reader(const json_value *j, const char *name, void *out, flux1_error *err);

static flux1_status read_in(const char *folder, const char *name, json_reader *read, void *out, flux1_error *err)
{
    json_value *json = NULL;
    char *path = path_join(folder, name);
    flux1_status st = path ? json_parse_file(path, &json, err) : error_oom(err, 0, "a path");
    if (st == FLUX1_OK)
        st = read(json, path, out, err);
    json_free(json);
    free(path);
    return st;
}

flux1_status parts_check_class(const char *folder, flux1_error *err)
{
    return read_in(folder, "model_index.json", index_read, NULL, err);
}

static flux1_status scheduler_read(const json_value *j, const char *name, void *out, flux1_error *err)
{
    return scheduler_config_read(j, name, out, err);
}

/* A transformer of its own may be of the other variant than the folder. */
static void settle_variant(const parts *p, struct flux1_model *m)
{
    const store *s = m->store[COMPONENT_DIT];
    const bool dev = p->part[COMPONENT_DIT].file ? store_find(s, GUIDANCE_TENSOR) != NULL : m->dit.guidance;
    if (!p->folder || dev != m->dit.guidance)
        m->scheduler = parts_scheduler(dev);
    m->dit.guidance = dev;
}

flux1_status parts_read_sizes(const parts *p, struct flux1_model *m, flux1_error *err)
{
    if (p->folder)
        TRY(read_in(p->folder, "scheduler/scheduler_config.json", scheduler_read, &m->scheduler, err));
    for (int c = 0; c < COMPONENTS; c++)
        if (p->part[c].file)
            TRY(store_open_part(p->part[c].file, component_part((component)c), &m->store[c], err));
    READ_SIZES(COMPONENT_CLIP, clip_config_read, clip_sizes, &m->clip);
    READ_SIZES(COMPONENT_T5, t5_config_read, t5_sizes, &m->t5);
    READ_SIZES(COMPONENT_DIT, dit_config_read, dit_sizes, &m->dit);
    READ_SIZES(COMPONENT_VAE, vae_config_read, vae_sizes, &m->vae);
    settle_variant(p, m);
    return FLUX1_OK;
}

flux1_status parts_open_folders(const parts *p, struct flux1_model *m, flux1_error *err)
{
    for (int c = 0; c < COMPONENTS; c++)
        if (p->part[c].folder)
            TRY(store_open(p->part[c].folder, (const char *const[]){component_stem((component)c), NULL}, p->variant,
                           &m->store[c], err));
    bool any = !p->variant;
    for (int c = 0; !any && c < COMPONENTS; c++)
        any = strcmp(store_variant(m->store[c]), p->variant) == 0;
    return any ? FLUX1_OK
               : error_set(err, FLUX1_ERR_MODEL, "%s: none of its folders has weights of the file variant \"%s\"",
                           m->path, p->variant);
}

/* The method by which the weights of a config are quantised, copied; false if they are not, or flux1 reads it. */
static bool unread_method(const char *config, char *method, size_t room, flux1_error *err)
{
    json_value *json = NULL;
    flux1_error one = {0};
    if (json_parse_file(config, &json, &one) != FLUX1_OK)
        return error_pass_memory(&one, err) != FLUX1_OK;
    const json_value *quantised = json_object_get(json, "quantization_config"),
                     *name = json_object_get(quantised, "quant_method");
    snprintf(method, room, "%s", json_is_string(name) ? json_string_value(name) : "a method without a name");
    const bool unread = json_is_object(quantised) && strcmp(method, "bitsandbytes") != 0;
    json_free(json);
    return unread;
}

flux1_status parts_name_quantised(const parts *p, const struct flux1_model *m, flux1_error *err)
{
    char method[80];
    for (int c = 0; c < COMPONENTS; c++) {
        const bool good = m->store[c] && store_check(m->store[c], false, NULL, NULL) == FLUX1_OK;
        if (good || !p->part[c].config || !unread_method(p->part[c].config, method, sizeof method, err))
            continue;
        if (err->status == FLUX1_ERR_MEMORY)
            return err->status;
        return error_set(err, FLUX1_ERR_UNSUPPORTED,
                         "%s: the weights beside it are quantised by %s (quantization_config), which flux1 does not "
                         "read; fetch the model in bf16, or a GGUF file",
                         p->part[c].config, method);
    }
    return err->status;
}
