#include "ops/cuda/graphs.h"

#include <stdlib.h>
#include <string.h>

enum { GRAPHS = 256 };

struct cuda_dnn_plans {
    cudnnHandle_t handle;
    cuda_graph graph[GRAPHS]; /* open addressing; where sixteen places in a row are taken, the first makes room */
};

void cuda_dnn_free(cuda_ops *o)
{
    struct cuda_dnn_plans *p = o->dnn_plans;
    if (!p)
        return;
    for (int i = 0; i < GRAPHS; i++)
        if (p->graph[i].plan)
            o->lib->cudnnBackendDestroyDescriptor(p->graph[i].plan);
    if (p->handle)
        o->lib->cudnnDestroy(p->handle);
    free(p);
    o->dnn_plans = NULL;
}

static flux1_status open_library(cuda_ops *o)
{
    struct cuda_dnn_plans *p = o->dnn_plans;
    if (!p && !(p = o->dnn_plans = calloc(1, sizeof *p)))
        return error_oom(o->head.err, sizeof *p, "cuDNN's plans");
    if (p->handle || !o->lib->dnn)
        return FLUX1_OK;
    if (o->lib->cudnnCreate(&p->handle) != CUDNN_STATUS_SUCCESS ||
        o->lib->cudnnSetStream(p->handle, (cudaStream_t)o->stream) != CUDNN_STATUS_SUCCESS)
        return error_set(o->head.err, FLUX1_ERR_UNSUPPORTED, "device cuda: cuDNN does not start");
    return FLUX1_OK;
}

static cuda_graph *place_of(struct cuda_dnn_plans *p, const int64_t *key)
{
    uint64_t h = 1469598103934665603u; /* FNV-1a over words */
    for (int i = 0; i < GRAPH_KEY; i++)
        h = (h ^ (uint64_t)key[i]) * 1099511628211u;
    h ^= h >> 29;
    for (uint64_t probe = 0; probe < 16; probe++) {
        cuda_graph *g = &p->graph[(h + probe) % GRAPHS];
        if (!g->used || memcmp(g->key, key, sizeof g->key) == 0)
            return g;
    }
    return &p->graph[h % GRAPHS];
}

typedef enum graph_kind { GRAPH_ATTENTION = 1, GRAPH_CONVOLUTION } graph_kind;

static void build(dnn_builder *b, graph_kind kind, const void *shape)
{
    if (kind == GRAPH_ATTENTION)
        dnn_attention_graph(b, shape);
    else
        dnn_convolution_graph(b, shape);
}

static flux1_status graph_of(cuda_ops *o, graph_kind kind, const void *shape, size_t bytes, const cuda_graph **out)
{
    int64_t key[GRAPH_KEY] = {kind};
    memcpy(key + 1, shape, bytes);
    TRY(open_library(o));
    cuda_graph *g = place_of(o->dnn_plans, key);
    if (!g->used || memcmp(g->key, key, sizeof g->key) != 0) {
        size_t needed;
        if (g->plan)
            o->lib->cudnnBackendDestroyDescriptor(g->plan);
        *g = (cuda_graph){.used = true};
        memcpy(g->key, key, sizeof g->key);
        if (o->dnn_plans->handle) {
            dnn_builder b = {.lib = o->lib, .handle = o->dnn_plans->handle};
            build(&b, kind, shape);
            g->plan = dnn_finish(&b, CUDA_WORKSPACE, &needed);
        }
    }
    *out = g;
    return FLUX1_OK;
}

_Static_assert(sizeof(dnn_attention_shape) < sizeof(int64_t[GRAPH_KEY]) &&
                   sizeof(dnn_convolution_shape) < sizeof(int64_t[GRAPH_KEY]),
               "a shape fits a key");

flux1_status cuda_graph_attention(cuda_ops *o, const dnn_attention_shape *s, const cuda_graph **out)
{
    return graph_of(o, GRAPH_ATTENTION, s, sizeof *s, out);
}

flux1_status cuda_graph_convolution(cuda_ops *o, const dnn_convolution_shape *s, const cuda_graph **out)
{
    return graph_of(o, GRAPH_CONVOLUTION, s, sizeof *s, out);
}

flux1_status cuda_graph_run(cuda_ops *o, const cuda_graph *g, int count, const int64_t *numbers, void *const *pointers,
                            const char *what)
{
    if (dnn_run(o->lib, o->dnn_plans->handle, g->plan, count, numbers, pointers, (void *)(uintptr_t)o->workspace))
        return FLUX1_OK;
    char words[256] = "";
    o->lib->cudnnGetLastErrorString(words, sizeof words);
    return error_set(o->head.err, FLUX1_ERR_INTERNAL, "device cuda: cuDNN fails on %s that it had accepted: %s", what,
                     words);
}
