#include "pipeline/scheduler.h"

#include <math.h>
#include <string.h>

flux1_status scheduler_config_read(const json_value *j, const char *name, scheduler_config *c, flux1_error *err)
{
    static const char *const unsupported[] = {"use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas",
                                              "invert_sigmas", "stochastic_sampling"};
    const char *class_name = "FlowMatchEulerDiscreteScheduler", *type = "exponential";
    *c = (scheduler_config){.shift = 1, .base_shift = 0.5, .max_shift = 1.15, .base_tokens = 256, .max_tokens = 4096};
    int64_t train_steps = 1000;
    TRY(json_get_string(j, name, "_class_name", &class_name, err));
    if (strcmp(class_name, "FlowMatchEulerDiscreteScheduler") != 0)
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "%s: scheduler %s; FLUX.1 has FlowMatchEulerDiscreteScheduler",
                         name, class_name);
    for (size_t i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++) {
        bool on = false;
        TRY(json_get_bool(j, name, unsupported[i], &on, err));
        if (on)
            return error_set(err, FLUX1_ERR_UNSUPPORTED, "%s: \"%s\" is true; FLUX.1's schedule has it off", name,
                             unsupported[i]);
    }
    TRY(json_get_int(j, name, "num_train_timesteps", 1, 1 << 20, &train_steps, err));
    if (train_steps != 1000)
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "%s: \"num_train_timesteps\" is %lld; FLUX.1 has 1000", name,
                         (long long)train_steps);
    TRY(json_get_bool(j, name, "use_dynamic_shifting", &c->dynamic, err));
    TRY(json_get_real(j, name, "shift", &c->shift, err));
    TRY(json_get_real(j, name, "base_shift", &c->base_shift, err));
    TRY(json_get_real(j, name, "max_shift", &c->max_shift, err));
    TRY(json_get_int(j, name, "base_image_seq_len", 0, 1 << 30, &c->base_tokens, err));
    TRY(json_get_int(j, name, "max_image_seq_len", 1, 1 << 30, &c->max_tokens, err));
    TRY(json_get_real(j, name, "shift_terminal", &c->terminal, err));
    TRY(json_get_string(j, name, "time_shift_type", &type, err));
    c->linear = strcmp(type, "linear") == 0;
    if (!c->linear && strcmp(type, "exponential") != 0)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"time_shift_type\" is \"%s\", it should be exponential or linear",
                         name, type);
    if (c->max_tokens <= c->base_tokens)
        return error_set(err, FLUX1_ERR_FORMAT,
                         "%s: \"max_image_seq_len\" should be larger than \"base_image_seq_len\"", name);
    if (!(c->shift > 0))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"shift\" should be positive", name);
    if (!(c->terminal >= 0 && c->terminal < 1))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"shift_terminal\" should be from 0 to less than 1", name);
    return FLUX1_OK;
}

/* The order of operations and their float32 roundings are diffusers' own. */
static float shifted(const scheduler_config *c, float sigma, double mu)
{
    if (!c->dynamic)
        return (float)c->shift * sigma / (1.0f + (float)(c->shift - 1) * sigma);
    float m = (float)(c->linear ? mu : exp(mu)), r = 1.0f / sigma - 1.0f;
    return m / (m + r);
}

void scheduler_sigmas(const scheduler_config *c, int64_t steps, int64_t tokens, float *sigmas)
{
    double slope = (c->max_shift - c->base_shift) / (double)(c->max_tokens - c->base_tokens);
    double mu = (double)tokens * slope + (c->base_shift - slope * (double)c->base_tokens);
    double last = 1.0 / (double)steps, spacing = steps > 1 ? (last - 1.0) / (double)(steps - 1) : 0;
    for (int64_t k = 0; k < steps; k++) {
        double even = k && k == steps - 1 ? last : 1.0 + (double)k * spacing; /* numpy.linspace(1, 1/n, n) */
        sigmas[k] = shifted(c, (float)even, mu);
    }
    if (c->terminal != 0 &&
        sigmas[steps - 1] <
            1) { /* stretched so that the last level is the terminal one; a single level has nothing to stretch */
        float scale = (1.0f - sigmas[steps - 1]) / (float)(1 - c->terminal);
        for (int64_t k = 0; k < steps; k++)
            sigmas[k] = 1.0f - (1.0f - sigmas[k]) / scale;
    }
    sigmas[steps] = 0;
}
