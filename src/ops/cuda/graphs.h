/* cuDNN plans of a device, by shape: attention (attention.c) and convolution (conv.c) run theirs here. */
#ifndef FLUX1_OPS_CUDA_GRAPHS_H
#define FLUX1_OPS_CUDA_GRAPHS_H

#include "ops/cuda/cuda.h"
#include "ops/cuda/dnn.h"

/* Enqueues the graph of this shape, whose plan is built at its first use: pointers[i] is the data of tensor numbers[i].
 * *done is false where cuDNN is absent or refuses; then nothing has happened. */
flux1_status cuda_graph_attention(cuda_ops *o, const dnn_attention_shape *s, int count, const int64_t *numbers,
                                  void *const *pointers, bool *done);
flux1_status cuda_graph_convolution(cuda_ops *o, const dnn_convolution_shape *s, int count, const int64_t *numbers,
                                    void *const *pointers, bool *done);

#endif
