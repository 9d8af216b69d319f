/* What a run puts into its dump, under diffusers' names. */
#include "pipeline/facts.h"
#include "pipeline/run.h"

#include <stdio.h>

uint64_t run_dump_bytes(const run *g)
{
    const flux1_model *m = g->m;
    const request *r = &g->r[0];
    const uint64_t cells = (uint64_t)(request_grid_h(r, m) * request_grid_w(r, m) * m->dit.in_channels),
                   decoded = 3 * (uint64_t)(r->height * r->width),
                   text = (uint64_t)(m->clip_length + r->length + m->dit.pooled_dim + r->length * m->dit.joint_dim),
                   picture = (r->passes > 1 ? 2 : 1) * text + (uint64_t)(r->steps + 1) * cells + decoded;
    return 4 * ((uint64_t)g->count * picture + (uint64_t)(r->steps + 1) + decoded); /* ids, too, have 4 bytes each */
}

static flux1_status dump_text(run *g, const char *prefix, const flux1_text *t, int64_t picture)
{
    flux1_error *err = &g->c->error;
    char name[64];
    const char *dot = *prefix ? "." : "", *underscore = *prefix ? "_" : "";
    snprintf(name, sizeof name, "%s%sclip.input_ids", prefix, dot);
    TRY(dump_add(g->dump, name, DTYPE_I32, 1, (int64_t[]){t->clip_length}, picture, t->clip_ids, err));
    snprintf(name, sizeof name, "%s%st5.input_ids", prefix, dot);
    TRY(dump_add(g->dump, name, DTYPE_I32, 1, (int64_t[]){t->t5_length}, picture, t->t5_ids, err));
    snprintf(name, sizeof name, "%s%spooled_prompt_embeds", prefix, underscore);
    TRY(dump_add(g->dump, name, DTYPE_F32, 1, t->pooled.shape + 1, picture, t->pooled.data, err));
    snprintf(name, sizeof name, "%s%sprompt_embeds", prefix, underscore);
    return dump_add(g->dump, name, DTYPE_F32, 2, t->embeds.shape + 1, picture, t->embeds.data, err);
}

flux1_status run_dump_texts(run *g)
{
    for (int64_t i = 0; i < g->count; i++) {
        const request_texts *t = &g->texts[g->place[i].request];
        TRY(dump_text(g, "", t->of[0].text, i));
        if (t->of[1].text)
            TRY(dump_text(g, "negative", t->of[1].text, i));
    }
    return dump_add(g->dump, "sigmas", DTYPE_F32, 1, (int64_t[]){g->r[0].steps + 1}, -1, g->denoiser.sigmas,
                    &g->c->error);
}

flux1_status run_dump_latents(run *g, const batch *b, int64_t after)
{
    char name[32] = "noise";
    int64_t cells = b->latents.shape[1] * b->latents.shape[2];
    if (after)
        snprintf(name, sizeof name, "latents.%lld", (long long)after);
    for (int64_t i = 0; i < b->size; i++)
        TRY(dump_add(g->dump, name, DTYPE_F32, 2, b->latents.shape + 1, b->first + i,
                     (const float *)b->latents.data + i * cells, &g->c->error));
    return FLUX1_OK;
}

flux1_status run_dump_facts(run *g)
{
    TRY(facts_of_model(g->dump, g->m, &g->c->error));
    for (int64_t i = 0; i < g->count; i++) {
        if (!run_wants(g, i))
            continue;
        flux1_image picture = run_blank_picture(g, i);
        TRY(facts_of_picture(g->dump, i, g->c, &picture, g->m, &g->r[g->place[i].request]));
    }
    return FLUX1_OK;
}

flux1_status run_dump_decoded(run *g, int64_t picture, const tensor *decoded)
{
    return dump_add(g->dump, "decoded", DTYPE_F32, 3, decoded->shape, picture, decoded->data, &g->c->error);
}
