/* Small operation graphs over cuDNN's backend interface: tensors, an operation, a plan. A graph that no
 * engine takes is an answer, not an error: the caller has another way. With a device property in place of a handle a
 * plan is made without a GPU (bench/cuda/devless.c). */
#ifndef FLUX1_OPS_CUDA_DNN_H
#define FLUX1_OPS_CUDA_DNN_H

#include "ops/cuda/libraries.h"

#include <stddef.h>
#include <stdint.h>

enum { DNN_DESCRIPTORS = 32 };

typedef struct dnn_builder {
    const cuda_libraries *lib;
    cudnnHandle_t handle; /* NULL: device-less, with `property` */
    cudnnBackendDescriptor_t property;
    cudnnBackendDescriptor_t made[DNN_DESCRIPTORS], operation[1];
    int made_count, operation_count;
    bool
        compiled; /* device-less: an engine took the graph and compiled its kernel, which no driver was there to load */
    bool failed;  /* something was refused on the way: dnn_finish says no */
    bool ready;   /* engines that compile a kernel for the graph, half a second each, only where no other takes it */
} dnn_builder;

/* ---- the two graphs that the backend asks for: attention.c and conv.c fill in the shapes, bench/cuda/devless.c asks
 * for the same without a GPU. Shapes are int64s alone: they are also the keys that plans are found by. ---- */

enum { DNN_Q = 1, DNN_K, DNN_V, DNN_OUT, DNN_SCALE, DNN_STATS }; /* numbers of attention's tensors */
typedef struct dnn_attention_shape {
    int64_t batch, heads, dim, queries, keys;
    int64_t ld[4], batch_stride[4]; /* of q, k, v, out: bf16, columns heads × dim */
    int64_t stats; /* 1: with a log-sum-exp, dense [batch][heads][queries]: other strides are accepted, but before
                    * cuDNN 9.26 not heeded everywhere (NVIDIA/cudnn-frontend #304) */
} dnn_attention_shape;

enum { DNN_X = 1, DNN_W, DNN_Y }; /* of a convolution's */
typedef struct dnn_convolution_shape {
    int64_t batch, height, width, in, out_height, out_width, out, kernel,
        stride;            /* stride 1: zeros on all sides; 2: below and right */
    int64_t in_ld, out_ld; /* bf16, [batch][height · width] rows, filters [out][ky][kx][in] */
} dnn_convolution_shape;

void dnn_attention_graph(dnn_builder *b, const dnn_attention_shape *s);
void dnn_convolution_graph(dnn_builder *b, const dnn_convolution_shape *s);

/* A plan for the operations so far that needs at most `workspace` bytes; NULL if there is none. Frees what the builder
 * made. */
cudnnBackendDescriptor_t dnn_finish(dnn_builder *b, size_t workspace, size_t *needed);

/* Enqueues it: pointers[i] is the data of tensor numbers[i]. */
bool dnn_run(const cuda_libraries *lib, cudnnHandle_t handle, cudnnBackendDescriptor_t plan, int count,
             const int64_t *numbers, void *const *pointers, void *workspace);

#endif
