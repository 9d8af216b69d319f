#include "pipeline/wish.h"

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

/* The first of two that take the same counts: those that change less come first. */
static const struct {
    flux1_dtype dtype;
    bool cache;
    const char *words;
} WAYS[] = {
    {FLUX1_DTYPE_F32, false, "dtype f32"},
    {FLUX1_DTYPE_BF16, false, "dtype bf16"},
    {FLUX1_DTYPE_INT8, false, "dtype int8"},
    {FLUX1_DTYPE_INT8_FAST, false, "dtype int8-fast"},
    {FLUX1_DTYPE_F32, true, "dtype f32 and a cache folder for prepared weights"},
    {FLUX1_DTYPE_BF16, true, "dtype bf16 and a cache folder for prepared weights"},
    {FLUX1_DTYPE_INT8, true, "dtype int8 and a cache folder for prepared weights"},
    {FLUX1_DTYPE_INT8_FAST, true, "dtype int8-fast and a cache folder for prepared weights"},
};

flux1_status wish_options(flux1_context *c, const wish *w, const char **words)
{
    const mesh_device device = c->device, text = c->text_device;
    const flux1_error before = c->error;
    uint64_t least = UINT64_MAX, most;
    flux1_status st = FLUX1_OK;
    *words = "";
    if (device.device->info.memory || c->cards)
        return FLUX1_OK;
    for (size_t i = 0; st == FLUX1_OK && i < sizeof WAYS / sizeof *WAYS; i++) {
        bool fits = false;
        if (WAYS[i].cache && c->cache)
            continue; /* there is one, and the ways above have it */
        if (context_choose(c, WAYS[i].dtype, WAYS[i].cache || c->cache) == FLUX1_OK)
            st = wish_fits(c, w, &fits, &most);
        if (fits && most < least) {
            least = most;
            *words = WAYS[i].words;
        }
    }
    c->device = device;
    c->text_device = text;
    c->error = before;
    return st;
}

flux1_status wish_advise(flux1_context *c, const wish *w, flux1_status refused)
{
    const char *words = "";
    if (refused != FLUX1_ERR_LIMIT || wish_options(c, w, &words) != FLUX1_OK || !words[0])
        return refused;
    return error_append(&c->error, ". It would fit with %s", words);
}
