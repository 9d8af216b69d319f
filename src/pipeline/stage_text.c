/* The text stage: ids, CLIP's pooled vector, T5's sequence. */
#include "pipeline/text_to_image.h"
#include "pipeline/ttnn.h"

#include <stdlib.h>
#include <string.h>

flux1_status text_tokenize(const flux1_model *m, const char *prompt, size_t bytes, int t5_length, flux1_text **out,
                           bool *clip_cut, bool *t5_cut, flux1_error *err)
{
    flux1_status st;
    flux1_text *t = text_create(m->source.number, m->clip_length, t5_length);
    if (!t)
        return error_oom(err, sizeof *t, "the prompt's tokens");
    if (m->clip_tokens) { /* a synthetic model has no tokenizers: zeros are as good as any ids */
        TRY_CLEANUP(clip_tokenize(m->clip_tokens, prompt, bytes, t->clip_length, t->clip_ids, NULL, clip_cut, err));
        TRY_CLEANUP(t5_tokenize(m->t5_tokens, prompt, bytes, t->t5_length, t->t5_ids, NULL, t5_cut, err));
    }
    *out = t;
    return FLUX1_OK;
cleanup:
    flux1_text_free(t);
    return st;
}

flux1_status text_stand_in(const flux1_model *m, int clip_tokens, int t5_length, flux1_text **out, flux1_error *err)
{
    const clip_config *c = &m->clip;
    const int64_t end = c->eos == 2 || c->eos >= c->vocab ? c->vocab - 1 : c->eos, other = end == 0 && c->vocab > 1;
    flux1_text *t = text_create(m->source.number, m->clip_length, t5_length);
    if (!t)
        return error_oom(err, sizeof *t, "a prompt's tokens");
    for (int i = 0; i < t->clip_length; i++)
        t->clip_ids[i] = (int32_t)(i < clip_tokens - 1 ? other : end);
    *out = t;
    return FLUX1_OK;
}

flux1_status text_check(flux1_context *c, const flux1_model *m, const flux1_text *given, const flux1_text *ids,
                        const char *name)
{
    if (given->model != m->source.number)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "%s was encoded with another model", name);
    if (!text_same_ids(given, ids))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "%s was encoded from another prompt, or with another max_sequence_length", name);
    return FLUX1_OK;
}

/* Whether the encoders run where the transformer does, and that is on cards. */
static bool on_cards(const flux1_context *c) { return c->cards && text_device(c) == &c->device; }

flux1_status text_plan_make(flux1_context *c, const flux1_model *m, const adapter_set *adapters, const flux1_text *ids,
                            text_plan *out)
{
    flux1_status st;
    const mesh_device *d = text_device(c);
    *out = (text_plan){.job = {.model = m,
                               .adapters = adapters,
                               .clip_ids = ids->clip_ids,
                               .t5_ids = ids->t5_ids,
                               .clip_length = ids->clip_length,
                               .clip_rows = d->kind->sizing->any_rows && !on_cards(c)
                                                ? (int)clip_rows(&m->clip, ids->clip_ids, ids->clip_length)
                                                : 0,
                               .t5_length = ids->t5_length}};
    st = stage_plan_make(context_mesh(c, d), d, clip_body, &out->job, &out->job.ticker, &out->clip, &c->error);
    if (st == FLUX1_OK)
        st = stage_plan_make(context_mesh(c, d), d, t5_body, &out->job, &out->job.ticker, &out->t5, &c->error);
    if (st == FLUX1_OK && on_cards(c)) {
        stage_plan_elsewhere(&out->clip, mesh_ranks(context_mesh(c, d)));
        stage_plan_elsewhere(&out->t5, mesh_ranks(context_mesh(c, d)));
    }
    if (st != FLUX1_OK)
        text_plan_free(out);
    return st;
}

void text_plan_free(text_plan *plan)
{
    stage_plan_free(&plan->clip);
    stage_plan_free(&plan->t5);
}

static flux1_status run_on_cards(flux1_context *c, text_job *job, task encoder)
{
    return encoder == TASK_CLIP ? c->cards->call->encode(c, TTNN_TEXT_CLIP, job, &job->pooled)
                                : c->cards->call->encode(c, TTNN_TEXT_T5, job, &job->embeds);
}

/* A session each, so that one's weights have left memory before the other's come. */
static flux1_status run_on_device(flux1_context *c, text_job *job, const stage_plan *plan, const size_t *reserve,
                                  task encoder)
{
    TRY(session_take(c, text_device(c), job->model, job->adapters, &job->session));
    flux1_status st = memory_reserve(c, job->session, plan, NULL, reserve);
    if (st == FLUX1_OK)
        st = task_run(c, job->session, encoder, job);
    session_give(c, job->session);
    return st;
}

static flux1_status run_encoder(flux1_context *c, text_job *job, const stage_plan *plan, const size_t *reserve,
                                task encoder, progress *p)
{
    progress_stage(p, FLUX1_STAGE_TEXT, plan, &job->ticker);
    TRY(progress_report(p, &c->error));
    const flux1_status st = on_cards(c) ? run_on_cards(c, job, encoder) : run_on_device(c, job, plan, reserve, encoder);
    if (st == FLUX1_OK)
        progress_advance(p, plan->flops);
    return st;
}

flux1_status text_encode(flux1_context *c, const flux1_model *m, text_plan *plan, flux1_text *text, progress *p)
{
    text_job job = plan->job;
    TRY(tensor_create(DTYPE_F32, 2, (int64_t[]){1, m->clip.hidden}, &text->pooled, &c->error));
    TRY(tensor_create(DTYPE_F32, 3, (int64_t[]){1, text->t5_length, m->t5.d_model}, &text->embeds, &c->error));
    job.clip_ids = text->clip_ids;
    job.t5_ids = text->t5_ids;
    job.pooled = text->pooled;
    job.embeds = text->embeds;
    TRY(run_encoder(c, &job, &plan->clip, plan->reserve, TASK_CLIP, p));
    return run_encoder(c, &job, &plan->t5, plan->reserve, TASK_T5, p);
}
