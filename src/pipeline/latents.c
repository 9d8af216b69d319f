#include "pipeline/latents.h"

#include "pipeline/bounds.h"
#include "tensor/tensor.h"

#include <math.h>
#include <string.h>

void latents_pack(const float *planes, int64_t channels, int64_t grid_h, int64_t grid_w, float *tokens)
{
    const int64_t h = 2 * grid_h, w = 2 * grid_w;
    for (int64_t c = 0; c < channels; c++)
        for (int64_t y = 0; y < h; y++)
            for (int64_t x = 0; x < w; x++)
                tokens[latent_cell(channels, w, y, x) + 4 * c] = *planes++;
}

/* ---- shapes ---- */

static bool is_packed(const flux1_latents *l) { return l->dims == 3; }

static flux1_status check_shape(flux1_context *c, const flux1_model *m, const flux1_latents *l)
{
    char shape[256];
    const int64_t cells = SIZE_LIMIT / vae_scale(&m->vae), *s = l->shape;
    if (l->size < offsetof(flux1_latents, reserved) || !l->values)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "latents: %s is not set", l->values ? "size" : "values");
    TRY(context_flag(c, "latents: unscaled", l->unscaled));
    if (l->dims != 3 && l->dims != 4)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "latents: dims %d, it should be 4, [pictures, channels, rows, columns], or 3, packed",
                         l->dims);
    if (l->width < 0 || l->height < 0 || l->width > SIZE_LIMIT || l->height > SIZE_LIMIT)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "latents: %s %d, it should be a picture's, up to %d pixels, or 0 where it is not known",
                         l->width < 0 || l->width > SIZE_LIMIT ? "width" : "height",
                         l->width < 0 || l->width > SIZE_LIMIT ? l->width : l->height, SIZE_LIMIT);
    const bool good = is_packed(l) ? s[2] == m->dit.in_channels && s[1] > 0 && s[1] <= cells * cells
                                   : s[1] == m->vae.latent_channels && s[2] > 0 && s[2] <= cells && s[2] % 2 == 0 &&
                                         s[3] > 0 && s[3] <= cells && s[3] % 2 == 0;
    if (good && s[0] > 0 && s[0] <= COUNT_LIMIT)
        return FLUX1_OK;
    return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                     "latents of shape %s: this model's are [pictures, %lld, rows, columns], rows and columns even, or "
                     "packed [pictures, tokens, %lld]",
                     tensor_shape_text(l->dims, s, shape, sizeof shape), (long long)m->vae.latent_channels,
                     (long long)m->dit.in_channels);
}

/* The side that makes so many tokens with the other one; 0 if there is none. */
static int other_side(int64_t tokens, int side, int64_t unit)
{
    const int64_t cells = side / unit;
    const bool whole = side > 0 && cells > 0 && tokens % cells == 0 && tokens / cells <= SIZE_LIMIT / unit;
    return whole ? (int)(tokens / cells * unit) : 0;
}

flux1_status latents_size(flux1_context *c, const flux1_model *m, const flux1_latents *l, int *width, int *height)
{
    TRY(check_shape(c, m, l));
    const int64_t scale = vae_scale(&m->vae), unit = folder_size_multiple(m);
    const bool one = !*width != !*height;
    const int given = *width ? *width : *height;
    int own_width = is_packed(l) ? l->width : (int)(l->shape[3] * scale),
        own_height = is_packed(l) ? l->height : (int)(l->shape[2] * scale);
    if (is_packed(l) && one) {
        own_width = other_side(l->shape[1], given, unit);
        own_height = own_width;
    }
    *width = *width ? *width : own_width;
    *height = *height ? *height : own_height;
    return FLUX1_OK;
}

flux1_status latents_check(flux1_context *c, const flux1_model *m, const flux1_latents *l, int64_t pictures,
                           int64_t width, int64_t height)
{
    const int64_t h = height / folder_size_multiple(m), w = width / folder_size_multiple(m);
    if (l->shape[0] != pictures)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "latents of %lld picture%s, but count is %lld",
                         (long long)l->shape[0], l->shape[0] == 1 ? "" : "s", (long long)pictures);
    if (is_packed(l) && l->shape[1] != h * w)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "latents of %lld tokens: a picture of %lldx%lld has %lld; give the width and height that they "
                         "are of",
                         (long long)l->shape[1], (long long)width, (long long)height, (long long)(h * w));
    if (!is_packed(l) && (l->shape[2] != 2 * h || l->shape[3] != 2 * w))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "latents of a picture of %lldx%lld, but %lldx%lld is asked for",
                         (long long)(l->shape[3] * vae_scale(&m->vae)), (long long)(l->shape[2] * vae_scale(&m->vae)),
                         (long long)width, (long long)height);
    const int64_t count = l->shape[0] * h * w * m->dit.in_channels;
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(l->values[i]))
            return error_set(&c->error, FLUX1_ERR_ARGUMENT, "latents: there is a NaN or infinity in them");
    return FLUX1_OK;
}

/* ---- values ---- */

void latents_packed(const flux1_model *m, const flux1_latents *l, int64_t index, float *out)
{
    const int64_t grid_h = l->shape[2] / 2, grid_w = l->shape[3] / 2,
                  tokens = is_packed(l) ? l->shape[1] : grid_h * grid_w, count = tokens * m->dit.in_channels;
    const float *from = l->values + index * count, shift = (float)m->vae.shift, scaling = (float)m->vae.scaling;
    if (is_packed(l))
        memcpy(out, from, (size_t)count * sizeof *out);
    else
        latents_pack(from, m->vae.latent_channels, grid_h, grid_w, out);
    for (int64_t i = 0; l->unscaled && i < count; i++)
        out[i] = (out[i] - shift) * scaling;
}
