/* A picture to a file, with what it was made from. */
#include "pipeline/request.h"

#include "image/metadata.h"
#include "image/png.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The last part of the model's path. */
static void base_name(const char *path, char *out, size_t size)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    snprintf(out, size, "%.*s", (int)(end - begin), path + begin);
}

static flux1_status write_with_texts(flux1_context *c, const flux1_image *image, const flux1_model *m, const request *r,
                                     const char *path)
{
    char name[256], mesh_text[32];
    char *parameters = NULL, *json = NULL;
    flux1_status st;
    if (m->name)
        snprintf(name, sizeof name, "%s", m->name);
    else
        base_name(m->path, name, sizeof name);
    snprintf(mesh_text, sizeof mesh_text, "%dx%d", c->mesh.shape[0], c->mesh.shape[1]);
    image_metadata d = {.prompt = r->prompt,
                        .model = name,
                        .version = flux1_version(),
                        .width = image->width,
                        .height = image->height,
                        .steps = (int)r->steps,
                        .has_guidance = m->dit.guidance,
                        .guidance = r->guidance,
                        .seed = image->seed,
                        .max_sequence_length = r->length,
                        .dtype = context_dtype(c),
                        .device = c->device.kind->name,
                        .mesh = mesh_text};
    TRY_CLEANUP(metadata_parameters(&d, &parameters, &c->error));
    TRY_CLEANUP(metadata_json(&d, &json, &c->error));
    image_text texts[] = {{"parameters", parameters}, {"flux1", json}};
    st = png_file_write(path, image->width, image->height, image->pixels, texts, 2, &c->error);
cleanup:
    free(parameters);
    free(json);
    return st;
}

flux1_status flux1_image_write_png(flux1_context *c, const flux1_image *image, const flux1_model *model,
                                   const flux1_generate_params *params, const char *path)
{
    TRY(context_begin(c));
    TRY(context_needs(c, image, "image"));
    TRY(context_needs(c, image->pixels, "image->pixels"));
    TRY(context_needs(c, path, "path"));
    if (!model || !params)
        return png_file_write(path, image->width, image->height, image->pixels, NULL, 0, &c->error);
    request r;
    void (*log)(void *, flux1_log_level, const char *) = c->log;
    c->log = NULL; /* what the request rounds was said when the picture was made */
    flux1_status st = request_make(c, model, params, &r);
    c->log = log;
    return st == FLUX1_OK ? write_with_texts(c, image, model, &r, path) : st;
}
