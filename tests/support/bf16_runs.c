#include "support/bf16_runs.h"

#include "base/half.h"

#include <dirent.h>

#define RATIO 1.5

/* Largest ours/torch of a stage since forget_rows, and the sum of its logarithms. */
typedef struct row {
    const char *stage;
    double ratio, ours, torch, logarithms;
    int count;
    char where[64];
} row;

static row rows[8];
static size_t row_count;
static int far;

int too_far(void) { return far; }

void hold(const char *stage, const char *where, double ours, double torch)
{
    row *r = rows;
    while (r < rows + row_count && strcmp(r->stage, stage) != 0)
        r++;
    if (r == rows + row_count)
        *r = (row){.stage = stage}, row_count++;
    if (!(ours <= RATIO * torch)) {
        printf("%s: %s is off by %.3g (relative L2), torch's bf16 by %.3g\n", where, stage, ours, torch);
        far++;
    }
    r->logarithms += log(ours / torch);
    r->count++;
    if (ours / torch >= r->ratio) {
        r->ratio = ours / torch;
        r->ours = ours;
        r->torch = torch;
        snprintf(r->where, sizeof r->where, "%s", where);
    }
}

double torch_error(const store *g, const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "bf16_error.%s", name);
    return store_find(g, full) ? golden_number(g, full) : -1;
}

/* The embeddings in float32: the golden's, or where it has only the pooled one, our own (held to the oracle by
 * test_goldens). */
static void true_embeddings(flux1_context *f32, const flux1_model *m, golden *g, flux1_text **text, tensor *embeds)
{
    if (flux1_encode_text(f32, m, &g->params, text) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(f32));
    const store_tensor *t = store_find(g->file, "prompt_embeds");
    *embeds = t ? t->view : (*text)->embeds;
}

static void hold_tensor(const golden *g, const char *name, const tensor *ours, const char *where)
{
    const tensor *want = golden_tensor(g->file, name);
    hold(name, where, relative_l2(ours->data, want->data, tensor_elements(want)), torch_error(g->file, name));
}

