/* cuDNN plans of a backend, by shape: attention (attention.c) and convolution (conv.c) keep theirs here. */
#ifndef FLUX1_OPS_CUDA_GRAPHS_H
#define FLUX1_OPS_CUDA_GRAPHS_H

#include "ops/cuda/cuda.h"
#include "ops/cuda/dnn.h"

enum { GRAPH_KEY = 24 };

typedef struct cuda_graph {
    int64_t key[GRAPH_KEY];        /* kind, then the shape */
    cudnnBackendDescriptor_t plan; /* NULL: no engine takes it */
    bool used;
} cuda_graph;

/* The graph of this shape, built at first use. plan is NULL where cuDNN is absent or refuses. */
flux1_status cuda_graph_attention(cuda_ops *o, const dnn_attention_shape *s, const cuda_graph **out);
flux1_status cuda_graph_convolution(cuda_ops *o, const dnn_convolution_shape *s, const cuda_graph **out);
flux1_status cuda_graph_run(cuda_ops *o, const cuda_graph *g, int count, const int64_t *numbers, void *const *pointers,
                            const char *what);

#endif
