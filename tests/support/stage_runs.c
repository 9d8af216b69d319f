#include "support/stage_runs.h"

const tensor *golden_tensor(const store *s, const char *name)
{
    const store_tensor *t = store_find(s, name);
    if (!t)
        fail_msg("the golden has no %s", name);
    return &t->view;
}

tensor new_tensor(int dims, const int64_t *shape)
{
    tensor t;
    flux1_error err = {0};
    assert_int_equal(tensor_create(DTYPE_F32, dims, shape, &t, &err), FLUX1_OK);
    return t;
}

/* [1, channels, h, w] → [1, h·w, channels] */
static tensor rows_of_planes(const tensor *planes)
{
    int64_t channels = planes->shape[1], size = planes->shape[2] * planes->shape[3];
    tensor rows = new_tensor(3, (int64_t[]){1, size, channels});
    for (int64_t i = 0; i < size; i++)
        for (int64_t c = 0; c < channels; c++)
            ((float *)rows.data)[i * channels + c] = ((const float *)planes->data)[c * size + i];
    return rows;
}

/* Relative L2 of columns [first, first + channels of `want`) of rows against planes. */
static double rows_against_planes(const tensor *rows, int64_t first, const tensor *want)
{
    int64_t channels = want->shape[1], size = want->shape[2] * want->shape[3], all = rows->shape[2];
    assert_int_equal(rows->shape[1], size);
    float *planes = malloc((size_t)(channels * size) * sizeof *planes);
    assert_non_null(planes);
    for (int64_t i = 0; i < size; i++)
        for (int64_t c = 0; c < channels; c++)
            planes[c * size + i] = ((const float *)rows->data)[i * all + first + c];
    double error = relative_l2(planes, want->data, channels * size);
    free(planes);
    return error;
}

static void run_stage(flux1_context *c, const flux1_model *m, mesh_body *body, void *job, ticker *t, session **in)
{
    stage_plan plan;
    flux1_error err = {0};
    if (stage_plan_make(&c->mesh, &c->device, body, job, t, &plan, &err) != FLUX1_OK)
        fail_msg("plan: %s", err.message);
    *t = (ticker){0};
    if (session_take(c, &c->device, m, NULL, in) != FLUX1_OK ||
        mesh_reserve((*in)->mesh, plan.arena, &c->error) != FLUX1_OK ||
        mesh_run((*in)->mesh, body, job, &c->error) != FLUX1_OK)
        fail_msg("%s", c->error.message);
    session_give(c, *in);
    stage_plan_free(&plan);
}

static void must(const dit_run *r, flux1_status st)
{
    if (st != FLUX1_OK)
        fail_msg("%s", r->denoiser.context->error.message);
}

void dit_run_open(flux1_context *c, const flux1_model *m, const dit_inputs *inputs, dit_run *r)
{
    request q = {.width = inputs->grid_w * folder_size_multiple(m),
                 .height = inputs->grid_h * folder_size_multiple(m),
                 .steps = inputs->steps,
                 .length = (int)inputs->text_rows,
                 .true_cfg_scale = inputs->scale,
                 .passes = inputs->negative_embeds ? 2 : 1};
    double opening;
    *r = (dit_run){.text = {.model = m->source.number, .embeds = *inputs->prompt_embeds, .pooled = *inputs->pooled}};
    batch_row row = {.text = &r->text, .guidance = inputs->guidance};
    if (inputs->negative_embeds) {
        r->negative = (flux1_text){
            .model = m->source.number, .embeds = *inputs->negative_embeds, .pooled = *inputs->negative_pooled};
        row.negative = &r->negative;
    }
    if (denoiser_plan(c, m, &q, 1, &r->denoiser) != FLUX1_OK)
        fail_msg("%s", c->error.message);
    memcpy(r->denoiser.sigmas, inputs->sigmas, (size_t)(inputs->steps + 1) * sizeof *inputs->sigmas);
    must(r, denoiser_open(&r->denoiser, &row, NULL, NULL, &opening));
}

void dit_run_start(dit_run *r, const tensor *noise) { must(r, denoiser_start(&r->denoiser, noise)); }

