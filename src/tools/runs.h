/* Whole pipelines timed several times, as the reference's performance test times them: two untimed runs, then the
 * events of each of `runs` runs. */
#ifndef FLUX1_TOOLS_RUNS_H
#define FLUX1_TOOLS_RUNS_H

#include "base/json_write.h"
#include "flux1_tools.h"
#include "pipeline/text_to_image.h"

enum { RUNS_WARM_UPS = 2, RUNS_MAX = 1000 };

/* Of the prompt that is timed. */
static inline int bench_clip_tokens(const flux1_model *m, const flux1_bench_params *p)
{
    return p->clip_tokens ? p->clip_tokens : m->clip_length;
}

/* Runs encoders, denoiser and decoder 2 + params->runs times and writes the members "warm_ups", "runs",
 * "steps_per_second" (of the mean denoising), "images_per_second" (of the mean total) and "events": an array of
 * {"event", "mean_seconds", "deviation_seconds", "min_seconds", "max_seconds"} with clip_encoding, t5_encoding,
 * encoder, denoising, denoising_step_0 …, vae, total. */
flux1_status runs_report(flux1_context *c, const flux1_model *m, const request *r, const flux1_bench_params *params,
                         json_writer *report);

#endif
