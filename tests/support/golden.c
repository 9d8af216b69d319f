#include "support/golden.h"

#include <sys/stat.h>

bool is_there(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0;
}

double golden_number(const store *s, const char *name)
{
    const store_tensor *t = store_find(s, name);
    assert_non_null(t);
    if (t->view.type == DTYPE_I64)
        return (double)*(const int64_t *)t->view.data;
    return (double)*(const float *)t->view.data;
}

const char *golden_text(const store *s, const char *name, char *out, size_t size)
{
    const store_tensor *t = store_find(s, name);
    if (!t)
        return NULL;
    size_t bytes = tensor_bytes(&t->view);
    assert_true(bytes < size);
    if (bytes)
        memcpy(out, t->view.data, bytes);
    out[bytes] = '\0';
    return out;
}

void golden_open(const char *pipeline, const char *name, golden *g)
{
    char path[512];
    flux1_error err = {0};
    memset(g, 0, sizeof *g);
    snprintf(path, sizeof path, "%s/goldens/%s/%s.safetensors", test_data(), pipeline, name);
    if (store_open_file(path, &g->file, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    if (strcmp(pipeline, "mini-trial") == 0)
        snprintf(g->folder, sizeof g->folder, "%s/mini-trial", SHARED_DATA);
    else if (strncmp(pipeline, "mini/", 5) == 0)
        snprintf(g->folder, sizeof g->folder, "%s/%s", test_models(), pipeline + 5);
    else
        snprintf(g->folder, sizeof g->folder, "%s/pipelines/%.*s", test_data(), (int)strcspn(pipeline, "/"), pipeline);
    flux1_generate_params_defaults(&g->params);
    g->params.prompt = golden_text(g->file, "prompt", g->prompt, sizeof g->prompt);
    assert_non_null(g->params.prompt);
    g->params.negative_prompt = golden_text(g->file, "negative_prompt", g->negative, sizeof g->negative);
    if (store_find(g->file, "true_cfg_scale"))
        g->params.true_cfg_scale = (float)golden_number(g->file, "true_cfg_scale");
    if (store_find(g->file, "step_cache"))
        g->params.step_cache = (float)golden_number(g->file, "step_cache");
    g->params.width = (int)golden_number(g->file, "width");
    g->params.height = (int)golden_number(g->file, "height");
    g->params.steps = (int)golden_number(g->file, "steps");
    g->params.guidance = (float)golden_number(g->file, "guidance");
    g->params.max_sequence_length = (int)golden_number(g->file, "max_sequence_length");
    g->params.tiling = store_find(g->file, "tiled") ? FLUX1_TILING_YES : FLUX1_TILING_AUTO;
    g->params.seed = (uint64_t) * (const int64_t *)store_find(g->file, "seed")->view.data;
}

void golden_close(golden *g) { store_close(g->file); }

double relative_l2(const float *a, const float *b, int64_t n)
{
    double difference = 0, length = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        length += (double)b[i] * b[i];
    }
    return length > 0 ? sqrt(difference / length) : sqrt(difference);
}

flux1_context *context_of(const flux1_context_params *p)
{
    flux1_context *c;
    if (flux1_context_create(p, &c) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    return c;
}

flux1_context *context_on(const char *device, const char *shape, int threads, flux1_dtype arithmetic)
{
    flux1_context_params p;
    flux1_context_params_defaults(&p);
    p.device = device;
    p.mesh = shape;
    p.threads = threads;
    p.dtype = arithmetic;
    return context_of(&p);
}

flux1_model *model_of(flux1_context *c, const char *folder)
{
    flux1_model *m;
    if (flux1_model_open(c, folder, &m) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    return m;
}

flux1_model *pipeline_of(flux1_context *c, const char *pipeline)
{
    char folder[512];
    snprintf(folder, sizeof folder, "%s/pipelines/%s", test_data(), pipeline);
    return model_of(c, folder);
}

flux1_image *generated(flux1_context *c, const flux1_model *m, const flux1_generate_params *p)
{
    flux1_image *image;
    if (flux1_generate(c, m, p, &image) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    return image;
}

void assert_same_picture(const flux1_image *a, const flux1_image *b)
{
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    assert_true(a->seed == b->seed);
    assert_memory_equal(a->pixels, b->pixels, (size_t)(3 * a->width * a->height));
}

const char *const ISA_NAMES[ISA_COUNT] = {"portable",   "avx2",      "avxvnni", "avx512",  "avx512vnni",
                                          "avx512bf16", "avx512amx", "neon",    "neondot", "neonbf16"};

bool isa_choose(const char *name)
{
    if (!name)
        return unsetenv("FLUX1_CPU_ISA") == 0;
    return setenv("FLUX1_CPU_ISA", name, 1) == 0 && strcmp(ops_cpu_isa(), name) == 0;
}

const char *const PIPELINES[PIPELINE_COUNT] = {"schnell", "dev", "mixed", "single", "double", "wide", "patchwork"};

char *scratch_path(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "/tmp/flux1-test-%ld-%s", (long)getpid(), name);
    return path;
}
