#include "pipeline/recording_play.h"

#include "mesh/script_play.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The stages as they run: those of the transformer are one. */
typedef enum played { PLAY_CLIP, PLAY_T5, PLAY_DIT, PLAY_VAE, PLAYS } played;
static const recording_stage stage_of[PLAYS] = {RECORDING_CLIP, RECORDING_T5, RECORDING_DIT_OPEN, RECORDING_VAE};
static const recording_stage gives[PLAYS] = {RECORDING_CLIP, RECORDING_T5, RECORDING_DIT_LATENT, RECORDING_VAE};

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
    const recording *r;
    recording_inputs inputs;
    recording_results *out;
    played now;
    ticker ticker;
    stage_plan plan[PLAYS];
    heard_rank *heard; /* [ranks], while a stage is planned */
    int hearing;       /* which of them */
} playing;

static void turn_to(playing *k, played stage)
{
    k->now = stage;
    k->inputs.stage = stage_of[stage];
}

/* ---- bodies ---- */

flux1_status recording_play_step(player *p, mesh *m, const recording *r, int64_t step)
{
    int slot;
    const size_t mark = ops_mark(m->o);
    TRY(ops_step_set(m->o, step));
    TRY(player_run(p, &r->stage[RECORDING_DIT_STEP]));
    if (ops_mark(m->o) != mark)
        return error_set(m->err, FLUX1_ERR_FORMAT,
                         "stage dit.step: it should release what it makes, and nothing else: the next step finds what "
                         "it found");
    TRY(ops_step_end(m->o, step));
    TRY(mesh_step_wait(m, step, &slot));
    return slot < 0 ? FLUX1_OK
                    : error_set(m->err, FLUX1_ERR_NUMERIC,
                                "NaN or infinity at step %" PRId64 " in what finite slot=%d of dit.step looks at; "
                                "flux1 info --verify looks for a damaged weight",
                                step + 1, slot);
}

/* A dry run makes the first step and the last, which shows what a step leaves to the next and whether the tables have
 * rows enough. */
static flux1_status play_denoiser(player *p, mesh *m, const playing *k)
{
    TRY(player_run(p, &k->r->stage[RECORDING_DIT_OPEN]));
    const int64_t last = k->r->steps - 1;
    for (int64_t step = 0; step <= last; step = ops_counts_only(m->o) && step < last ? last : step + 1)
        TRY(recording_play_step(p, m, k->r, step));
    return player_run(p, &k->r->stage[RECORDING_DIT_LATENT]);
}

static flux1_status play_body(void *arg, mesh *m)
{
    playing *k = arg;
    recording_results *out = k->out;
    tensor *const results[PLAYS] = {&out->pooled, &out->embeds, &out->latent, &out->pixels};
    const script_sources from = recording_sources(&k->inputs, results[k->now]);
    player *p = NULL;
    const size_t mark = ops_mark(m->o);
    if (ops_counts_only(m->o))
        k->hearing = m->rank;
    TRY(player_create(m, &from, &p));
    flux1_status st = k->now == PLAY_DIT ? play_denoiser(p, m, k) : player_run(p, &k->r->stage[stage_of[k->now]]);
    if (st == FLUX1_OK && mesh_leads(m) && !player_gave(p))
        st = error_set(m->err, FLUX1_ERR_FORMAT, "stage %s gives no output", recording_names[gives[k->now]]);
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
                                 recording_names[stage_of[k->now]], r);
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
    turn_to(k, stage);
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
    return memory_check(k->c, memory_of(k->c, &k->c->device, &k->plan[stage], NULL), HINT_OPTIONS, "%s", doing[stage]);
}

/* ---- all stages ---- */

static flux1_status run_stage(playing *k, played stage)
{
    flux1_context *c = k->c;
    session *s;
    turn_to(k, stage);
    TRY(session_take(c, &c->device, k->inputs.m, NULL, &s));
    flux1_status st = memory_reserve(c, s, &k->plan[stage], NULL, NULL);
    if (st == FLUX1_OK)
        st = mesh_run(s->mesh, play_body, k, &c->error);
    session_give(c, s);
    return st;
}

static flux1_status run_all(playing *k, const recording_request *q)
{
    for (played i = 0; i < PLAYS; i++)
        TRY(plan_stage(k, i));
    TRY(recording_inputs_fill(&k->inputs, q, k->out));
    for (played i = 0; i < PLAYS; i++) {
        TRY(run_stage(k, i));
        recording_inputs_take(&k->inputs, gives[i], k->out);
    }
    return FLUX1_OK;
}

flux1_status recording_play(flux1_context *c, const flux1_model *m, const recording *r, const recording_request *q,
                            recording_results *out, flux1_image *image)
{
    playing k = {.c = c, .r = r, .out = out};
    flux1_status st = recording_inputs_make(c, m, r, q->prompt, &k.inputs, out);
    if (st == FLUX1_OK)
        st = run_all(&k, q);
    if (st == FLUX1_OK && image)
        st = decoder_picture(r->height, r->width, out->pixels.data, NULL, image, &c->error);
    for (int i = 0; i < PLAYS; i++)
        stage_plan_free(&k.plan[i]);
    recording_inputs_free(&k.inputs);
    if (st != FLUX1_OK)
        recording_results_free(out);
    return st;
}
