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

/* The case `pipeline/name` under tests/data/goldens; its folder is tests/data/pipelines/<pipeline>, or the trained one beside the checkout. */
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
    g->params.seed = (uint64_t)*(const int64_t *)store_find(g->file, "seed")->view.data;
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

static inline char *scratch_path(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "/tmp/flux1-test-%ld-%s", (long)getpid(), name);
    return path;
}

#endif
