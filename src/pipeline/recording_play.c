#include "pipeline/recording_play.h"

#include "mesh/script_play.h"
#include "model/dit_tables.h"
#include "pipeline/text_to_image.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* What a recording is given by name: enum, name, rows, columns, type. k: the playing; docs/recording.md. */
/* clang-format off */
#define INPUT_MAP(X) \
    X(CLIP_IDS, "clip.ids", k->r->clip_tokens, 1, DTYPE_I32) \
    X(T5_IDS, "t5.ids", k->r->t5_tokens, 1, DTYPE_I32) \
    X(T5_BIAS, "t5.bias", k->m->t5.heads, 2 * k->r->t5_tokens - 1, DTYPE_F32) \
    X(EMBEDS, "prompt_embeds", k->r->t5_tokens, k->m->t5.d_model, DTYPE_F32) \
    X(POOLED, "pooled", 1, k->m->clip.hidden, DTYPE_F32) \
    X(TIME, "time", k->r->steps, TIME_CHANNELS, DTYPE_F32) \
    X(GUIDANCE, "guidance", 1, TIME_CHANNELS, DTYPE_F32) \
    X(DSIGMA, "dsigma", k->r->steps, 1, DTYPE_F32) \
    X(ROPE_TEXT, "rope.text", k->r->t5_tokens, k->m->dit.head_dim, DTYPE_F32) \
    X(ROPE_IMAGE, "rope.image", k->tokens, k->m->dit.head_dim, DTYPE_F32) \
    X(NOISE, "noise", k->tokens, k->m->dit.in_channels, DTYPE_F32) \
    X(LATENT_PLANE, "latent_plane", k->h * k->w, k->m->vae.latent_channels, DTYPE_F32)
/* clang-format on */

typedef enum input {
#define INPUT_ENUM(id, name, rows, cols, type) IN_##id,
    INPUT_MAP(INPUT_ENUM)
#undef INPUT_ENUM
        INPUTS
} input;

/* The stages as they run: those of the transformer are one. */
typedef enum played { PLAY_CLIP, PLAY_T5, PLAY_DIT, PLAY_VAE, PLAYS } played;

/* An exchange of a dry run. */
typedef struct heard {
    const char *operation;
    char axis; /* 's', 't' or 'a' */
    size_t bytes;
} heard;

typedef struct heard_rank {
    heard *event;
    size_t count, room;
    bool failed; /* out of memory */
} heard_rank;

typedef struct playing {
    flux1_context *c;
    const flux1_model *m;
    const recording *r;
    const recording_request *q;
    recording_results *out;
    int64_t tokens, h, w; /* of the picture; of the latent plane */
    int64_t pooled_row;
    tensor in[INPUTS];
    played now;
    ticker ticker;
    stage_plan plan[PLAYS];
    heard_rank *heard; /* [ranks], while a stage is planned */
    int hearing;       /* which of them */
} playing;

void recording_results_free(recording_results *r)
{
    tensor_free(&r->pooled);
    tensor_free(&r->embeds);
    tensor_free(&r->latent);
    tensor_free(&r->pixels);
}

/* ---- what the calls ask for ---- */

static flux1_status find_tensor(void *user, const char *name, const store_tensor **out, flux1_error *err)
{
    static const component parts[PLAYS] = {COMPONENT_CLIP, COMPONENT_T5, COMPONENT_DIT, COMPONENT_VAE};
    const playing *k = user;
    const store *s = k->m->store[parts[k->now]];
    *out = store_find(s, name);
    if (!*out && strcmp(name, "shared.weight") == 0) /* T5's tied embedding goes by either name */
        *out = store_find(s, "encoder.embed_tokens.weight");
    if (!*out && strcmp(name, "encoder.embed_tokens.weight") == 0)
        *out = store_find(s, "shared.weight");
    return *out ? FLUX1_OK : error_set(err, FLUX1_ERR_MODEL, "%s has no tensor \"%s\"", store_path(s), name);
}

static flux1_status find_input(void *user, const char *name, tensor *out, flux1_error *err)
{
    static const char *const names[] = {
#define INPUT_NAME(id, name, rows, cols, type) name,
        INPUT_MAP(INPUT_NAME)
#undef INPUT_NAME
    };
    const playing *k = user;
    for (int i = 0; i < INPUTS; i++)
        if (strcmp(names[i], name) == 0) {
            *out = k->in[i];
            return FLUX1_OK;
        }
    return error_set(err, FLUX1_ERR_FORMAT, "unknown input \"%.60s\"", name);
}

