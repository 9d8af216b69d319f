/* Files of latents: our own, dumps, and those of other writers. */
#include "pipeline/facts.h"
#include "pipeline/latents.h"
#include "pipeline/memory.h"
#include "weights/container.h"

#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct flux1_latents_file {
    container file;
    flux1_latents latents;
    float *values;
};

#define OWN_NAME "latents"                   /* in a file of flux1_latents_write */
#define COMFY_NAME "latent_tensor"           /* in one of ComfyUI's, which are as the VAE takes them … */
#define COMFY_MARK "latent_format_version_0" /* … where this tensor, which is empty, stands beside it */

/* ---- which tensor ---- */

/* The k of a dump's "latents.<k>"; 0: the name is none of these. */
static long step_of(const char *name)
{
    const size_t n = strlen(OWN_NAME ".");
    char *end;
    if (strncmp(name, OWN_NAME ".", n) != 0 || strspn(name + n, "0123456789") != strlen(name + n))
        return 0;
    const long k = strtol(name + n, &end, 10);
    return *end ? 0 : k;
}

static size_t last_step(const container *f)
{
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < container_count(f); i++)
        if (step_of(container_name(f, i)) > (best == SIZE_MAX ? 0 : step_of(container_name(f, best))))
            best = i;
    return best;
}

/* The only tensor that is not empty; SIZE_MAX if there are none or several. */
static size_t only_one(const container *f)
{
    size_t found = SIZE_MAX;
    for (size_t i = 0; i < container_count(f); i++) {
        if (tensor_elements(container_view(f, i)) == 0)
            continue;
        if (found != SIZE_MAX)
            return SIZE_MAX;
        found = i;
    }
    return found;
}

static size_t find(const container *f, bool initial)
{
    size_t i = initial ? container_find(f, "noise") : SIZE_MAX;
    if (i == SIZE_MAX)
        i = container_find(f, OWN_NAME);
    if (i == SIZE_MAX)
        i = last_step(f);
    if (i == SIZE_MAX)
        i = container_find(f, COMFY_NAME);
    return i == SIZE_MAX ? only_one(f) : i;
}

static flux1_status choose(const container *f, bool initial, size_t *out, flux1_error *err)
{
    *out = find(f, initial);
    if (*out != SIZE_MAX)
        return FLUX1_OK;
    const size_t n = container_count(f);
    if (n == 0)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: there is no tensor in it", f->path);
    if (n == 1)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: its tensor, \"%.100s\", is empty", f->path, container_name(f, 0));
    return error_set(err, FLUX1_ERR_FORMAT,
                     "%s: none of its %zu tensors (%.60s%s) is called latents, and there is more than one, or all are "
                     "empty; save the latents alone",
                     f->path, n, container_name(f, 0), n > 1 ? ", …" : "");
}

/* ---- its shape and values ---- */

static flux1_status take_shape(const container *f, size_t index, flux1_latents *out, flux1_error *err)
{
    const tensor *t = container_view(f, index);
    const char *name = container_name(f, index);
    char shape[256];
    const bool floats = t->type == DTYPE_F32 || t->type == DTYPE_F16 || t->type == DTYPE_BF16 || t->type == DTYPE_F64;
    if (!floats)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"%.100s\" is of type %s; latents are F32, F16, BF16 or F64",
                         f->path, name, dtype_describe(t->type)->name);
    if (t->dims < 3 || t->dims > 4 || tensor_elements(t) == 0)
        return error_set(err, FLUX1_ERR_FORMAT,
                         "%s: \"%.100s\" has shape %s; latents are [pictures, channels, rows, columns] or packed, "
                         "[pictures, tokens, channels]",
                         f->path, name, tensor_shape_text(t->dims, t->shape, shape, sizeof shape));
    out->dims = t->dims;
    memcpy(out->shape, t->shape, sizeof out->shape);
    out->unscaled = strcmp(name, COMFY_NAME) == 0 && container_find(f, COMFY_MARK) != SIZE_MAX;
    return FLUX1_OK;
}

