#include "pipeline/wish.h"

#include <stdio.h>

static void add_need(const flux1_context *c, const memory_need *n, bool *fits, uint64_t *most)
{
    *fits = *fits && memory_fits(c, *n);
    *most = memory_total(*n) > *most ? memory_total(*n) : *most;
}

static flux1_status add_texts(flux1_context *c, const wish *w, bool *fits, uint64_t *most)
{
    text_plan texts;
    if (!w->text)
        return FLUX1_OK;
    TRY(text_plan_make(c, w->model, &w->request->adapters, w->text, &texts));
    const memory_need first = memory_of(c, text_device(c), &texts.clip, NULL),
                      second = memory_of(c, text_device(c), &texts.t5, NULL);
    add_need(c, &first, fits, most);
    add_need(c, &second, fits, most);
    text_plan_free(&texts);
    return FLUX1_OK;
}

flux1_status wish_fits(flux1_context *c, const wish *w, bool *fits, uint64_t *most)
{
    denoiser dit;
    decoder vae = {0};
    *fits = true;
    *most = 0;
    TRY(add_texts(c, w, fits, most));
    TRY(denoiser_plan(c, w->model, w->request, w->batch, &dit));
    const memory_need denoise = memory_of(c, &c->device, &dit.plan, NULL);
    const stage_plan *open = w->together ? &dit.plan : NULL;
    add_need(c, &denoise, fits, most);
    flux1_status st = FLUX1_OK;
    if (*fits)
        st = decoder_plan(c, w->model, w->request, memory_beside(c, &c->device, open), &vae);
    if (*fits && st == FLUX1_OK) {
        const memory_need decode = memory_of(c, &c->device, &vae.plan, open);
        add_need(c, &decode, fits, most);
    }
    *fits = *fits && st == FLUX1_OK;
    decoder_close(&vae);
    denoiser_close(&dit);
    return st;
}

static const struct {
    flux1_dtype dtype;
    const char *name;
} DTYPES[] = {{FLUX1_DTYPE_F32, "f32"},
              {FLUX1_DTYPE_BF16, "bf16"},
              {FLUX1_DTYPE_INT8, "int8"},
              {FLUX1_DTYPE_INT8_FAST, "int8-fast"}};

/* One that fits; name: NULL if none was found. */
typedef struct way {
    const char *name; /* of its dtype; "" for the request's own */
    uint64_t most;
} way;

static bool computes_the_same(const mesh_device *a, const mesh_device *b)
{
    return a->config.arithmetic == b->config.arithmetic && a->config.int8 == b->config.int8 &&
           a->config.fp8 == b->config.fp8;
}

/* *own: the request's own dtype. *other: of others what takes least, the first of two that take the same. */
static flux1_status try_dtypes(flux1_context *c, const wish *w, const mesh_device *asked, bool cache, way *own,
                               way *other)
{
    *own = *other = (way){.most = UINT64_MAX};
    for (size_t i = 0; i < sizeof DTYPES / sizeof *DTYPES; i++) {
        bool fits = false;
        uint64_t most = 0;
        if (context_choose(c, DTYPES[i].dtype, cache) == FLUX1_OK)
            TRY(wish_fits(c, w, &fits, &most));
        const bool same = computes_the_same(&c->device, asked);
        way *best = same ? own : other;
        if (fits && most < best->most)
            *best = (way){same ? "" : DTYPES[i].name, most};
    }
    return FLUX1_OK;
}

#define CACHE "a cache folder for prepared weights"

/* One change rather than two. */
static void say(const way *cached, const way *other, const way *both, char words[WISH_TEXT])
{
    if (cached->name && other->name)
        snprintf(words, WISH_TEXT, "%s, or with dtype %s", CACHE, other->name);
    else if (cached->name)
        snprintf(words, WISH_TEXT, "%s", CACHE);
    else if (other->name)
        snprintf(words, WISH_TEXT, "dtype %s", other->name);
    else if (both->name)
        snprintf(words, WISH_TEXT, "dtype %s and %s", both->name, CACHE);
}

flux1_status wish_options(flux1_context *c, const wish *w, char words[WISH_TEXT])
{
    const mesh_device device = c->device, text = c->text_device;
    const flux1_error before = c->error;
    way own, other, cached = {0}, both = {0};
    words[0] = '\0';
    if (device.device->info.memory || c->cards)
        return FLUX1_OK;
    flux1_status st = try_dtypes(c, w, &device, c->cache != NULL, &own, &other);
    if (st == FLUX1_OK && !c->cache)
        st = try_dtypes(c, w, &device, true, &cached, &both);
    if (st == FLUX1_OK)
        say(&cached, &other, &both, words);
    c->device = device;
    c->text_device = text;
    c->error = before;
    return st;
}

flux1_status wish_advise(flux1_context *c, const wish *w, flux1_status refused)
{
    char words[WISH_TEXT];
    if (refused != FLUX1_ERR_LIMIT || wish_options(c, w, words) != FLUX1_OK || !words[0])
        return refused;
    return error_append(&c->error, ". It would fit with %s", words);
}
