#include "pipeline/request.h"

#include "base/philox.h"
#include "pipeline/latents.h"

#include <math.h>
#include <string.h>

void flux1_generate_params_defaults(flux1_generate_params *p)
{
    if (!p)
        return;
    *p = (flux1_generate_params){.size = sizeof *p, .steps = -1, .guidance = -1, .count = 1, .true_cfg_scale = 1};
}

/* A side in pixels: the default for 0, rounded down to the model's unit, and said. */
static flux1_status take_size(flux1_context *c, const flux1_model *m, const char *name, int wanted, int64_t *out)
{
    int64_t unit = folder_size_multiple(m), value = wanted ? wanted : m->vae.sample_size;
    if (value < 0)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "%s %d: it should be a positive number of pixels", name,
                         wanted);
    if (value < unit)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "%s %lld: this model's pictures are at least %lld pixels %s",
                         name, (long long)value, (long long)unit, name[0] == 'w' ? "wide" : "high");
    if (value > SIZE_LIMIT)
        return error_set(&c->error, FLUX1_ERR_LIMIT, "%s %lld: at most %d pixels", name, (long long)value, SIZE_LIMIT);
    *out = value / unit * unit;
    if (*out != value)
        context_log(c, FLUX1_LOG_WARNING, "%s %lld is not a multiple of %lld: rounded down to %lld", name,
                    (long long)value, (long long)unit, (long long)*out);
    return FLUX1_OK;
}

static flux1_status take_counts(flux1_context *c, const flux1_model *m, const flux1_generate_params *p, request *r)
{
    flux1_error *err = &c->error;
    r->steps = p->steps == -1 ? (m->dit.guidance ? 28 : 4) : p->steps;
    if (r->steps < 1)
        return error_set(err, FLUX1_ERR_ARGUMENT, "steps %d: it should be at least 1", p->steps);
    if (r->steps > STEPS_LIMIT)
        return error_set(err, FLUX1_ERR_LIMIT, "steps %d: at most %d", p->steps, STEPS_LIMIT);
    if (p->count < 1)
        return error_set(err, FLUX1_ERR_ARGUMENT, "count %d: it should be at least 1", p->count);
    if (p->count > COUNT_LIMIT)
        return error_set(err, FLUX1_ERR_LIMIT, "count %d: at most %d", p->count, COUNT_LIMIT);
    if (p->max_sequence_length < 0)
        return error_set(err, FLUX1_ERR_ARGUMENT, "max_sequence_length %d: it should be 1 to %d",
                         p->max_sequence_length, m->t5_length_max);
    if (p->max_sequence_length > m->t5_length_max)
        return error_set(err, FLUX1_ERR_LIMIT, "max_sequence_length %d: at most %d", p->max_sequence_length,
                         m->t5_length_max);
    if (p->preview_every < 0)
        return error_set(err, FLUX1_ERR_ARGUMENT, "preview_every %d: it should be a number of steps, or 0 for none",
                         p->preview_every);
    if (p->preview_kind != FLUX1_PREVIEW_RGB && p->preview_kind != FLUX1_PREVIEW_VAE)
        return error_set(err, FLUX1_ERR_ARGUMENT, "preview_kind %d: it should be one of flux1_preview_kind",
                         (int)p->preview_kind);
    if (p->tiling < FLUX1_TILING_AUTO || p->tiling > FLUX1_TILING_BANDS)
        return error_set(err, FLUX1_ERR_ARGUMENT, "tiling %d: it should be one of flux1_tiling", (int)p->tiling);
    if (p->batch < 0)
        return error_set(err, FLUX1_ERR_ARGUMENT, "batch %d: it should be a number of pictures, or 0", p->batch);
    if (p->seed > UINT64_MAX - (uint64_t)(p->count - 1))
        return error_set(err, FLUX1_ERR_ARGUMENT,
                         "seed %llu with count %d: the last picture's seed would be beyond 18446744073709551615",
                         (unsigned long long)p->seed, p->count);
    r->batch = p->batch;
    r->tiling = p->tiling;
    r->count = p->count;
    r->length = p->max_sequence_length ? p->max_sequence_length : m->t5_length;
    r->preview_every = p->progress ? p->preview_every : 0;
    r->preview_kind = p->preview_kind;
    return FLUX1_OK;
}