/* All of its pictures are in memory until it is closed, before any plan counts them. */
static flux1_status take_values(flux1_context *c, flux1_latents_file *l, size_t index)
{
    flux1_error *err = &c->error;
    const tensor *t = container_view(&l->file, index);
    const int64_t count = tensor_elements(t);
    const size_t bytes = (size_t)count * sizeof *l->values;
    TRY(memory_check(c, (memory_need){.program = c->program, .latents = bytes}, 0, "reading %s", l->file.path));
    if (!(l->values = malloc(bytes)))
        return error_oom(err, bytes, l->file.path);
    TRY(tensor_decode(t, 0, count, l->values, err));
    TRY(file_map_check(&l->file.map, l->file.path, err));
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(l->values[i]))
            return error_set(err, FLUX1_ERR_NUMERIC, "%s: \"%.100s\" has a NaN or infinity", l->file.path,
                             container_name(&l->file, index));
    l->latents.values = l->values;
    return FLUX1_OK;
}

/* What the metadata says of the size; nothing where that is no size. */
static void take_size(flux1_latents_file *l)
{
    const char *text = container_metadata(&l->file, "flux1");
    json_value *root = NULL;
    if (!text || json_parse(text, strlen(text), l->file.path, &root, NULL) != FLUX1_OK)
        return;
    const int64_t width = json_integer_value(json_object_get(root, "width")),
                  height = json_integer_value(json_object_get(root, "height"));
    if (width > 0 && width <= SIZE_LIMIT && height > 0 && height <= SIZE_LIMIT) {
        l->latents.width = (int)width;
        l->latents.height = (int)height;
    }
    json_free(root);
}

static flux1_status open_file(flux1_context *c, flux1_latents_file *l, const char *path, bool initial)
{
    flux1_error *err = &c->error;
    size_t index;
    char *own = strdup(path);
    if (!own)
        return error_oom(err, strlen(path), path);
    TRY(container_open(own, &l->file, err));
    l->latents.size = sizeof l->latents;
    TRY(choose(&l->file, initial, &index, err));
    TRY(take_shape(&l->file, index, &l->latents, err));
    TRY(take_values(c, l, index));
    take_size(l);
    return FLUX1_OK;
}

/* ---- the calls ---- */

flux1_status flux1_latents_open(flux1_context *c, const char *path, int initial, flux1_latents_file **out)
{
    TRY(context_begin(c));
    TRY(context_needs(c, out, "out"));
    *out = NULL;
    TRY(context_needs_path(c, path, "the latents"));
    flux1_latents_file *l = calloc(1, sizeof *l);
    if (!l)
        return error_oom(&c->error, sizeof *l, path);
    flux1_status st = open_file(c, l, path, initial != 0);
    if (st == FLUX1_OK)
        *out = l;
    else
        flux1_latents_close(l);
    return st;
}

const flux1_latents *flux1_latents_of(const flux1_latents_file *l) { return l ? &l->latents : NULL; }

const char *flux1_latents_text(const flux1_latents_file *l, int index, const char *name)
{
    char key[FACTS_KEY_MAX];
    if (!l || !name || strlen(name) > FACTS_KEY_MAX / 2)
        return NULL;
    facts_key(name, index, key);
    return container_metadata(&l->file, key);
}

void flux1_latents_close(flux1_latents_file *l)
{
    if (!l)
        return;
    container_close(&l->file);
    free(l->values);
    free(l);
}

flux1_status flux1_latents_write(flux1_context *c, const flux1_latents *latents, const flux1_image *image,
                                 const flux1_model *m, const flux1_generate_params *params, const char *path)
{
    flux1_generate_params p;
    request r;
    dump *d = NULL;
    flux1_status st;
    TRY(context_begin(c));
    TRY(context_needs(c, latents, "latents"));
    TRY(context_needs(c, image, "image"));
    TRY(context_needs(c, m, "model"));
    TRY(context_needs_path(c, path, "the latents"));
    TRY(request_params(c, params, &p));
    if (latents->unscaled)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "latents that are unscaled are not written: a file holds them as the transformer has them");
    const flux1_latents *began = p.latents;
    p.latents = latents;
    p.count = 1;
    p.seed = image->seed;
    p.width = image->width;
    p.height = image->height;
    TRY(facts_request(c, m, &p, &r));
    r.latents = began;
    TRY(dump_create(1, &d, &c->error));
    TRY_CLEANUP(dump_add(d, OWN_NAME, DTYPE_F32, latents->dims, latents->shape, -1, latents->values, &c->error));
    TRY_CLEANUP(facts_of_model(d, m, &c->error));
    TRY_CLEANUP(facts_of_picture(d, 0, c, image, m, &r));
    st = dump_write(d, path, &c->error);
cleanup:
    dump_destroy(d);
    return st;
}
