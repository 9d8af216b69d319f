#include "ops/cuda/graphs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GRAPHS = 256, GRAPH_KEY = 24 };

typedef enum graph_kind { GRAPH_ATTENTION = 1, GRAPH_CONVOLUTION } graph_kind;

typedef struct graph {
    int64_t key[GRAPH_KEY];        /* kind, then the shape */
    cudnnBackendDescriptor_t plan; /* NULL: no engine takes it */
    bool used;
} graph;

/* The device's, under its plans_lock. */
struct cuda_dnn_plans {
    graph graph[GRAPHS]; /* open addressing; where sixteen places in a row are taken, the first makes room */
};

void cuda_graphs_free(cuda_device *d)
{
    struct cuda_dnn_plans *p = d->dnn_plans;
    if (!p)
        return;
    for (int i = 0; i < GRAPHS; i++)
        if (p->graph[i].plan)
            d->lib->cudnnBackendDestroyDescriptor(p->graph[i].plan);
    free(p);
    d->dnn_plans = NULL;
}

static flux1_status open_library(cuda_ops *o)
{
    cuda_device *d = o->device;
    struct cuda_dnn_plans *p = d->dnn_plans;
    if (!p && !(p = d->dnn_plans = calloc(1, sizeof *p)))
        return error_oom(o->head.err, sizeof *p, "cuDNN's plans");
    if ((!d->dnn && o->lib->cudnnCreate(&d->dnn) != CUDNN_STATUS_SUCCESS) ||
        o->lib->cudnnSetStream(d->dnn, (cudaStream_t)o->stream) != CUDNN_STATUS_SUCCESS)
        return cuda_library_failed(o, "cuDNN does not start");
    return FLUX1_OK;
}

static graph *place_of(struct cuda_dnn_plans *p, const int64_t *key)
{
    uint64_t h = 1469598103934665603u; /* FNV-1a over words */
    for (int i = 0; i < GRAPH_KEY; i++)
        h = (h ^ (uint64_t)key[i]) * 1099511628211u;
    h ^= h >> 29;
    for (uint64_t probe = 0; probe < 16; probe++) {
        graph *g = &p->graph[(h + probe) % GRAPHS];
        if (!g->used || memcmp(g->key, key, sizeof g->key) == 0)
            return g;
    }
    return &p->graph[h % GRAPHS];
}

static void build(dnn_builder *b, graph_kind kind, const void *shape)
{
    if (kind == GRAPH_ATTENTION)
        dnn_attention_graph(b, shape);
    else
        dnn_convolution_graph(b, shape);
}

/* NULL if no engine takes it. */
static cudnnBackendDescriptor_t plan_of(cuda_ops *o, graph_kind kind, const void *shape, size_t bytes)
{
    struct cuda_dnn_plans *p = o->device->dnn_plans;
    int64_t key[GRAPH_KEY] = {kind};
    memcpy(key + 1, shape, bytes);
    graph *g = place_of(p, key);
    if (!g->used || memcmp(g->key, key, sizeof g->key) != 0) {
        size_t needed;
        dnn_builder b = {.lib = o->lib, .handle = o->device->dnn, .ready = kind == GRAPH_CONVOLUTION};
        if (g->plan)
            o->lib->cudnnBackendDestroyDescriptor(g->plan);
        *g = (graph){.used = true};
        memcpy(g->key, key, sizeof g->key);
        build(&b, kind, shape);
        g->plan = dnn_finish(&b, CUDA_WORKSPACE, &needed);
    }
    return g->plan;
}

static flux1_status run_locked(cuda_ops *o, graph_kind kind, const void *shape, size_t bytes, int count,
                               const int64_t *numbers, void *const *pointers, bool *done)
{
    static const char *const names[] = {[GRAPH_ATTENTION] = "an attention", [GRAPH_CONVOLUTION] = "a convolution"};
    char words[256] = "", sentence[512];
    TRY(open_library(o));
    cudnnBackendDescriptor_t plan = plan_of(o, kind, shape, bytes);
    if (!plan)
        return FLUX1_OK;
    *done = true;
    if (dnn_run(o->lib, o->device->dnn, plan, count, numbers, pointers, (void *)(uintptr_t)o->workspace))
        return FLUX1_OK;
    o->lib->cudnnGetLastErrorString(words, sizeof words);
    snprintf(sentence, sizeof sentence, "cuDNN fails on %s that it had accepted: %s", names[kind], words);
    return cuda_library_failed(o, sentence);
}

static flux1_status run(cuda_ops *o, graph_kind kind, const void *shape, size_t bytes, int count,
                        const int64_t *numbers, void *const *pointers, bool *done)
{
    *done = false;
    if (!o->lib->dnn)
        return FLUX1_OK;
    pthread_mutex_lock(&o->device->plans_lock);
    flux1_status st = run_locked(o, kind, shape, bytes, count, numbers, pointers, done);
    pthread_mutex_unlock(&o->device->plans_lock);
    return st;
}

_Static_assert(sizeof(dnn_attention_shape) < sizeof(int64_t[GRAPH_KEY]) &&
                   sizeof(dnn_convolution_shape) < sizeof(int64_t[GRAPH_KEY]),
               "a shape fits a key");

flux1_status cuda_graph_attention(cuda_ops *o, const dnn_attention_shape *s, int count, const int64_t *numbers,
                                  void *const *pointers, bool *done)
{
    return run(o, GRAPH_ATTENTION, s, sizeof *s, count, numbers, pointers, done);
}

flux1_status cuda_graph_convolution(cuda_ops *o, const dnn_convolution_shape *s, int count, const int64_t *numbers,
                                    void *const *pointers, bool *done)
{
    return run(o, GRAPH_CONVOLUTION, s, sizeof *s, count, numbers, pointers, done);
}