static flux1_status find_row(void *user, const char *name, int64_t *out, flux1_error *err)
{
    if (strcmp(name, "clip.pooled_row") != 0)
        return error_set(err, FLUX1_ERR_FORMAT, "unknown row \"%.60s\"", name);
    *out = ((const playing *)user)->pooled_row;
    return FLUX1_OK;
}

/* ---- bodies ---- */

static flux1_status play_step(player *p, mesh *m, const playing *k, int64_t step)
{
    int slot;
    TRY(ops_step_set(m->o, step));
    TRY(player_run(p, &k->r->stage[RECORDING_DIT_STEP]));
    TRY(ops_step_end(m->o, step));
    TRY(mesh_step_wait(m, step, &slot));
    return slot < 0 ? FLUX1_OK
                    : error_set(m->err, FLUX1_ERR_NUMERIC,
                                "NaN or infinity at step %" PRId64 " in what finite slot=%d of dit.step looks at; "
                                "flux1 info --verify looks for a damaged weight",
                                step + 1, slot);
}

/* A dry run makes one step, the last: its rows of the tables must be there. */
static flux1_status play_denoiser(player *p, mesh *m, const playing *k)
{
    TRY(player_run(p, &k->r->stage[RECORDING_DIT_OPEN]));
    for (int64_t step = ops_counts_only(m->o) ? k->r->steps - 1 : 0; step < k->r->steps; step++)
        TRY(play_step(p, m, k, step));
    return player_run(p, &k->r->stage[RECORDING_DIT_LATENT]);
}

static flux1_status play_body(void *arg, mesh *m)
{
    playing *k = arg;
    recording_results *out = k->out;
    tensor *const results[PLAYS] = {&out->pooled, &out->embeds, &out->latent, &out->pixels};
    const recording_stage stages[PLAYS] = {RECORDING_CLIP, RECORDING_T5, RECORDING_DIT_OPEN, RECORDING_VAE};
    const script_sources from = {
        .tensor = find_tensor, .input = find_input, .row = find_row, .output = results[k->now], .user = k};
    player *p = NULL;
    const size_t mark = ops_mark(m->o);
    if (ops_counts_only(m->o))
        k->hearing = m->rank;
    TRY(player_create(m, &from, &p));
    flux1_status st = k->now == PLAY_DIT ? play_denoiser(p, m, k) : player_run(p, &k->r->stage[stages[k->now]]);
    player_destroy(p);
    if (st == FLUX1_OK)
        ops_release(m->o, mark);
    return st;
}

/* ---- before anything runs ---- */

static void hear(void *user, const ops_event *e)
{
    playing *k = user;
    heard_rank *h = &k->heard[k->hearing];
    if (e->kind != EVENT_COLLECTIVE || h->failed)
        return;
    if (h->count == h->room) {
        heard *more = realloc(h->event, (2 * h->room + 64) * sizeof *more);
        h->failed = !more;
        if (!more)
            return;
        h->event = more;
        h->room = 2 * h->room + 64;
    }
    h->event[h->count++] = (heard){e->operation, e->axis[0], e->bytes_moved};
}

/* Ranks that exchange must agree on how much: those of the same tp rank along sp, and so on. */
static flux1_status compare_exchanges(playing *k)
{
    const mesh_config *c = &k->r->mesh;
    flux1_error *err = &k->c->error;
    for (int r = 0; r < mesh_ranks(c); r++) {
        const heard_rank *mine = &k->heard[r];
        if (mine->failed)
            return error_oom(err, 0, "a recording");
        for (size_t i = 0; i < mine->count; i++) {
            const char axis = mine->event[i].axis;
            const heard_rank *first = &k->heard[axis == 's' ? r % c->tp : axis == 't' ? r / c->tp * c->tp : 0];
            if (mine->count != first->count || first->event[i].axis != axis ||
                first->event[i].bytes != mine->event[i].bytes ||
                strcmp(first->event[i].operation, mine->event[i].operation) != 0)
                return error_set(err, FLUX1_ERR_FORMAT, "stage %s: rank %d and others differ in what they exchange",
                                 recording_names[k->now == PLAY_VAE ? RECORDING_VAE : (recording_stage)k->now], r);
        }
    }
    return FLUX1_OK;
}

