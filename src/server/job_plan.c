#include "server/job_plan.h"

#include "server/failure.h"

#include <stddef.h>
#include <string.h>

void plan_params(const server *s, const job *j, flux1_generate_params *out)
{
    const job_request *r = &j->request;
    flux1_generate_params_defaults(out);
    out->prompt = r->prompt;
    out->negative_prompt = r->negative_prompt;
    out->true_cfg_scale = r->true_cfg_scale;
    out->width = r->width;
    out->height = r->height;
    out->steps = r->steps;
    out->guidance = r->guidance;
    out->seed = r->seed;
    out->count = r->count;
    out->batch = j->together ? j->together : s->settings.batch;
    out->step_cache = r->step_cache;
    out->max_sequence_length = r->max_sequence_length;
    out->adapters = j->adapters;
    out->adapter_count = r->loras;
    out->tiling = s->settings.tiling;
    out->preview_every = r->preview_every;
}

static bool take_adapters(server *s, job *j, int *taken, fault *f)
{
    const job_request *r = &j->request;
    for (*taken = 0; *taken < r->loras; ++*taken) {
        flux1_adapter_use *use = &j->adapters[*taken];
        use->scale = r->lora[*taken].scale;
        if (!loras_take(&s->loras, s->engine.planner, j->model->model, r->lora[*taken].name, &use->adapter, f))
            return false;
    }
    return true;
}

static void return_adapters(server *s, job *j, int count)
{
    for (int i = 0; i < count; i++)
        loras_return(&s->loras, j->adapters[i].adapter);
}

bool plan_hold(server *s, const job *j)
{
    if (j->request.loras > 0 && !loras_try_hold(&s->loras, j->adapters, j->request.loras))
        return false;
    models_hold(s, j->model);
    return true;
}

void plan_done(server *s, job *j)
{
    return_adapters(s, j, j->request.loras);
    models_return(s, j->model);
}

/* What the request comes to: the library rounds in the same way, and ignores a guidance that the model does not have.
 */
static void use_what_counts(const flux1_model_info *model, job_request *r)
{
    const int unit = model->size_multiple;
    r->width = r->width / unit * unit;
    r->height = r->height / unit * unit;
    if (!model->guidance)
        r->guidance = -1;
    if (!r->negative_prompt)
        r->true_cfg_scale = 1;
}

static bool is_small_enough(const server *s, const flux1_model_info *model, const job_request *r, fault *f)
{
    const int unit = model->size_multiple, width = r->width / unit * unit, height = r->height / unit * unit;
    const int64_t most = s->settings.max_pixels, pixels = (int64_t)width * height;
    return most == 0 || pixels <= most ||
           fault_set(f, FAULT_INVALID, "size",
                     "a picture of %dx%d has %lld pixels; this server draws %lld at most (--max-pixels)", r->width,
                     r->height, (long long)pixels, (long long)most);
}

/* As many pictures as could ever be computed together, with waiting jobs' too; their seeds do not matter. */
static void ask_for_more(const server *s, flux1_generate_params *params)
{
    const int most = s->settings.batch ? s->settings.batch : TOGETHER_MAX;
    if (params->count >= most)
        return;
    params->count = most;
    params->seed = 0;
}

static bool check(server *s, job *j, fault *f)
{
    flux1_generate_params params;
    if (!is_small_enough(s, &j->model->info, &j->request, f))
        return false;
    flux1_status st = flux1_format_check(s->engine.planner, j->request.format, j->request.width, j->request.height);
    plan_params(s, j, &params);
    ask_for_more(s, &params);
    if (st == FLUX1_OK)
        st = flux1_generate_batch(s->engine.planner, j->model->model, &params, &j->together);
    return st == FLUX1_OK ||
           failure_fault(s, f, st, "the job cannot be planned", flux1_context_message(s->engine.planner));
}

job *plan_job(server *s, served_model *model, job_request *request, fault *f)
{
    job *j = job_create(request);
    int taken = 0;
    if (!j) {
        models_return(s, model);
        fault_set(f, FAULT_SERVER, NULL, "out of memory for a job");
        return NULL;
    }
    j->model = model;
    pthread_mutex_lock(&s->planning);
    s->plan_notes = &j->notes;
    const bool good = take_adapters(s, j, &taken, f) && check(s, j, f);
    s->plan_notes = NULL;
    pthread_mutex_unlock(&s->planning);
    if (good) {
        const int unit = model->info.size_multiple;
        use_what_counts(&model->info, &j->request);
        j->image_tokens = (j->request.width / unit) * (j->request.height / unit);
        return j;
    }
    return_adapters(s, j, taken);
    models_return(s, model);
    job_free(j);
    return NULL;
}

/* The job's new model, adapters and notes are in `now`; its old ones after that. */
static void swap(server *s, job *j, job *now)
{
    const job old = *now;
    queue_lock(&s->queue);
    now->model = j->model;
    memcpy(now->adapters, j->adapters, sizeof now->adapters);
    j->model = old.model;
    memcpy(j->adapters, old.adapters, sizeof j->adapters);
    j->together = old.together;
    for (int i = 0; i < now->notes.count; i++)
        remarks_add(&j->notes, "%s", now->notes.text[i]);
    queue_unlock(&s->queue);
}

bool plan_again(server *s, job *j, fault *f)
{
    job now = {.request = j->request, .model = models_take(s, j->request.model, NULL, f)};
    int taken = 0;
    if (!now.model)
        return false;
    pthread_mutex_lock(&s->planning);
    s->plan_notes = &now.notes;
    const bool good = take_adapters(s, &now, &taken, f) && check(s, &now, f);
    s->plan_notes = NULL;
    pthread_mutex_unlock(&s->planning);
    if (good)
        swap(s, j, &now);
    return_adapters(s, &now, taken);
    models_return(s, now.model);
    remarks_free(&now.notes);
    return good;
}
