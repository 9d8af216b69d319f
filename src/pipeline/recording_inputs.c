#include "pipeline/recording_inputs.h"

#include "model/dit_tables.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void recording_results_free(recording_results *r)
{
    tensor_free(&r->pooled);
    tensor_free(&r->embeds);
    tensor_free(&r->latent);
    tensor_free(&r->pixels);
}

/* ---- by name ---- */

component recording_part(recording_stage stage)
{
    return stage == RECORDING_CLIP  ? COMPONENT_CLIP
           : stage == RECORDING_T5  ? COMPONENT_T5
           : stage == RECORDING_VAE ? COMPONENT_VAE
                                    : COMPONENT_DIT;
}

flux1_status recording_tensor_find(const flux1_model *m, recording_stage stage, const char *name,
                                   const store_tensor **out, flux1_error *err)
{
    const store *s = m->store[recording_part(stage)];
    *out = store_find(s, name);
    if (!*out && strcmp(name, "shared.weight") == 0) /* T5's tied embedding goes by either name */
        *out = store_find(s, "encoder.embed_tokens.weight");
    if (!*out && strcmp(name, "encoder.embed_tokens.weight") == 0)
        *out = store_find(s, "shared.weight");
    return *out ? FLUX1_OK : error_set(err, FLUX1_ERR_MODEL, "%s has no tensor \"%s\"", store_path(s), name);
}

static flux1_status find_input(void *user, const char *name, tensor *out, flux1_error *err)
{
    const recording_inputs *s = user;
    static const char *const names[] = {
#define INPUT_NAME(id, name, rows, cols, type) name,
        RECORDING_INPUTS(INPUT_NAME)
#undef INPUT_NAME
    };
    for (int i = 0; i < RECORDING_INPUT_COUNT; i++)
        if (strcmp(names[i], name) == 0) {
            *out = s->in[i];
            return FLUX1_OK;
        }
    return error_set(err, FLUX1_ERR_FORMAT, "unknown input \"%.60s\"", name);
}

static flux1_status find_row(void *user, const char *name, int64_t *out, flux1_error *err)
{
    if (strcmp(name, "clip.pooled_row") != 0)
        return error_set(err, FLUX1_ERR_FORMAT, "unknown row \"%.60s\"", name);
    *out = ((const recording_inputs *)user)->pooled_row;
    return FLUX1_OK;
}

static flux1_status find_stage_tensor(void *user, const char *name, const store_tensor **out, flux1_error *err)
{
    const recording_inputs *s = user;
    return recording_tensor_find(s->m, s->stage, name, out, err);
}

script_sources recording_sources(recording_inputs *s, tensor *output)
{
    return (script_sources){
        .tensor = find_stage_tensor, .input = find_input, .row = find_row, .output = output, .user = s};
}

/* ---- made ---- */

static flux1_status check_model(const recording_inputs *s)
{
    const recording *r = s->r;
    const flux1_model *m = s->m;
    flux1_error *err = &s->c->error;
    const int64_t unit = folder_size_multiple(m);
    if (m->dit.guidance != r->guidance)
        return error_set(err, FLUX1_ERR_MODEL, "the recording is of %s, the model is %s",
                         r->guidance ? "dev" : "schnell", m->dit.guidance ? "dev" : "schnell");
    if (r->clip_tokens != m->clip_length || r->t5_tokens > m->t5_length_max)
        return error_set(err, FLUX1_ERR_MODEL,
                         "the recording has %" PRId64 " CLIP tokens and %" PRId64 " T5 tokens, the model takes %d and "
                         "at most %d",
                         r->clip_tokens, r->t5_tokens, m->clip_length, m->t5_length_max);
    if (r->width % unit || r->height % unit)
        return error_set(err, FLUX1_ERR_MODEL,
                         "pictures of %" PRId64 "x%" PRId64 ": the model's are multiples of "
                         "%" PRId64,
                         r->width, r->height, unit);
    return FLUX1_OK;
}

/* Shapes without data, but for the ids. */
static void shape_all(recording_inputs *s, recording_results *out)
{
    const tensor shapes[] = {
#define INPUT_SHAPE(id, name, rows, cols, of) {.type = of, .dims = 2, .shape = {rows, cols}},
        RECORDING_INPUTS(INPUT_SHAPE)
#undef INPUT_SHAPE
    };
    const int64_t scale = vae_scale(&s->m->vae), pixels = s->h * s->w * scale * scale;
    memcpy(s->in, shapes, sizeof shapes);
    s->in[IN_CLIP_IDS].data = s->ids->clip_ids;
    s->in[IN_T5_IDS].data = s->ids->t5_ids;
    *out = (recording_results){.pooled = shapes[IN_POOLED],
                               .embeds = shapes[IN_EMBEDS],
                               .latent = {.type = DTYPE_F32, .dims = 2, .shape = {s->tokens, s->m->dit.in_channels}},
                               .pixels = {.type = DTYPE_F32, .dims = 2, .shape = {pixels, s->m->vae.out_channels}}};
}

/* Data for a shape. */
static flux1_status allocate(tensor *t, flux1_error *err)
{
    const tensor shape = *t;
    return tensor_create(shape.type, shape.dims, shape.shape, t, err);
}

