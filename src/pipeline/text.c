/* The text stage: ids, CLIP's pooled vector, T5's sequence. */
#include "pipeline/text_to_image.h"

#include <stdlib.h>
#include <string.h>

flux1_status text_tokenize(const flux1_model *m, const char *prompt, size_t bytes, int t5_length, flux1_text **out,
                           bool *clip_cut, bool *t5_cut, flux1_error *err)
{
    flux1_status st;
    flux1_text *t = calloc(1, sizeof *t);
    if (!t)
        return error_oom(err, sizeof *t, "the prompt");
    t->model = m;
    t->clip_length = m->clip_length;
    t->t5_length = t5_length;
    t->clip_ids = calloc((size_t)t->clip_length, sizeof *t->clip_ids);
    t->t5_ids = calloc((size_t)t->t5_length, sizeof *t->t5_ids);
    if (!t->clip_ids || !t->t5_ids) {
        st = error_oom(err, 0, "the prompt's tokens");
        goto cleanup;
    }
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

flux1_status text_plan_make(flux1_context *c, const flux1_model *m, flux1_text *text, text_plan *out)
{
    flux1_status st;
    *out = (text_plan){.job = {.model = m,
                               .clip_ids = text->clip_ids,
                               .t5_ids = text->t5_ids,
                               .clip_length = text->clip_length,
                               .t5_length = text->t5_length}};
    st = stage_plan_make(&c->mesh, &c->text_device, clip_body, &out->job, &out->job.ticker, &out->clip, &c->error);
    if (st == FLUX1_OK)
        st = stage_plan_make(&c->mesh, &c->text_device, t5_body, &out->job, &out->job.ticker, &out->t5, &c->error);
    if (st != FLUX1_OK)
        text_plan_free(out);
    return st;
}

void text_plan_free(text_plan *plan)
{
    stage_plan_free(&plan->clip);
    stage_plan_free(&plan->t5);
}

flux1_status text_encode(flux1_context *c, text_plan *plan, flux1_text *text, progress *p)
{
    const flux1_model *m = text->model;
    text_job *job = &plan->job;
    TRY(tensor_create(DTYPE_F32, 2, (int64_t[]){1, m->clip.hidden}, &text->pooled, &c->error));
    TRY(tensor_create(DTYPE_F32, 3, (int64_t[]){1, text->t5_length, m->t5.d_model}, &text->embeds, &c->error));
    job->pooled = text->pooled;
    job->embeds = text->embeds;
    progress_stage(p, FLUX1_STAGE_TEXT, &plan->clip, &job->ticker);
    TRY(progress_report(p, &c->error));
    TRY(stage_run(&c->mesh, &c->text_device, &plan->clip, clip_body, job, &c->error));
    progress_advance(p, plan->clip.count.flops);
    progress_stage(p, FLUX1_STAGE_TEXT, &plan->t5, &job->ticker);
    TRY(stage_run(&c->mesh, &c->text_device, &plan->t5, t5_body, job, &c->error));
    progress_advance(p, plan->t5.count.flops);
    return FLUX1_OK;
}
