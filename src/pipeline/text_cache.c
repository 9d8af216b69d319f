#include "pipeline/text_cache.h"

#include "pipeline/text_to_image.h"

#include <stdlib.h>
#include <string.h>

typedef struct kept_text {
    struct kept_text *next; /* the one that was used before */
    int adapters;           /* that change the encoders, by number: their files may be closed by now */
    uint64_t number[ADAPTERS_MAX];
    float scale[ADAPTERS_MAX];
    flux1_text *text;
    uint64_t bytes;
} kept_text;

struct text_cache {
    kept_text *first; /* the one used last */
    uint64_t limit, bytes, encoded, reused;
};

static flux1_status need_cache(flux1_context *c)
{
    if (c->texts)
        return FLUX1_OK;
    if (!(c->texts = calloc(1, sizeof *c->texts)))
        return error_oom(&c->error, sizeof *c->texts, "the encoded prompts");
    c->texts->limit = TEXT_CACHE_BYTES;
    return FLUX1_OK;
}

static void free_kept(kept_text *k)
{
    flux1_text_free(k->text);
    free(k);
}

/* Drops the least recently used until what is left takes at most `bytes`. */
static void shrink(struct text_cache *t, uint64_t bytes)
{
    uint64_t sum = 0;
    kept_text **at = &t->first;
    while (*at && sum + (*at)->bytes <= bytes) {
        sum += (*at)->bytes;
        at = &(*at)->next;
    }
    for (kept_text *k = *at, *next; k; k = next) {
        next = k->next;
        free_kept(k);
    }
    *at = NULL;
    t->bytes = sum;
}

static bool same_adapters(const kept_text *k, const adapter_set *s)
{
    bool same = k->adapters == s->count;
    for (int i = 0; same && i < s->count; i++)
        same = k->number[i] == s->adapter[i]->number && k->scale[i] == s->scale[i];
    return same;
}

/* The place of an equal prompt in the list; NULL if there is none. */
static kept_text **find(struct text_cache *t, const adapter_set *adapters, const flux1_text *text)
{
    adapter_set of_texts;
    adapter_set_of_texts(adapters, &of_texts);
    for (kept_text **at = &t->first; *at; at = &(*at)->next)
        if ((*at)->text->model == text->model && text_same_ids((*at)->text, text) && same_adapters(*at, &of_texts))
            return at;
    return NULL;
}

static flux1_status copy_tensor(const tensor *from, tensor *to, flux1_error *err)
{
    TRY(tensor_create(from->type, from->dims, from->shape, to, err));
    memcpy(to->data, from->data, tensor_bytes(from));
    return FLUX1_OK;
}

static flux1_status copy_encoding(const flux1_text *from, flux1_text *to, flux1_error *err)
{
    TRY(copy_tensor(&from->pooled, &to->pooled, err));
    return copy_tensor(&from->embeds, &to->embeds, err);
}

flux1_status text_cache_take(flux1_context *c, const adapter_set *adapters, flux1_text *text, bool *found)
{
    struct text_cache *t = c->texts;
    kept_text **at = t ? find(t, adapters, text) : NULL;
    *found = at != NULL;
    if (!at)
        return FLUX1_OK;
    kept_text *k = *at;
    *at = k->next;
    k->next = t->first;
    t->first = k;
    t->reused++;
    return copy_encoding(k->text, text, &c->error);
}

static void name_adapters(kept_text *k, const adapter_set *adapters)
{
    adapter_set of_texts;
    adapter_set_of_texts(adapters, &of_texts);
    k->adapters = of_texts.count;
    for (int i = 0; i < of_texts.count; i++) {
        k->number[i] = of_texts.adapter[i]->number;
        k->scale[i] = of_texts.scale[i];
    }
}

static flux1_status kept_create(const adapter_set *adapters, const flux1_text *text, kept_text **out, flux1_error *err)
{
    kept_text *k = calloc(1, sizeof *k);
    if (!k || !(k->text = text_like(text))) {
        free(k);
        return error_oom(err, sizeof *k, "an encoded prompt");
    }
    flux1_status st = copy_encoding(text, k->text, err);
    if (st != FLUX1_OK) {
        free_kept(k);
        return st;
    }
    name_adapters(k, adapters);
    k->bytes = text_bytes(text) + sizeof *k;
    *out = k;
    return FLUX1_OK;
}

flux1_status text_cache_keep(flux1_context *c, const adapter_set *adapters, const flux1_text *text)
{
    kept_text *k = NULL;
    const uint64_t bytes = text_bytes(text) + sizeof *k;
    TRY(need_cache(c));
    struct text_cache *t = c->texts;
    t->encoded++;
    if (bytes > t->limit)
        return FLUX1_OK;
    shrink(t, t->limit - bytes);
    TRY(kept_create(adapters, text, &k, &c->error));
    k->next = t->first;
    t->first = k;
    t->bytes += bytes;
    return FLUX1_OK;
}

flux1_status text_cache_limit(flux1_context *c, uint64_t room)
{
    TRY(need_cache(c));
    c->texts->limit = room < TEXT_CACHE_BYTES ? room : TEXT_CACHE_BYTES;
    shrink(c->texts, c->texts->limit);
    return FLUX1_OK;
}

uint64_t text_cache_bytes(const flux1_context *c) { return c->texts ? c->texts->bytes : 0; }

void text_cache_counts(const flux1_context *c, uint64_t *encoded, uint64_t *reused, uint64_t *bytes)
{
    const struct text_cache *t = c->texts;
    *encoded = t ? t->encoded : 0;
    *reused = t ? t->reused : 0;
    *bytes = text_cache_bytes(c);
}

void text_cache_free(flux1_context *c)
{
    if (c->texts)
        shrink(c->texts, 0);
    free(c->texts);
    c->texts = NULL;
}
