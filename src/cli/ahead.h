/* The next line's prompt, encoded in a thread while the current request runs. On a GPU this is while the current
 * pictures are decoded, on a context of its own; where the encoders have their own device, from the denoising on. */
#ifndef FLUX1_CLI_AHEAD_H
#define FLUX1_CLI_AHEAD_H

#include "cli/shared_model.h"

#include <pthread.h>

/* Whether to encode ahead on a context like this one's, and from which stage of the running request on. */
bool ahead_pays(const options *opt, const flux1_context_info *info);
flux1_stage ahead_from(const flux1_context_info *info);

/* All zero at first. */
typedef struct ahead {
    bool planned, enabled;
    flux1_stage from; /* starts when the current request has reached this stage */
    flux1_context *context;
    const flux1_model *model;
    flux1_generate_params params;
    flux1_text *text, *negative_text;
    pthread_t thread;
    bool running;
} ahead;

/* Whether it is time to start, by the progress of the current request. */
bool ahead_is_time(ahead *a, const shared_model *s, const flux1_progress *now);
/* next: the next line's options, good until ahead_finish. */
void ahead_start(ahead *a, const shared_model *s, const options *next);
/* Waits for what was started, if anything was. The caller frees the texts; NULL: the request encodes again, and reports
 * the error. */
void ahead_finish(ahead *a, flux1_text **text, flux1_text **negative_text);
void ahead_free(ahead *a);

#endif
