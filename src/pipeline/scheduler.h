/* Flow-match Euler: the noise levels of a run. (diffusers: schedulers/scheduling_flow_match_euler_discrete.py,
 * pipelines/flux/pipeline_flux.py.) */
#ifndef FLUX1_PIPELINE_SCHEDULER_H
#define FLUX1_PIPELINE_SCHEDULER_H

#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct scheduler_config {
    bool dynamic; /* use_dynamic_shifting: the shift follows the number of image tokens */
    bool linear;  /* time_shift_type "linear" in place of "exponential" */
    double shift; /* used if not dynamic */
    double base_shift, max_shift;
    int64_t base_tokens, max_tokens;
    double terminal; /* shift_terminal; 0: none */
} scheduler_config;

/* FLUX1_ERR_UNSUPPORTED for schedules that FLUX.1 does not use (Karras, exponential, beta, inverted, stochastic). */
flux1_status scheduler_config_read(const json_value *j, const char *name, scheduler_config *out, flux1_error *err);

/* sigmas[steps + 1]: descending from 1, the last 0. steps >= 1; tokens: packed image tokens. Bit-equal to diffusers
 * 0.39. */
void scheduler_sigmas(const scheduler_config *c, int64_t steps, int64_t tokens, float *sigmas);

#endif
