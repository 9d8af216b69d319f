/* A GPU made of plain C++: a complete table of NVIDIA's functions (src/ops/cuda/libraries.h) whose device is this
 * process's memory and whose kernels are src/ops/cuda/kernels.cu compiled by g++. It proves logic without a GPU; it
 * says nothing about time.
 *
 * Stricter than the real one where that finds mistakes. Fresh memory is NaN; an allocation ends at a page that cannot
 * be touched; copies, products, attention and convolutions must lie within one allocation and keep the alignment that
 * was promised for them; misaligned vectors, a barrier or shuffle that not all threads come to, a launch of more
 * threads than the kernel is bound to or of more shared memory than it was allowed, a workspace in two streams'
 * unfinished calls, a recorded collective that never ran before, and calls without a current context end the program
 * or fail. Streams work as late as they may, so that what is not waited for shows; warps and
 * lanes have their turns in the order that CUDA_EMULATOR_ORDER asks for (emulate.cpp), so that a missing barrier does.
 * While a step is recorded, what cannot be recorded fails and spoils the recording. The libraries refuse what they may
 * refuse (odd leading dimensions, head sizes, channel counts), so that the fallbacks run.
 *
 * self_test.cpp plants such mistakes. emulate.h/.cpp: the language (threads as fibers); kernels.cpp: the kernels;
 * driver.cpp, blas.cpp, dnn.cpp: the libraries. */
#ifndef FLUX1_TESTS_CUDA_EMULATOR_H
#define FLUX1_TESTS_CUDA_EMULATOR_H

#include "ops/cuda/kernels.h"
#include "ops/cuda/libraries.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* For cuda_libraries_replace. One device, an H200; all devices share 64 GiB. Any number of threads may call. */
const cuda_libraries *cuda_emulator(void);

/* How many devices there are from now on. */
void cuda_emulator_devices(int count);

/* The size of the device's memory from now on. What is allocated stays. */
void cuda_emulator_memory(size_t total_bytes);

/* The compute capability of devices that are opened from now on: 90 at first, an H200's. */
void cuda_emulator_capability(int capability);

/* cuBLASLt's version from now on: 130100 at first. From 120900 on it scales rows. */
void cuda_emulator_cublas(size_t version);

/* Products that cuBLASLt's heuristic offers and the call refuses, from now on. */
typedef enum cuda_emulator_refusals {
    CUDA_EMULATOR_REFUSES_NONE,
    CUDA_EMULATOR_REFUSES_TAILS, /* those with a bias behind them */
    CUDA_EMULATOR_REFUSES_ALL
} cuda_emulator_refusals;
void cuda_emulator_refuse_products(cuda_emulator_refusals what);

/* Which libraries cuda_emulator's table has from now on (both, at first). */
void cuda_emulator_libraries(bool blas, bool dnn);

/* The nth call from now of a kind that can run out of memory (cuMemAlloc, cuMemHostAlloc) fails; 0: none. */
void cuda_emulator_fail_allocation(int64_t nth);

/* The nth kernel that runs from now on fails, as one that touches what it must not (0: none): it and what is enqueued
 * behind it have no effect, and every call of a library that may fail does, until the device's last context is given
 * back. Memory and handles are given back all the same. */
void cuda_emulator_fail_kernel(int64_t nth);

/* Since the start of the process; a replayed graph counts what it runs. */
typedef struct cuda_emulator_counters {
    int64_t kernels, matmuls, sdpas, convs, graph_launches;
    int64_t kernel[CUDA_KERNEL_COUNT];       /* launches of each */
    int64_t refused_matmuls, refused_graphs; /* NOT_SUPPORTED answers of cuBLASLt and cuDNN */
    size_t uploaded_bytes, downloaded_bytes;
    int64_t allocations;      /* cuMemAlloc, cuMemHostAlloc */
    int64_t plans;            /* cuBLASLt's products and cuDNN's execution plans described */
    int64_t live_allocations; /* device and pinned host memory not yet freed */
    int64_t live_objects;     /* streams, events, graphs, modules, cuBLASLt's and cuDNN's descriptors and handles */
    size_t device_bytes, pinned_bytes; /* allocated now */
} cuda_emulator_counters;
cuda_emulator_counters cuda_emulator_counts(void);

#ifdef __cplusplus
}
#endif
#endif