static flux1_status allocate_all(recording_inputs *s, recording_results *out)
{
    tensor *const results[] = {&out->pooled, &out->embeds, &out->latent, &out->pixels};
    for (int i = 0; i < RECORDING_INPUT_COUNT; i++)
        if (i != IN_CLIP_IDS && i != IN_T5_IDS)
            TRY(allocate(&s->in[i], &s->c->error));
    for (size_t i = 0; i < sizeof results / sizeof *results; i++)
        TRY(allocate(results[i], &s->c->error));
    return FLUX1_OK;
}

static flux1_status fill_bias(recording_inputs *s)
{
    const store_tensor *t = s->t5_bias;
    if (!t)
        TRY(recording_tensor_find(s->m, RECORDING_T5, T5_BIAS_TENSOR, &t, &s->c->error));
    const weight_recipe bias = recipe_whole(WEIGHT_TABLE, t);
    const cut all = {0, s->m->t5.heads};
    return t5_bias_values(&s->m->t5, &bias, all, s->r->t5_tokens, s->in[IN_T5_BIAS].data, &s->c->error);
}

static flux1_status fill_rope(recording_inputs *s)
{
    const int64_t grid_w = s->w / 2, rows = s->tokens > s->r->t5_tokens ? s->tokens : s->r->t5_tokens;
    float *ids = calloc((size_t)(rows * DIT_ID_AXES), sizeof *ids);
    if (!ids)
        return error_oom(&s->c->error, 0, "the tokens' positions");
    rope_table(&s->m->dit, ids, s->r->t5_tokens, s->in[IN_ROPE_TEXT].data);
    for (int64_t i = 0; i < s->tokens; i++) {
        ids[i * DIT_ID_AXES + 1] = (float)(i / grid_w);
        ids[i * DIT_ID_AXES + 2] = (float)(i % grid_w);
    }
    rope_table(&s->m->dit, ids, s->tokens, s->in[IN_ROPE_IMAGE].data);
    free(ids);
    return FLUX1_OK;
}

flux1_status recording_inputs_fill(recording_inputs *s, const recording_request *q, recording_results *out)
{
    TRY(allocate_all(s, out));
    const request size = {.width = s->r->width, .height = s->r->height};
    float *time = s->in[IN_TIME].data, *dsigma = s->in[IN_DSIGMA].data;
    for (int64_t i = 0; i < s->r->steps; i++) {
        time_embedding(s->r->sigmas[i] * 1000.0f, time + i * TIME_CHANNELS);
        dsigma[i] = s->r->sigmas[i + 1] - s->r->sigmas[i];
    }
    time_embedding(q->guidance * 1000.0f, s->in[IN_GUIDANCE].data);
    TRY(fill_bias(s));
    TRY(fill_rope(s));
    return make_noise(s->m, &size, 0, q->seed, s->in[IN_NOISE].data, &s->c->error);
}

static flux1_status take_prompt(recording_inputs *s, const char *prompt)
{
    bool clip_cut = false, t5_cut = false;
    TRY(text_tokenize(s->m, prompt, strlen(prompt), (int)s->r->t5_tokens, &s->ids, &clip_cut, &t5_cut, &s->c->error));
    if (t5_cut)
        context_log(s->c, FLUX1_LOG_WARNING, "the prompt is longer than %lld T5 tokens: the rest is not seen",
                    (long long)s->r->t5_tokens);
    return FLUX1_OK;
}

flux1_status recording_inputs_make(flux1_context *c, const flux1_model *m, const recording *r, const char *prompt,
                                   recording_inputs *s, recording_results *out)
{
    const int64_t scale = vae_scale(&m->vae);
    *out = (recording_results){0};
    *s = (recording_inputs){.c = c, .m = m, .r = r, .h = r->height / scale, .w = r->width / scale};
    s->tokens = s->h / 2 * (s->w / 2);
    TRY(check_model(s));
    TRY(take_prompt(s, prompt));
    s->pooled_row = clip_pooled_row(&m->clip, s->ids->clip_ids, s->ids->clip_length);
    shape_all(s, out);
    return FLUX1_OK;
}

void recording_inputs_free(recording_inputs *s)
{
    for (int i = 0; i < RECORDING_INPUT_COUNT; i++)
        if (i != IN_CLIP_IDS && i != IN_T5_IDS)
            tensor_free(&s->in[i]);
    flux1_text_free(s->ids);
    s->ids = NULL;
}

void recording_inputs_take(recording_inputs *s, recording_stage stage, const recording_results *from)
{
    if (stage == RECORDING_CLIP)
        memcpy(s->in[IN_POOLED].data, from->pooled.data, tensor_bytes(&from->pooled));
    else if (stage == RECORDING_T5)
        memcpy(s->in[IN_EMBEDS].data, from->embeds.data, tensor_bytes(&from->embeds));
    else if (stage == RECORDING_DIT_LATENT)
        decoder_unpack(&s->m->vae, from->latent.data, s->h, s->w, s->in[IN_LATENT_PLANE].data);
}