static flux1_status take_rng(flux1_context *c, const flux1_generate_params *p, request *r)
{
    if (p->rng != FLUX1_RNG_CPU && p->rng != FLUX1_RNG_CUDA)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "rng %d: it should be one of flux1_rng", (int)p->rng);
    if (p->rng_threads < 0 || (p->rng_threads > 0 && p->rng_threads < PHILOX_THREADS_LEAST))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "rng_threads %d: it should be a GPU's multiprocessors times threads of each, at least %d, or "
                         "0 for an H100's",
                         p->rng_threads, PHILOX_THREADS_LEAST);
    r->rng = p->rng;
    r->rng_threads = p->rng_threads ? p->rng_threads : PHILOX_THREADS_DEFAULT;
    return FLUX1_OK;
}

/* diffusers' FluxPipeline: true CFG is on with a negative prompt (an empty one counts) and a scale above 1. */
static flux1_status take_true_cfg(flux1_context *c, const flux1_generate_params *p, request *r)
{
    if (isnan(p->true_cfg_scale) || isinf(p->true_cfg_scale))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "true_cfg_scale %g: it should be a finite number, such as 4",
                         (double)p->true_cfg_scale);
    r->true_cfg_scale = p->true_cfg_scale;
    r->passes = p->negative_prompt && p->true_cfg_scale > 1 ? 2 : 1;
    if (p->negative_prompt && r->passes == 1)
        context_log(c, FLUX1_LOG_WARNING,
                    "the negative prompt is ignored: true_cfg_scale is %g, it takes effect above 1",
                    (double)p->true_cfg_scale);
    else if (!p->negative_prompt && p->true_cfg_scale > 1)
        context_log(c, FLUX1_LOG_WARNING, "true_cfg_scale %g is ignored: there is no negative prompt",
                    (double)p->true_cfg_scale);
    if (r->passes == 1)
        r->true_cfg_scale = 1;
    return FLUX1_OK;
}

flux1_status request_adapters(flux1_context *c, const flux1_model *m, const flux1_adapter_use *uses, int count,
                              request *r)
{
    flux1_error *err = &c->error;
    if (count < 0 || (count > 0 && !uses))
        return error_set(err, FLUX1_ERR_ARGUMENT, "adapter_count %d: it should be the length of adapters", count);
    if (count > ADAPTERS_MAX)
        return error_set(err, FLUX1_ERR_LIMIT, "adapter_count %d: at most %d", count, ADAPTERS_MAX);
    for (int i = 0; i < count; i++) {
        const flux1_adapter_use *use = &uses[i];
        if (!use->adapter || use->adapter->model != m->source.number)
            return error_set(err, FLUX1_ERR_ARGUMENT, "adapters[%d]: it should be an adapter opened for this model", i);
        if (!isfinite(use->scale))
            return error_set(err, FLUX1_ERR_ARGUMENT, "adapters[%d]: scale %g, it should be a finite number, such as 1",
                             i, (double)use->scale);
        r->adapters.adapter[i] = use->adapter;
        r->adapters.scale[i] = use->scale;
    }
    r->adapters.count = count;
    return FLUX1_OK;
}

static flux1_status take_step_cache(flux1_context *c, const flux1_model *m, const flux1_generate_params *p, request *r)
{
    if (!isfinite(p->step_cache) || p->step_cache < 0)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "step_cache %g: it should be a threshold such as 0.12, or 0 for none", (double)p->step_cache);
    if (p->step_cache > 0 && m->dit.layers + m->dit.single_layers < 2)
        return error_set(&c->error, FLUX1_ERR_UNSUPPORTED,
                         "step_cache: this transformer has one block, there is nothing to reuse behind it");
    r->step_cache = p->step_cache;
    return FLUX1_OK;
}

