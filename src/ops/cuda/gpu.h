/* One GPU: the driver's context on it, our kernels, the libraries' handles; and what all backends on it share, each
 * part filled by the unit that is named. Opened once a process (kind.c). */
#ifndef FLUX1_OPS_CUDA_GPU_H
#define FLUX1_OPS_CUDA_GPU_H

#include "ops/cuda/kernels.h"
#include "ops/cuda/libraries.h"
#include "ops/device.h"

#include <pthread.h>

typedef struct cuda_kept cuda_kept;                 /* kept.c */
typedef struct cuda_algorithms cuda_algorithms;     /* algorithms.c */
typedef struct cuda_linear_plans cuda_linear_plans; /* linear_plans.c */
typedef struct cuda_dnn_plans cuda_dnn_plans;       /* graphs.c */

#define CUDA_WORTH_NOTING 2e9 /* multiply-adds; a block's smallest product of 512 rows has four times as many */

typedef struct cuda_device {
    ops_device head;
    const cuda_libraries *lib;
    CUdevice handle;
    CUcontext context;
    CUmodule module;
    CUfunction kernel[CUDA_KERNEL_COUNT];
    int multiprocessors, capability; /* 90 for sm_90 */
    double worth_noting;             /* multiply-adds of one call: notes.h */
    atomic_int failure;              /* CUresult that left the context of no use; 0: none so far */

    pthread_mutex_t ready_lock; /* of the next four */
    pthread_t starter;          /* the thread that makes the libraries ready */
    bool starting;              /* it has not been waited for */
    flux1_status ready;         /* what came of it */
    flux1_error ready_err;
    /* valid once the device is ready */
    cublasLtHandle_t blas;
    cudnnHandle_t dnn;  /* NULL: it did not start, or is not there */
    bool scales_rows;   /* cuBLASLt can, on this GPU */
    char versions[96];  /* of driver and libraries, for messages: "driver 13.0, cuBLASLt 13.1.0" */
    char identity[256]; /* GPU, driver and library versions: what a remembered algorithm is good for */

    pthread_mutex_t kept_lock; /* kept.c: of memory, and of what follows */
    cuda_kept *kept;
    size_t kept_budget; /* 0: none */
    unsigned long kept_clock;
    pthread_mutex_t upload_lock; /* weights.c: of two backends that want a block, the second finds it whole */
    pthread_mutex_t plans_lock;  /* of what follows */
    cuda_algorithms *algorithms;
    cuda_linear_plans *linear_plans;
    cuda_dnn_plans *dnn_plans;
} cuda_device;

flux1_status cuda_device_count(int *count, flux1_error *err); /* 0 with the reason in err where there is no driver */
flux1_status cuda_device_describe(int ordinal, ops_device_info *out, flux1_error *err);
int cuda_device_libraries(ops_library out[OPS_LIBRARIES]); /* what there is of them; their number */
flux1_status cuda_device_create(int ordinal, cuda_device **out, flux1_error *err);
/* A device opens without waiting for its libraries: they are opened and their handles made on a thread, beside whatever
 * the caller does next. This waits for it, and returns its error each time; before any use of a library. */
flux1_status cuda_device_ready(cuda_device *d, flux1_error *err);
void cuda_device_destroy(cuda_device *d); /* what the other units keep has been given back; NULL is fine */

/* Makes the GPU this thread's. FLUX1_ERR_DEVICE once it has failed. */
flux1_status cuda_device_current(const cuda_device *d, flux1_error *err);

/* The status of a driver's call, with the driver's own words: FLUX1_ERR_MEMORY where memory is out,
 * FLUX1_ERR_UNSUPPORTED for what this GPU or driver cannot do, otherwise FLUX1_ERR_DEVICE. After some failures (an
 * illegal address, memory that lost bits) nothing can be done in this process any more: the device remembers that. */
flux1_status cuda_device_check(cuda_device *d, CUresult r, const char *what, flux1_error *err);

#endif