static void compare_text(flux1_context *c, const flux1_model *m, golden *g, const tensor *embeds, const char *where)
{
    flux1_text *text;
    const tensor *pooled = golden_tensor(g->file, "pooled_prompt_embeds");
    if (flux1_encode_text(c, m, &g->params, &text) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    hold("pooled_prompt_embeds", where, relative_l2(text->pooled.data, pooled->data, tensor_elements(pooled)),
         torch_error(g->file, "pooled_prompt_embeds"));
    hold("prompt_embeds", where, relative_l2(text->embeds.data, embeds->data, tensor_elements(embeds)),
         torch_error(g->file, "prompt_embeds"));
    flux1_text_free(text);
    if (torch_error(g->file, "negative_prompt_embeds") < 0)
        return;
    flux1_generate_params negative = g->params;
    negative.prompt = g->params.negative_prompt;
    if (flux1_encode_text(c, m, &negative, &text) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    hold_tensor(g, "negative_pooled_prompt_embeds", &text->pooled, where);
    hold_tensor(g, "negative_prompt_embeds", &text->embeds, where);
    flux1_text_free(text);
}

static tensor rounded(const tensor *t)
{
    tensor r = new_tensor(t->dims, t->shape);
    for (int64_t i = 0; i < tensor_elements(t); i++)
        ((float *)r.data)[i] = bf16_round(((const float *)t->data)[i]);
    return r;
}

/* Every recorded step from the float32 embeddings and noise, cast to bf16 as the oracle's were. */
static void compare_latents(flux1_context *c, const flux1_model *m, golden *g, const tensor *embeds, const char *where)
{
    if (!store_find(g->file, "noise"))
        return;
    tensor noise = rounded(golden_tensor(g->file, "noise")), text = rounded(embeds),
           pooled = rounded(golden_tensor(g->file, "pooled_prompt_embeds")), negative[2] = {0};
    int64_t unit = folder_size_multiple(m);
    dit_inputs conditions = {.text_rows = embeds->shape[1],
                             .grid_h = g->params.height / unit,
                             .grid_w = g->params.width / unit,
                             .steps = g->params.steps,
                             .sigmas = golden_tensor(g->file, "sigmas")->data,
                             .guidance = g->params.guidance,
                             .prompt_embeds = &text,
                             .pooled = &pooled,
                             .scale = g->params.true_cfg_scale};
    if (store_find(g->file, "negative_prompt_embeds")) {
        negative[0] = rounded(golden_tensor(g->file, "negative_prompt_embeds"));
        negative[1] = rounded(golden_tensor(g->file, "negative_pooled_prompt_embeds"));
        conditions.negative_embeds = &negative[0];
        conditions.negative_pooled = &negative[1];
    }
    dit_run r;
    tensor latent = new_tensor(3, noise.shape);
    dit_run_open(c, m, &conditions, &r);
    dit_run_start(&r, &noise);
    for (int k = 0; k < g->params.steps; k++) {
        char name[32];
        snprintf(name, sizeof name, "latents.%d", k + 1);
        dit_run_step(&r, k, &latent);
        if (!store_find(g->file, name))
            continue;
        hold("latents", where, relative_l2(latent.data, golden_tensor(g->file, name)->data, tensor_elements(&latent)),
             torch_error(g->file, name));
    }
    dit_run_close(&r);
    tensor_free(&latent);
    tensor_free(&noise);
    tensor_free(&text);
    tensor_free(&pooled);
    tensor_free(&negative[0]);
    tensor_free(&negative[1]);
}

static void compare_decoded(flux1_context *c, const flux1_model *m, golden *g, const char *where)
{
    char name[32];
    const store_tensor *want = store_find(g->file, "decoded");
    if (!want)
        return;
    request r = {.height = want->view.shape[2], .width = want->view.shape[3]};
    decoder d;
    flux1_image image = {0};
    snprintf(name, sizeof name, "latents.%d", g->params.steps);
    tensor latent = rounded(golden_tensor(g->file, name)), decoded = new_tensor(3, want->view.shape + 1);
    assert_int_equal(decoder_plan(c, m, &r, SIZE_MAX, &d), FLUX1_OK);
    assert_int_equal(decoder_run(&d, latent.data, NULL, NULL, &decoded, &image), FLUX1_OK);
    hold("decoded", where, relative_l2(decoded.data, want->view.data, tensor_elements(&decoded)),
         torch_error(g->file, "decoded"));
    decoder_close(&d);
    free(image.pixels);
    tensor_free(&latent);
    tensor_free(&decoded);
}

int run_cases(flux1_context *c, flux1_context *f32, const flux1_model *m, const char *pipeline)
{
    char folder[512], where[64];
    int cases = 0;
    snprintf(folder, sizeof folder, "%s/goldens/%s", test_data(), pipeline);
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char *dot = strrchr(e->d_name, '.');
        if (!dot || strcmp(dot, ".safetensors") != 0 || strcmp(e->d_name, "stages.safetensors") == 0)
            continue;
        *dot = '\0';
        golden g;
        golden_open(pipeline, e->d_name, &g);
        if (torch_error(g.file, "pooled_prompt_embeds") >= 0) {
            flux1_text *text;
            tensor embeds;
            snprintf(where, sizeof where, "%s/%.40s", pipeline, e->d_name);
            true_embeddings(f32, m, &g, &text, &embeds);
            compare_text(c, m, &g, &embeds, where);
            compare_latents(c, m, &g, &embeds, where);
            compare_decoded(c, m, &g, where);
            flux1_text_free(text);
            cases++;
        }
        golden_close(&g);
    }
    closedir(d);
    return cases;
}

void forget_rows(void)
{
    row_count = 0;
    memset(rows, 0, sizeof rows);
}

/* Geometric mean of ours/torch over the cases. */
static double mean_ratio(const row *r) { return exp(r->logarithms / r->count); }

void print_rows(const char *isa)
{
    printf("%-10s %-29s %8s %8s %10s %10s   worst at\n", isa, "stage", "mean", "ratio", "ours", "torch");
    for (size_t i = 0; i < row_count; i++)
        printf("%-10s %-29s %8.3f %8.3f %10.2e %10.2e   %s\n", isa, rows[i].stage, mean_ratio(&rows[i]), rows[i].ratio,
               rows[i].ours, rows[i].torch, rows[i].where);
}
