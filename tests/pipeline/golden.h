/* What the pipeline's tests share: goldens as requests, and a run's dump held against them. */
#ifndef TESTS_PIPELINE_GOLDEN_H
#define TESTS_PIPELINE_GOLDEN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <unistd.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "flux1.h"
#include "pipeline/context.h"
#include "weights/store.h"

#ifdef TEST_DEVICE /* tests/cuda.cmake builds some of these programs again for "cuda" */
#include "ops/cuda_emulator/install.h"
#else
#define TEST_DEVICE "cpu"
#endif

typedef struct golden {
    store *file;
    char prompt[4096];
    char folder[512];
    flux1_generate_params params;
} golden;

static inline bool is_there(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0;
}

static inline double golden_number(const store *s, const char *name)
{
    const store_tensor *t = store_find(s, name);
    assert_non_null(t);
    if (t->view.type == DTYPE_I64)
        return (double)*(const int64_t *)t->view.data;
    return (double)*(const float *)t->view.data;
}

/* The case `pipeline/name` under tests/data/goldens; its folder is tests/data/pipelines/<pipeline>, for "mini/<model>"
 * models/<model>, for "mini-trial" the trained one beside the checkout. */
static inline void golden_open(const char *pipeline, const char *name, golden *g)
{
    char path[512];
    flux1_error err = {0};
    memset(g, 0, sizeof *g);
    snprintf(path, sizeof path, "%s/goldens/%s/%s.safetensors", TEST_DATA, pipeline, name);
    if (store_open_file(path, &g->file, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    if (strcmp(pipeline, "mini-trial") == 0)
        snprintf(g->folder, sizeof g->folder, "%s/mini-trial", SHARED_DATA);
    else if (strncmp(pipeline, "mini/", 5) == 0)
        snprintf(g->folder, sizeof g->folder, "%s/%s", SOURCE_MODELS, pipeline + 5);
    else
        snprintf(g->folder, sizeof g->folder, "%s/pipelines/%s", TEST_DATA, pipeline);
    const store_tensor *prompt = store_find(g->file, "prompt");
    assert_true(prompt && tensor_bytes(&prompt->view) < sizeof g->prompt);
    if (tensor_bytes(&prompt->view))
        memcpy(g->prompt, prompt->view.data, tensor_bytes(&prompt->view));
    flux1_generate_params_defaults(&g->params);
    g->params.prompt = g->prompt;
    g->params.width = (int)golden_number(g->file, "width");
    g->params.height = (int)golden_number(g->file, "height");
    g->params.steps = (int)golden_number(g->file, "steps");
    g->params.guidance = (float)golden_number(g->file, "guidance");
    g->params.max_sequence_length = (int)golden_number(g->file, "max_sequence_length");
    g->params.tiling = store_find(g->file, "tiled") ? FLUX1_TILING_YES : FLUX1_TILING_AUTO;
    g->params.seed = (uint64_t) * (const int64_t *)store_find(g->file, "seed")->view.data;
}

static inline void golden_close(golden *g) { store_close(g->file); }

/* ‖a − b‖ / ‖b‖ */
static inline double relative_l2(const float *a, const float *b, int64_t n)
{
    double difference = 0, length = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        length += (double)b[i] * b[i];
    }
    return length > 0 ? sqrt(difference / length) : sqrt(difference);
}

static inline flux1_context *context_of(const flux1_context_params *p)
{
    flux1_context *c;
    if (flux1_context_create(p, &c) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    return c;
}

/* A context on `device` with these ranks ("" for one), threads and arithmetic. */
static inline flux1_context *context_on(const char *device, const char *shape, int threads, flux1_dtype arithmetic)
{
    flux1_context_params p;
    flux1_context_params_defaults(&p);
    p.device = device;
    p.mesh = shape;
    p.threads = threads;
    p.dtype = arithmetic;
    return context_of(&p);
}

static inline flux1_model *model_of(flux1_context *c, const char *folder)
{
    flux1_model *m;
    if (flux1_model_open(c, folder, &m) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    return m;
}

/* The committed pipeline of this name. */
static inline flux1_model *pipeline_of(flux1_context *c, const char *pipeline)
{
    char folder[512];
    snprintf(folder, sizeof folder, "%s/pipelines/%s", TEST_DATA, pipeline);
    return model_of(c, folder);
}

/* All names that FLUX1_CPU_ISA can have; those that this machine lacks are passed over by isa_choose. */
static const char *const ISA_NAMES[] = {"portable", "avx2", "avx512", "avx512bf16"};
#define ISA_COUNT (sizeof ISA_NAMES / sizeof ISA_NAMES[0])

/* From now on the CPU backend computes with this instruction set; false where the machine has it not. NULL: its own
 * choice again. */
static inline bool isa_choose(const char *name)
{
    if (!name)
        return unsetenv("FLUX1_CPU_ISA") == 0;
    return setenv("FLUX1_CPU_ISA", name, 1) == 0 && strcmp(ops_cpu_isa(), name) == 0;
}

static const char *const PIPELINES[] = {"schnell", "dev", "mixed", "single", "double", "wide", "patchwork"};
#define PIPELINE_COUNT (sizeof PIPELINES / sizeof PIPELINES[0])

static inline char *scratch_path(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "/tmp/flux1-test-%ld-%s", (long)getpid(), name);
    return path;
}

#endif
