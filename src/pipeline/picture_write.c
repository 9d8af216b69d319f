/* A picture to a file, with what it was made from. */
#include "pipeline/facts.h"

#include "base/file.h"
#include "image/picture.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* "" is none. */
static const char *text_or_null(const char *text) { return text && *text ? text : NULL; }

static flux1_status texts_of(flux1_context *c, const flux1_image *image, const flux1_model *model,
                             const flux1_generate_params *params, const flux1_write_params *how, char **parameters,
                             char **json)
{
    request r;
    flux1_generate_params p;
    TRY(request_params(c, params, &p));
    const flux1_latents *began = p.latents;
    if (began) { /* of all pictures: they were checked when they were taken, and the size is the picture's */
        p.width = image->width;
        p.height = image->height;
        p.latents = NULL;
    }
    TRY(facts_request(c, model, &p, &r));
    r.latents = began;
    return facts_texts(c, image, model, &r, how->adapter_names, text_or_null(how->prompt), parameters, json);
}

static picture_format format_of(flux1_format format) { return format > 0 ? (picture_format)(format - 1) : PICTURE_PNG; }

static flux1_status check_format(flux1_context *c, flux1_format format)
{
    if ((int)format >= FLUX1_FORMAT_AUTO && format <= FLUX1_FORMAT_WEBP)
        return FLUX1_OK;
    return error_set(&c->error, FLUX1_ERR_ARGUMENT, "format %d: it should be one of flux1_format", (int)format);
}

static flux1_status check_image(flux1_context *c, const flux1_image *image)
{
    TRY(context_needs(c, image, "image"));
    if (image->size < offsetof(flux1_image, reserved))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "image->size is not set: it is sizeof(flux1_image)");
    return context_needs(c, image->pixels, "image->pixels");
}

/* how: NULL, or the caller's. */
static flux1_status read_params(flux1_context *c, const flux1_write_params *how, flux1_write_params *out)
{
    flux1_write_params_defaults(out);
    if (how && how->size < sizeof *out)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "flux1_write_params.size is not set: use flux1_write_params_defaults");
    if (how)
        *out = *how;
    TRY(check_format(c, out->format));
    if (out->quality < 0 || out->quality > 100)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "quality %d: it should be 1 to 100, or 0 for %d", out->quality,
                         PICTURE_QUALITY);
    TRY(context_flag(c, "plain", out->plain));
    return context_flag(c, "adapter_names", out->adapter_names);
}

static void tell_left_out(flux1_context *c, const char *name, unsigned left_out)
{
    static const char *const sentences[] = {
        [PICTURE_LEFT_PARAMETERS] =
            "the parameters that other programs read (EXIF) are left out, flux1's own are in it",
        [PICTURE_LEFT_JSON] = "flux1's own parameters (XMP) are left out, those that other programs read are in it",
        [PICTURE_LEFT_PARAMETERS | PICTURE_LEFT_JSON] = "prompt and settings are left out"};
    if (left_out)
        context_log(c, FLUX1_LOG_WARNING, "%s: %s: they take more than a JPEG's 64 KiB; a PNG or WebP keeps them", name,
                    sentences[left_out]);
}

static flux1_status encode(flux1_context *c, const flux1_image *image, const flux1_model *model,
                           const flux1_generate_params *params, const flux1_write_params *how, const char *name,
                           builder *out)
{
    char software[64], *parameters = NULL, *json = NULL;
    unsigned left_out;
    flux1_status st = FLUX1_OK;
    snprintf(software, sizeof software, "flux1 %s", flux1_version());
    const bool made = model && params && !(how->parameters && how->json),
               texts = (made || how->parameters || how->json) && !how->plain;
    if (texts && made)
        TRY_CLEANUP(texts_of(c, image, model, params, how, &parameters, &json));
    const picture_texts of = {how->parameters ? text_or_null(how->parameters) : parameters,
                              how->json ? text_or_null(how->json) : json, software};
    st = picture_encode(name, &(rgb_pixels){image->width, image->height, image->pixels},
                        &(picture_coding){.format = format_of(how->format),
                                          .quality = how->quality ? how->quality : PICTURE_QUALITY,
                                          .texts = texts ? &of : NULL},
                        out, &left_out, &c->error);
    if (st == FLUX1_OK)
        tell_left_out(c, name, left_out);
cleanup:
    free(parameters);
    free(json);
    return st;
}

