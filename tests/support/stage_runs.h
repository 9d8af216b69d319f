/* One stage alone, through the bodies of pipeline/stages.h, on the tensors of a golden. */
#ifndef TESTS_SUPPORT_STAGE_RUNS_H
#define TESTS_SUPPORT_STAGE_RUNS_H

#include "support/golden.h"
#include "pipeline/text_to_image.h"

/* Fails the test where the golden lacks it. */
const tensor *golden_tensor(const store *s, const char *name);
tensor new_tensor(int dims, const int64_t *shape);

/* What a denoiser is given beside the model. */
typedef struct dit_inputs {
    int64_t text_rows, grid_h, grid_w, steps;
    const float *sigmas; /* [steps + 1] */
    float guidance;
    const tensor *prompt_embeds, *pooled;            /* of one row */
    const tensor *negative_embeds, *negative_pooled; /* NULL: one pass */
    float scale;                                     /* of true CFG */
} dit_inputs;

/* A denoiser open on them. */
typedef struct dit_run {
    denoiser denoiser;
    flux1_text text, negative;
} dit_run;

void dit_run_open(flux1_context *c, const flux1_model *m, const dit_inputs *inputs, dit_run *r);
void dit_run_start(dit_run *r, const tensor *noise);
/* Step k, and the latent after it. */
void dit_run_step(dit_run *r, int64_t k, tensor *latent);
void dit_run_close(dit_run *r);

/* The velocity of one step from what a `stages` golden has as the denoiser's input. */
tensor velocity_of(flux1_context *c, const flux1_model *m, const store *g, int64_t grid_w);
/* Relative L2 of each stage's output to the golden's, from the golden's input. */
double velocity_error(flux1_context *c, const flux1_model *m, const store *g, int64_t grid_w);
double decode_error(flux1_context *c, const flux1_model *m, const store *g, int64_t band); /* band: vae_decode's */
/* Of the mean and of the log-variance. */
void encode_errors(flux1_context *c, const flux1_model *m, const store *g, double *mean, double *logvar);

/* T5's embeddings of a prompt; length 0: the model's. */
tensor embeds_of(flux1_context *c, const flux1_model *m, const char *prompt, int length);

/* Image tokens in a row of the `stages` golden's picture. */
int64_t stages_grid_w(const store *g, const flux1_model *m);

#endif
