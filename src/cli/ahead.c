#include "cli/ahead.h"

static void *encode(void *arg)
{
    ahead *a = arg;
    flux1_generate_params negative = a->params;
    negative.prompt = a->params.negative_prompt;
    if (flux1_encode_text(a->context, a->model, &a->params, &a->text) != FLUX1_OK)
        a->text = NULL;
    else if (negative.prompt && a->params.true_cfg_scale > 1 &&
             flux1_encode_text(a->context, a->model, &negative, &a->negative_text) != FLUX1_OK)
        a->negative_text = NULL;
    return NULL;
}

static int until_interrupted(void *user, const flux1_progress *progress)
{
    (void)user, (void)progress;
    return was_interrupted();
}

/* On one CPU both would compete for the same cores, unless the
 * encoders were given a device by name. Not on a mesh: two sets of communicators on the same GPUs need one order. */
bool ahead_pays(const options *opt, const flux1_context_info *info)
{
    return info->ranks == 1 && (info->runs_ahead || opt->values[OPT_ENCODER_DEVICE].given);
}

flux1_stage ahead_from(const flux1_context_info *info)
{
    return info->runs_ahead && !info->encoders_apart ? FLUX1_STAGE_DECODE : FLUX1_STAGE_DENOISE;
}

static void plan(ahead *a, const shared_model *s)
{
    a->planned = true;
    a->enabled = ahead_pays(s->opt, &s->info);
    a->from = ahead_from(&s->info);
}

/* With several pictures it waits for the last one's decoding: earlier, each picture allocates again. */
bool ahead_is_time(ahead *a, const shared_model *s, const flux1_progress *now)
{
    if (!a->planned)
        plan(a, s);
    return a->enabled && !a->running && now->stage >= a->from &&
           (now->stage != FLUX1_STAGE_DECODE || now->image + 1 >= now->images);
}

void ahead_start(ahead *a, const shared_model *s, const options *next)
{
    if (!a->context && open_silent_context(s->opt, &a->context) != FLUX1_OK) {
        a->enabled = false;
        return;
    }
    a->model = s->model;
    fill_request(next, &a->params);
    a->params.prompt = next->values[OPT_PROMPT].text;
    a->params.progress = until_interrupted;
    a->running = pthread_create(&a->thread, NULL, encode, a) == 0;
}

void ahead_finish(ahead *a, flux1_text **text, flux1_text **negative_text)
{
    if (!a->running)
        return;
    pthread_join(a->thread, NULL);
    a->running = false;
    *text = a->text;
    *negative_text = a->negative_text;
    a->text = a->negative_text = NULL;
}

void ahead_free(ahead *a) { flux1_context_destroy(a->context); }