void dit_run_step(dit_run *r, int64_t k, tensor *latent)
{
    must(r, denoiser_step(&r->denoiser, k));
    must(r, denoiser_latent(&r->denoiser, -1, latent));
}

void dit_run_close(dit_run *r) { denoiser_close(&r->denoiser); }

tensor velocity_of(flux1_context *c, const flux1_model *m, const store *g, int64_t grid_w)
{
    const tensor *in = golden_tensor(g, "dit.input.latents"), *embeds = golden_tensor(g, "dit.input.prompt_embeds");
    float sigma = *(const float *)golden_tensor(g, "dit.input.sigma")->data;
    /* so long a step that the latent it began from hardly counts */
    float sigmas[] = {sigma, sigma - 1024}, step = sigmas[1] - sigmas[0];
    dit_inputs conditions = {.text_rows = embeds->shape[1],
                             .grid_h = in->shape[1] / grid_w,
                             .grid_w = grid_w,
                             .steps = 1,
                             .sigmas = sigmas,
                             .guidance = *(const float *)golden_tensor(g, "dit.input.guidance")->data,
                             .prompt_embeds = embeds,
                             .pooled = golden_tensor(g, "dit.input.pooled_prompt_embeds")};
    dit_run r;
    tensor latent = new_tensor(3, in->shape);
    dit_run_open(c, m, &conditions, &r);
    dit_run_start(&r, in);
    dit_run_step(&r, 0, &latent);
    dit_run_close(&r);
    float *v = latent.data;
    for (int64_t i = 0; i < tensor_elements(in); i++)
        v[i] = (float)(((double)v[i] - ((const float *)in->data)[i]) / step);
    return latent;
}

/* The same against the golden's: its relative L2. */
double velocity_error(flux1_context *c, const flux1_model *m, const store *g, int64_t grid_w)
{
    tensor v = velocity_of(c, m, g, grid_w);
    double error = relative_l2(v.data, golden_tensor(g, "dit.velocity")->data, tensor_elements(&v));
    tensor_free(&v);
    return error;
}

double decode_error(flux1_context *c, const flux1_model *m, const store *g, int64_t band)
{
    const tensor *in = golden_tensor(g, "vae.decode.input"), *want = golden_tensor(g, "vae.decode.output");
    vae_job job = {.model = m, .h = in->shape[2], .w = in->shape[3], .band = band, .in = rows_of_planes(in)};
    job.out = new_tensor(3, (int64_t[]){1, want->shape[2] * want->shape[3], want->shape[1]});
    run_stage(c, m, vae_decode_body, &job, &job.ticker, &job.session);
    double error = rows_against_planes(&job.out, 0, want);
    tensor_free(&job.in);
    tensor_free(&job.out);
    return error;
}

void encode_errors(flux1_context *c, const flux1_model *m, const store *g, double *mean, double *logvar)
{
    const tensor *in = golden_tensor(g, "vae.encode.image"), *want = golden_tensor(g, "vae.encode.mean");
    vae_job job = {.model = m, .h = in->shape[2], .w = in->shape[3], .in = rows_of_planes(in)};
    job.out = new_tensor(3, (int64_t[]){1, want->shape[2] * want->shape[3], 2 * want->shape[1]});
    run_stage(c, m, vae_encode_body, &job, &job.ticker, &job.session);
    *mean = rows_against_planes(&job.out, 0, want);
    *logvar = rows_against_planes(&job.out, want->shape[1], golden_tensor(g, "vae.encode.logvar"));
    tensor_free(&job.in);
    tensor_free(&job.out);
}

int64_t stages_grid_w(const store *g, const flux1_model *m)
{
    return *(const int64_t *)golden_tensor(g, "width")->data / folder_size_multiple(m);
}

tensor embeds_of(flux1_context *c, const flux1_model *m, const char *prompt, int length)
{
    flux1_generate_params p;
    flux1_text *text;
    flux1_generate_params_defaults(&p);
    p.prompt = prompt;
    p.max_sequence_length = length;
    if (flux1_encode_text(c, m, &p, &text) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    tensor out = new_tensor(text->embeds.dims, text->embeds.shape);
    memcpy(out.data, text->embeds.data, (size_t)tensor_elements(&out) * sizeof(float));
    flux1_text_free(text);
    return out;
}