static flux1_status plan_stage(playing *k, played stage)
{
    static const char *const doing[PLAYS] = {"encoding the prompt (CLIP)", "encoding the prompt (T5)", "denoising",
                                             "decoding"};
    const int ranks = mesh_ranks(&k->r->mesh);
    mesh_device d = k->c->device;
    d.config.event = hear;
    d.config.event_user = k;
    k->now = stage;
    if (!(k->heard = calloc((size_t)ranks, sizeof *k->heard)))
        return error_oom(&k->c->error, 0, "a recording");
    flux1_status st = stage_plan_make(&k->r->mesh, &d, play_body, k, &k->ticker, &k->plan[stage], &k->c->error);
    if (st == FLUX1_OK)
        st = compare_exchanges(k);
    for (int r = 0; r < ranks; r++)
        free(k->heard[r].event);
    free(k->heard);
    k->heard = NULL;
    TRY(st);
    return memory_check(k->c, memory_of(k->c, &k->c->device, &k->plan[stage], NULL), 0, "%s", doing[stage]);
}

static flux1_status check_model(const playing *k)
{
    const recording *r = k->r;
    const flux1_model *m = k->m;
    flux1_error *err = &k->c->error;
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

/* ---- inputs ---- */

/* The ids stay the text's; all others are the playing's own. */
static flux1_status create_tensors(playing *k, const flux1_text *ids)
{
    const struct {
        int64_t rows, cols;
        dtype type;
    } shapes[] = {
#define INPUT_SHAPE(id, name, rows, cols, type) {rows, cols, type},
        INPUT_MAP(INPUT_SHAPE)
#undef INPUT_SHAPE
    };
    const int64_t scale = vae_scale(&k->m->vae), pixels = k->h * k->w * scale * scale;
    flux1_error *err = &k->c->error;
    for (int i = 0; i < INPUTS; i++) {
        const int64_t shape[] = {shapes[i].rows, shapes[i].cols};
        if (i == IN_CLIP_IDS || i == IN_T5_IDS)
            k->in[i] = (tensor){.type = DTYPE_I32, .dims = 2, .shape = {shape[0], 1}};
        else
            TRY(tensor_create(shapes[i].type, 2, shape, &k->in[i], err));
    }
    k->in[IN_CLIP_IDS].data = ids->clip_ids;
    k->in[IN_T5_IDS].data = ids->t5_ids;
    TRY(tensor_create(DTYPE_F32, 2, k->in[IN_POOLED].shape, &k->out->pooled, err));
    TRY(tensor_create(DTYPE_F32, 2, k->in[IN_EMBEDS].shape, &k->out->embeds, err));
    TRY(tensor_create(DTYPE_F32, 2, (int64_t[]){k->tokens, k->m->dit.in_channels}, &k->out->latent, err));
    return tensor_create(DTYPE_F32, 2, (int64_t[]){pixels, k->m->vae.out_channels}, &k->out->pixels, err);
}

static flux1_status fill_bias(playing *k)
{
    const store_tensor *t;
    k->now = PLAY_T5;
    TRY(find_tensor(k, T5_BIAS_TENSOR, &t, &k->c->error));
    const weight_recipe bias = recipe_whole(WEIGHT_TABLE, t);
    const cut all = {0, k->m->t5.heads};
    return t5_bias_values(&k->m->t5, &bias, all, k->r->t5_tokens, k->in[IN_T5_BIAS].data, &k->c->error);
}

static flux1_status fill_rope(playing *k)
{
    const int64_t grid_w = k->w / 2, rows = k->tokens > k->r->t5_tokens ? k->tokens : k->r->t5_tokens;
    float *ids = calloc((size_t)(rows * DIT_ID_AXES), sizeof *ids);
    if (!ids)
        return error_oom(&k->c->error, 0, "the tokens' positions");
    rope_table(&k->m->dit, ids, k->r->t5_tokens, k->in[IN_ROPE_TEXT].data);
    for (int64_t i = 0; i < k->tokens; i++) {
        ids[i * DIT_ID_AXES + 1] = (float)(i / grid_w);
        ids[i * DIT_ID_AXES + 2] = (float)(i % grid_w);
    }
    rope_table(&k->m->dit, ids, k->tokens, k->in[IN_ROPE_IMAGE].data);
    free(ids);
    return FLUX1_OK;
}

static flux1_status fill_inputs(playing *k, const flux1_text *ids)
{
    const request size = {.width = k->r->width, .height = k->r->height};
    float *time = k->in[IN_TIME].data, *dsigma = k->in[IN_DSIGMA].data;
    k->pooled_row = clip_pooled_row(&k->m->clip, ids->clip_ids, ids->clip_length);
    for (int64_t i = 0; i < k->r->steps; i++) {
        time_embedding(k->r->sigmas[i] * 1000.0f, time + i * TIME_CHANNELS);
        dsigma[i] = k->r->sigmas[i + 1] - k->r->sigmas[i];
    }
    time_embedding(k->q->guidance * 1000.0f, k->in[IN_GUIDANCE].data);
    TRY(fill_bias(k));
    TRY(fill_rope(k));
    return make_noise(k->m, &size, 0, k->q->seed, k->in[IN_NOISE].data, &k->c->error);
}

/* ---- all stages ---- */

static flux1_status run_stage(playing *k, played stage)
{
    flux1_context *c = k->c;
    session *s;
    k->now = stage;
    TRY(session_take(c, &c->device, k->m, NULL, &s));
    flux1_status st = memory_reserve(c, s, &k->plan[stage], NULL, NULL);
    if (st == FLUX1_OK)
        st = mesh_run(s->mesh, play_body, k, &c->error);
    session_give(c, s);
    return st;
}

static flux1_status run_all(playing *k, flux1_image *image)
{
    const recording_results *out = k->out;
    for (played i = 0; i < PLAYS; i++)
        TRY(plan_stage(k, i));
    TRY(run_stage(k, PLAY_CLIP));
    memcpy(k->in[IN_POOLED].data, out->pooled.data, tensor_bytes(&out->pooled));
    TRY(run_stage(k, PLAY_T5));
    memcpy(k->in[IN_EMBEDS].data, out->embeds.data, tensor_bytes(&out->embeds));
    TRY(run_stage(k, PLAY_DIT));
    decoder_unpack(&k->m->vae, out->latent.data, k->h, k->w, k->in[IN_LATENT_PLANE].data);
    TRY(run_stage(k, PLAY_VAE));
    return image ? decoder_picture(k->r->height, k->r->width, out->pixels.data, NULL, image, &k->c->error) : FLUX1_OK;
}

static flux1_status take_prompt(playing *k, flux1_text **ids)
{
    bool clip_cut = false, t5_cut = false;
    const char *prompt = k->q->prompt;
    TRY(text_tokenize(k->m, prompt, strlen(prompt), (int)k->r->t5_tokens, ids, &clip_cut, &t5_cut, &k->c->error));
    if (t5_cut)
        context_log(k->c, FLUX1_LOG_WARNING, "the prompt is longer than %lld T5 tokens: the rest is not seen",
                    (long long)k->r->t5_tokens);
    return FLUX1_OK;
}

static void free_all(playing *k)
{
    for (int i = 0; i < INPUTS; i++)
        if (i != IN_CLIP_IDS && i != IN_T5_IDS)
            tensor_free(&k->in[i]);
    for (int i = 0; i < PLAYS; i++)
        stage_plan_free(&k->plan[i]);
}

flux1_status recording_play(flux1_context *c, const flux1_model *m, const recording *r, const recording_request *q,
                            recording_results *out, flux1_image *image)
{
    const int64_t scale = vae_scale(&m->vae);
    flux1_text *ids = NULL;
    flux1_status st;
    *out = (recording_results){0};
    playing k = {.c = c, .m = m, .r = r, .q = q, .out = out, .h = r->height / scale, .w = r->width / scale};
    k.tokens = k.h / 2 * (k.w / 2);
    TRY(check_model(&k));
    TRY_CLEANUP(take_prompt(&k, &ids));
    TRY_CLEANUP(create_tensors(&k, ids));
    TRY_CLEANUP(fill_inputs(&k, ids));
    st = run_all(&k, image);
cleanup:
    free_all(&k);
    flux1_text_free(ids);
    if (st != FLUX1_OK)
        recording_results_free(out);
    return st;
}