void request_warn_size(flux1_context *c, const flux1_model *m, const request *r)
{
    char sizes[TRAINED_ROOM];
    if (trained_is_far(&m->trained, r->width, r->height))
        context_log(c, FLUX1_LOG_WARNING,
                    "%lldx%lld is far from what this model was trained for (%s): pictures may fall apart",
                    (long long)r->width, (long long)r->height, trained_describe(&m->trained, sizes));
}

flux1_status request_params(flux1_context *c, const flux1_generate_params *params, flux1_generate_params *out)
{
    flux1_generate_params_defaults(out);
    if (!params || params->size < offsetof(flux1_generate_params, reserved))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "the parameters were not set up by flux1_generate_params_defaults");
    memcpy(out, params, params->size < sizeof *out ? params->size : sizeof *out);
    out->size = sizeof *out;
    return FLUX1_OK;
}

void request_only_text(flux1_generate_params *p)
{
    const flux1_generate_params all = *p;
    flux1_generate_params_defaults(p);
    p->prompt = all.prompt;
    p->max_sequence_length = all.max_sequence_length;
    p->adapters = all.adapters;
    p->adapter_count = all.adapter_count;
    p->progress = all.progress;
    p->progress_user = all.progress_user;
    p->cancel = all.cancel;
}

void request_only_sampler(flux1_generate_params *p)
{
    flux1_generate_params none;
    flux1_generate_params_defaults(&none);
    p->count = none.count;
    p->text = none.text;
    p->dump = none.dump;
    p->profile = none.profile;
    p->batch = none.batch;
    p->image = none.image;
    p->undecoded = none.undecoded;
    p->progress = none.progress; /* a sampler's caller knows how far it is */
    p->preview_every = none.preview_every;
    p->preview_kind = none.preview_kind;
}

void request_only_decode(flux1_generate_params *p)
{
    const flux1_generate_params all = *p;
    flux1_generate_params_defaults(p);
    p->width = all.width;
    p->height = all.height;
    p->seed = all.seed;
    p->count = all.count;
    p->tiling = all.tiling;
    p->progress = all.progress;
    p->progress_user = all.progress_user;
    p->image = all.image;
    p->image_user = all.image_user;
    p->undecoded = all.undecoded;
    p->cancel = all.cancel;
}

flux1_status request_make(flux1_context *c, const flux1_model *m, const flux1_generate_params *params, request *r)
{
    flux1_generate_params p;
    TRY(context_computes(c));
    TRY(request_params(c, params, &p));
    *r = (request){.negative_prompt = p.negative_prompt,
                   .negative_text = p.negative_text,
                   .image = p.image,
                   .image_user = p.image_user,
                   .undecoded = p.undecoded,
                   .cancel = p.cancel,
                   .prompt = p.prompt ? p.prompt : "",
                   .seed = p.seed,
                   .text = p.text,
                   .dump = p.dump,
                   .profile = p.profile,
                   .progress = p.progress,
                   .progress_user = p.progress_user};
    if (p.latents)
        TRY(latents_size(c, m, p.latents, &p.width, &p.height));
    TRY(take_size(c, m, "width", p.width, &r->width));
    TRY(take_size(c, m, "height", p.height, &r->height));
    TRY(take_counts(c, m, &p, r));
    r->latents = p.latents;
    if (p.latents)
        TRY(latents_check(c, m, p.latents, r->count, r->width, r->height));
    TRY(take_rng(c, &p, r));
    TRY(request_adapters(c, m, p.adapters, p.adapter_count, r));
    if (isnan(p.guidance) || isinf(p.guidance))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "guidance %g: it should be a finite number, such as 3.5, or negative for the model's default",
                         (double)p.guidance);
    r->guidance = p.guidance < 0 ? 3.5f : p.guidance;
    if (p.guidance >= 0 && !m->dit.guidance)
        context_log(c, FLUX1_LOG_WARNING, "guidance %g is ignored: this model has no guidance embedding",
                    (double)p.guidance);
    TRY(take_step_cache(c, m, &p, r));
    return take_true_cfg(c, &p, r);
}
