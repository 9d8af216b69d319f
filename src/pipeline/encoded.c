/* An encoded prompt as an object; stage_text.c encodes it. */
#include "pipeline/text_to_image.h"

#include <stdlib.h>
#include <string.h>

flux1_text *text_create(uint64_t model, int clip_length, int t5_length)
{
    flux1_text *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->model = model;
    t->clip_length = clip_length;
    t->t5_length = t5_length;
    t->clip_ids = calloc((size_t)t->clip_length, sizeof *t->clip_ids);
    t->t5_ids = calloc((size_t)t->t5_length, sizeof *t->t5_ids);
    if (t->clip_ids && t->t5_ids)
        return t;
    flux1_text_free(t);
    return NULL;
}

flux1_text *text_like(const flux1_text *text)
{
    flux1_text *t = text_create(text->model, text->clip_length, text->t5_length);
    if (t) {
        memcpy(t->clip_ids, text->clip_ids, (size_t)t->clip_length * sizeof *t->clip_ids);
        memcpy(t->t5_ids, text->t5_ids, (size_t)t->t5_length * sizeof *t->t5_ids);
    }
    return t;
}

static uint64_t bytes_of(int64_t clip_length, int64_t t5_length, int64_t hidden, int64_t d_model)
{
    const int64_t floats = hidden + t5_length * d_model, ids = clip_length + t5_length;
    return (uint64_t)floats * sizeof(float) + (uint64_t)ids * sizeof(int32_t) + sizeof(flux1_text);
}

uint64_t text_bytes(const flux1_text *t)
{
    return bytes_of(t->clip_length, t->t5_length, t->pooled.shape[1], t->embeds.shape[2]);
}

uint64_t text_bytes_of(const flux1_model *m, int64_t t5_length)
{
    return bytes_of(m->clip_length, t5_length, m->clip.hidden, m->t5.d_model);
}

void flux1_text_free(flux1_text *t)
{
    if (!t)
        return;
    free(t->clip_ids);
    free(t->t5_ids);
    tensor_free(&t->pooled);
    tensor_free(&t->embeds);
    free(t);
}

bool text_same_ids(const flux1_text *a, const flux1_text *b)
{
    return a->clip_length == b->clip_length && a->t5_length == b->t5_length &&
           memcmp(a->clip_ids, b->clip_ids, (size_t)a->clip_length * sizeof *a->clip_ids) == 0 &&
           memcmp(a->t5_ids, b->t5_ids, (size_t)a->t5_length * sizeof *a->t5_ids) == 0;
}