void flux1_write_params_defaults(flux1_write_params *params)
{
    if (params)
        *params = (flux1_write_params){.size = sizeof *params};
}

flux1_status flux1_image_write(flux1_context *c, const flux1_image *image, const flux1_model *model,
                               const flux1_generate_params *params, const flux1_write_params *given, const char *path)
{
    flux1_write_params how;
    builder b = {0};
    TRY(context_begin(c));
    TRY(check_image(c, image));
    TRY(context_needs_path(c, path, "the picture"));
    TRY(read_params(c, given, &how));
    if (how.format == FLUX1_FORMAT_AUTO && flux1_format_is_unwritten(path))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "%s: pictures are written as PNG, JPEG or WebP; name a file that ends in .png, .jpg or .webp, "
                         "or say which format it has",
                         path);
    if (how.format == FLUX1_FORMAT_AUTO)
        how.format = flux1_format_of(path);
    flux1_status st = encode(c, image, model, params, &how, path, &b);
    if (st == FLUX1_OK)
        st = file_write(path, b.text, b.length, &c->error);
    builder_free(&b);
    return st;
}

flux1_status flux1_image_write_png(flux1_context *c, const flux1_image *image, const flux1_model *model,
                                   const flux1_generate_params *params, const char *path)
{
    flux1_write_params how;
    flux1_write_params_defaults(&how);
    how.format = FLUX1_FORMAT_PNG;
    return flux1_image_write(c, image, model, params, &how, path);
}

flux1_status flux1_image_encode(flux1_context *c, const flux1_image *image, const flux1_model *model,
                                const flux1_generate_params *params, const flux1_write_params *given, uint8_t **bytes,
                                size_t *byte_count)
{
    flux1_write_params how;
    builder b = {0};
    char *taken = NULL;
    TRY(context_begin(c));
    TRY(context_needs(c, bytes, "bytes"));
    TRY(context_needs(c, byte_count, "byte_count"));
    *bytes = NULL;
    *byte_count = 0;
    TRY(check_image(c, image));
    TRY(read_params(c, given, &how));
    flux1_status st = encode(c, image, model, params, &how, "a picture", &b);
    const size_t count = b.length;
    if (st == FLUX1_OK)
        st = builder_take(&b, "a picture", &taken, &c->error);
    builder_free(&b);
    if (st == FLUX1_OK) {
        *bytes = (uint8_t *)taken;
        *byte_count = count;
    }
    return st;
}

void flux1_bytes_free(uint8_t *bytes) { free(bytes); }

/* ".png"; NULL: it has none. */
static const char *ending_of(const char *path)
{
    const char *name = path ? strrchr(path, '/') : NULL;
    return path ? strrchr(name ? name : path, '.') : NULL;
}

flux1_format flux1_format_of(const char *path)
{
    static const struct {
        const char *ending;
        flux1_format format;
    } endings[] = {{".png", FLUX1_FORMAT_PNG},
                   {".jpg", FLUX1_FORMAT_JPEG},
                   {".jpeg", FLUX1_FORMAT_JPEG},
                   {".webp", FLUX1_FORMAT_WEBP}};
    const char *dot = ending_of(path);
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++)
        if (strcasecmp(dot, endings[i].ending) == 0)
            return endings[i].format;
    return FLUX1_FORMAT_AUTO;
}

int flux1_format_is_unwritten(const char *path)
{
    static const char *const endings[] = {".gif", ".bmp", ".tif", ".tiff", ".avif", ".jxl", ".ppm", ".heic"};
    const char *dot = ending_of(path);
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++)
        if (strcasecmp(dot, endings[i]) == 0)
            return 1;
    return 0;
}

flux1_status flux1_format_check(flux1_context *c, flux1_format format, int width, int height)
{
    TRY(context_begin(c));
    TRY(check_format(c, format));
    if (width < 0 || height < 0)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "a picture of %d×%d: both should be positive, or 0", width,
                         height);
    return picture_check(format_of(format), width, height, "the picture", &c->error);
}
