/* NVIDIA's libraries, found at run time: the same binary runs on machines that have none of them. Each list names the
 * functions that are used; a struct of pointers, the look-up and the tests' stand-ins come out of it. search.h says
 * where they are looked for. */
#ifndef FLUX1_OPS_CUDA_LIBRARIES_H
#define FLUX1_OPS_CUDA_LIBRARIES_H

#include "ops/cuda/search.h"

#include <limits.h>
#include <stdbool.h>
#include <cublasLt.h>
#include <cuda.h>
#include <cudnn.h>

#define CUDA_DRIVER_FUNCTIONS(X) \
    X(cuInit)                    \
    X(cuDriverGetVersion)        \
    X(cuGetErrorString)          \
    X(cuDeviceGetCount)          \
    X(cuDeviceGet)               \
    X(cuDeviceGetName)           \
    X(cuDeviceGetAttribute)      \
    X(cuDeviceTotalMem)          \
    X(cuDevicePrimaryCtxRetain)  \
    X(cuDevicePrimaryCtxRelease) \
    X(cuCtxSetCurrent)           \
    X(cuModuleLoadData)          \
    X(cuModuleUnload)            \
    X(cuModuleGetFunction)       \
    X(cuFuncSetAttribute)        \
    X(cuLaunchKernel)            \
    X(cuMemAlloc)                \
    X(cuMemFree)                 \
    X(cuMemGetInfo)              \
    X(cuMemHostAlloc)            \
    X(cuMemFreeHost)             \
    X(cuMemcpyHtoDAsync)         \
    X(cuMemcpyDtoHAsync)         \
    X(cuMemcpyDtoDAsync)         \
    X(cuMemsetD8Async)           \
    X(cuMemsetD32Async)          \
    X(cuStreamCreate)            \
    X(cuStreamDestroy)           \
    X(cuStreamSynchronize)       \
    X(cuStreamWaitEvent)         \
    X(cuEventCreate)             \
    X(cuEventDestroy)            \
    X(cuEventRecord)             \
    X(cuEventSynchronize)        \
    X(cuEventElapsedTime)        \
    X(cuStreamBeginCapture)      \
    X(cuStreamEndCapture)        \
    X(cuGraphInstantiate)        \
    X(cuGraphLaunch)             \
    X(cuGraphExecDestroy)        \
    X(cuGraphDestroy)

#define CUDA_BLAS_FUNCTIONS(X)         \
    X(cublasLtCreate)                  \
    X(cublasLtDestroy)                 \
    X(cublasLtGetVersion)              \
    X(cublasLtGetStatusString)         \
    X(cublasLtMatmul)                  \
    X(cublasLtMatmulAlgoGetHeuristic)  \
    X(cublasLtMatmulAlgoCheck)         \
    X(cublasLtMatmulDescCreate)        \
    X(cublasLtMatmulDescDestroy)       \
    X(cublasLtMatmulDescSetAttribute)  \
    X(cublasLtMatrixLayoutCreate)      \
    X(cublasLtMatrixLayoutDestroy)     \
    X(cublasLtMatmulPreferenceCreate)  \
    X(cublasLtMatmulPreferenceDestroy) \
    X(cublasLtMatmulPreferenceSetAttribute)

#define CUDA_DNN_FUNCTIONS(X)        \
    X(cudnnGetVersion)               \
    X(cudnnGetCudartVersion)         \
    X(cudnnGetErrorString)           \
    X(cudnnGetLastErrorString)       \
    X(cudnnCreate)                   \
    X(cudnnDestroy)                  \
    X(cudnnSetStream)                \
    X(cudnnBackendCreateDescriptor)  \
    X(cudnnBackendDestroyDescriptor) \
    X(cudnnBackendSetAttribute)      \
    X(cudnnBackendGetAttribute)      \
    X(cudnnBackendFinalize)          \
    X(cudnnBackendExecute)

#if FLUX1_HAS_NCCL
#include <nccl.h>
#define CUDA_NCCL_FUNCTIONS(X) \
    X(ncclGetVersion)          \
    X(ncclGetErrorString)      \
    X(ncclGetUniqueId)         \
    X(ncclCommInitRankConfig)  \
    X(ncclCommAbort)           \
    X(ncclCommGetAsyncError)   \
    X(ncclAllGather)           \
    X(ncclReduceScatter)       \
    X(ncclSend)                \
    X(ncclRecv)                \
    X(ncclGroupStart)          \
    X(ncclGroupEnd)
#else
#define CUDA_NCCL_FUNCTIONS(X)
#endif

/* NVRTC is called by cuDNN alone, which compiles attention with it. */
typedef enum cuda_library { CUDA_DRIVER, CUDA_BLAS, CUDA_DNN, CUDA_NVRTC, CUDA_NCCL, CUDA_LIBRARY_COUNT } cuda_library;

typedef struct cuda_place {
    char path[PATH_MAX]; /* "": not found */
    char missing[512];   /* then why: half a sentence that names the library's file */
} cuda_place;

typedef struct cuda_libraries {
#ifdef __cplusplus /* the tests' stand-in */
#define CUDA_POINTER(name) decltype(::name) *name;
#else
#define CUDA_POINTER(name) __typeof__(name) *name;
#endif
    CUDA_DRIVER_FUNCTIONS(CUDA_POINTER)
    CUDA_BLAS_FUNCTIONS(CUDA_POINTER)
    CUDA_DNN_FUNCTIONS(CUDA_POINTER)
    CUDA_NCCL_FUNCTIONS(CUDA_POINTER)
#undef CUDA_POINTER
    bool blas, dnn; /* found; without cuDNN kernels of our own do its work, without cuBLASLt too (slowly: for proof) */
    bool nccl;      /* found; without it GPUs exchange through the host */
    bool driver;
    cuda_place place[CUDA_LIBRARY_COUNT]; /* empty in a stand-in */
} cuda_libraries;

/* Loads the libraries once a process. FLUX1_ERR_UNSUPPORTED says what is missing: the driver is needed, the others are
 * not; *out is set all the same. FLUX1_ERR_MEMORY: *out is NULL. */
flux1_status cuda_libraries_load(const cuda_libraries **out, flux1_error *err);

/* The same without waiting for the other libraries, which a thread looks for meanwhile (opening cuBLASLt alone takes a
 * tenth of a second): until cuda_libraries_load has returned, nothing but the driver's functions may be used. */
flux1_status cuda_libraries_begin(const cuda_libraries **out, flux1_error *err);

/* Fills a zeroed table from these folders, and with `loader` from the loader's own path. Of each library the first file
 * is taken that opens and has all functions; one that is too old is passed over. The driver is not searched beyond the
 * named folders and the loader's path: it belongs to the machine. Nothing is ever unloaded. */
void cuda_libraries_find(const cuda_search *where, bool loader, cuda_libraries *out);

/* "cuDNN", and its version as people write it, "9.19.0", or "" where that is not known. */
const char *cuda_library_name(cuda_library which);
void cuda_library_version(const cuda_libraries *lib, cuda_library which, char *out, size_t room);

/* What cuda_libraries_load gives from now on: a device made of plain C, for tests. NULL: the real ones again. Call
 * before any device is open. */
void cuda_libraries_replace(const cuda_libraries *stand_in);

#endif
