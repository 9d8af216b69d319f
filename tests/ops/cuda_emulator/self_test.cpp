/* The emulator finds what it is there to find: mistakes are planted, each in a process of its own. */
#include "ops/cuda_emulator/emulator.h"
#include "ops/cuda_emulator/emulate.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int failures;

#define EXPECT(condition)                                                       \
    do {                                                                        \
        if (!(condition))                                                       \
            failures++, fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
    } while (0)

/* What a process prints that runs f in this order of turns, and how it ends. */
struct outcome {
    int status;
    char text[1024];
};

static outcome run(const char *order, int (*f)(void))
{
    outcome o = {};
    int ends[2];
    if (pipe(ends))
        abort();
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        setenv("CUDA_EMULATOR_ORDER", order, 1);
        _exit(f());
    }
    close(ends[1]);
    for (size_t used = 0; used + 1 < sizeof o.text;) {
        ssize_t n = read(ends[0], o.text + used, sizeof o.text - 1 - used);
        if (n <= 0)
            break;
        used += (size_t)n;
    }
    close(ends[0]);
    if (child < 0 || waitpid(child, &o.status, 0) != child)
        abort();
    return o;
}

static bool ends_well(const outcome &o) { return WIFEXITED(o.status) && WEXITSTATUS(o.status) == 0; }
static bool is_wrong(const outcome &o) { return WIFEXITED(o.status) && WEXITSTATUS(o.status) == 1; }
static bool aborts(const outcome &o, const char *sentence)
{
    return WIFSIGNALED(o.status) && WTERMSIG(o.status) == SIGABRT && strstr(o.text, sentence);
}

/* ---- turns ---- */

__shared__ float cell[64];
static float result;

static void without_barrier(const void *)
{
    if (threadIdx.x == 0)
        cell[0] = 5;
    if (threadIdx.x == 32)
        result = cell[0];
}
static void with_barrier(const void *)
{
    if (threadIdx.x == 0)
        cell[0] = 5;
    __syncthreads();
    if (threadIdx.x == 32)
        result = cell[0];
}
static void without_warp_barrier(const void *)
{
    cell[threadIdx.x] = 5;
    if (threadIdx.x == 3)
        result = cell[2];
}
static void with_warp_barrier(const void *)
{
    cell[threadIdx.x] = 5;
    __syncwarp();
    if (threadIdx.x == 3)
        result = cell[2];
}
static void behind_some(const void *)
{
    if (threadIdx.x < 40)
        __syncthreads();
}

template <void (*BODY)(const void *)> static int launched(void)
{
    emulate_launch("planted", BODY, nullptr, {1, 1, 1}, {64, 1, 1}, 0);
    return result == 5 ? 0 : 1;
}

/* A missing barrier is right in the order of the threads, as it is wrong in reverse and in some of a few others. */
template <void (*WITHOUT)(const void *), void (*WITH)(const void *)> static void orders_show_what_is_missing(void)
{
    int wrong = 0;
    EXPECT(ends_well(run("forward", launched<WITHOUT>)));
    EXPECT(is_wrong(run("reverse", launched<WITHOUT>)));
    EXPECT(ends_well(run("reverse", launched<WITH>)));
    for (int seed = 1; seed <= 8; seed++) {
        char word[8];
        snprintf(word, sizeof word, "%d", seed);
        outcome o = run(word, launched<WITHOUT>), again = run(word, launched<WITHOUT>);
        EXPECT(strstr(o.text, "CUDA_EMULATOR_ORDER=") && o.status == again.status);
        wrong += is_wrong(o);
        EXPECT(ends_well(run(word, launched<WITH>)));
    }
    EXPECT(wrong > 0 && wrong < 8);
}

static void words_for_orders(void)
{
    outcome o = run("random", launched<behind_some>);
    EXPECT(aborts(o, "this thread has ended, others wait") && strstr(o.text, "(CUDA_EMULATOR_ORDER="));
    EXPECT(aborts(run("backwards", launched<with_barrier>), "not \"backwards\""));
    EXPECT(run("", launched<with_barrier>).text[0] == 0);
}

/* ---- streams, launches ---- */

static const cuda_libraries *lib;
static CUstream stream[2];
static CUdeviceptr memory;
enum { SIDE = 4, WORKSPACE = 4096 };

static void must(int r)
{
    if (r != 0)
        _exit(9);
}

static void open_device(void)
{
    CUcontext context;
    lib = cuda_emulator();
    must(lib->cuDevicePrimaryCtxRetain(&context, 0));
    must(lib->cuCtxSetCurrent(context));
    for (CUstream &s : stream)
        must(lib->cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
    must(lib->cuMemAlloc(&memory, WORKSPACE + 3 * SIDE * SIDE * sizeof(float)));
}

/* A product of 4 × 4 matrices. */
static void multiply(CUstream s)
{
    static cublasLtMatmulDesc_t product;
    static cublasLtMatrixLayout_t square;
    static cublasLtMatmulHeuristicResult_t found[1];
    const float one = 1, zero = 0;
    const cublasOperation_t turn = CUBLAS_OP_T;
    float *matrix = (float *)(uintptr_t)(memory + WORKSPACE);
    int count;
    if (!product) {
        cublasLtMatmulPreference_t wish;
        must(lib->cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
        must(lib->cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &turn, sizeof turn));
        must(lib->cublasLtMatrixLayoutCreate(&square, CUDA_R_32F, SIDE, SIDE, SIDE));
        must(lib->cublasLtMatmulPreferenceCreate(&wish));
        for (int i = 0; i < 4; i++) {
            const uint32_t align = 16;
            must(lib->cublasLtMatmulPreferenceSetAttribute(
                wish, (cublasLtMatmulPreferenceAttributes_t)(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i), &align,
                sizeof align));
        }
        must(lib->cublasLtMatmulAlgoGetHeuristic(nullptr, product, square, square, square, square, wish, 1, found,
                                                 &count));
    }
    must(lib->cublasLtMatmul(nullptr, product, &one, matrix, square, matrix + SIDE * SIDE, square, &zero,
                             matrix + 2 * SIDE * SIDE, square, matrix + 2 * SIDE * SIDE, square, &found[0].algo,
                             (void *)(uintptr_t)memory, WORKSPACE, (cudaStream_t)s));
}

enum between { NOTHING, WAIT, LATE_EVENT, SYNCHRONISE };
template <between B> static int two_streams(void)
{
    CUevent e;
    open_device();
    must(lib->cuEventCreate(&e, CU_EVENT_DISABLE_TIMING));
    if (B == LATE_EVENT) /* an event that precedes the call */
        must(lib->cuEventRecord(e, stream[0]));
    multiply(stream[0]);
    if (B == WAIT)
        must(lib->cuEventRecord(e, stream[0]));
    if (B == WAIT || B == LATE_EVENT)
        must(lib->cuStreamWaitEvent(stream[1], e, 0));
    if (B == SYNCHRONISE)
        must(lib->cuStreamSynchronize(stream[0]));
    multiply(stream[1]);
    must(lib->cuStreamSynchronize(stream[1]));
    return 0;
}

/* Recorded: the second stream joins, and the first may go on only behind it. */
template <bool WAITS> static int two_recorded_streams(void)
{
    CUevent e, f;
    CUgraph graph;
    open_device();
    must(lib->cuEventCreate(&e, CU_EVENT_DISABLE_TIMING));
    must(lib->cuEventCreate(&f, CU_EVENT_DISABLE_TIMING));
    must(lib->cuStreamBeginCapture(stream[0], CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    must(lib->cuEventRecord(e, stream[0]));
    must(lib->cuStreamWaitEvent(stream[1], e, 0));
    multiply(stream[1]);
    must(lib->cuEventRecord(f, stream[1]));
    if (WAITS)
        must(lib->cuStreamWaitEvent(stream[0], f, 0));
    multiply(stream[0]);
    must(lib->cuStreamEndCapture(stream[0], &graph));
    return 0;
}

static void workspaces_are_one_stream_s(void)
{
    const char *sentence = "a workspace is given to calls of two streams";
    EXPECT(aborts(run("forward", two_streams<NOTHING>), sentence));
    EXPECT(aborts(run("forward", two_streams<LATE_EVENT>), sentence));
    EXPECT(ends_well(run("forward", two_streams<WAIT>)));
    EXPECT(ends_well(run("forward", two_streams<SYNCHRONISE>)));
    EXPECT(aborts(run("forward", two_recorded_streams<false>), sentence));
    EXPECT(ends_well(run("forward", two_recorded_streams<true>)));
}

static emulated_kernel k;

static CUresult launch(size_t arguments, unsigned threads, unsigned rows, unsigned shared,
                       void (*body)(const void *) = with_barrier)
{
    static char bytes[8192];
    void *parameters[] = {bytes};
    k = {"planted", arguments, 128, body};
    return lib->cuLaunchKernel((CUfunction)(uintptr_t)&k, 1, rows, 1, threads, 1, 1, shared, stream[0], parameters,
                               nullptr);
}

static int limits(void)
{
    open_device();
    must(launch(4096, 128, 65535, 0));
    return launch(4097, 128, 1, 0) == CUDA_ERROR_INVALID_VALUE &&
                   launch(8, 128, 65536, 0) == CUDA_ERROR_INVALID_VALUE &&
                   launch(8, 160, 1, 0) == CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES
               ? 0
               : 1;
}

/* ---- shared memory ---- */

enum : unsigned { SHARED_FIRST = 48 << 10, SHARED_MOST = 227 << 10 }; /* of an H100: CUDA's programming guide */

static CUresult allow(int bytes)
{
    return lib->cuFuncSetAttribute((CUfunction)(uintptr_t)&k, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes);
}

static int shared_limits(void)
{
    const CUresult refused = CUDA_ERROR_INVALID_VALUE;
    open_device();
    must(launch(8, 64, 1, SHARED_FIRST));
    bool good = launch(8, 64, 1, SHARED_FIRST + 1) == refused && allow(SHARED_MOST + 1) == refused &&
                allow(-1) == refused && launch(8, 64, 1, SHARED_FIRST + 1) == refused;
    must(allow(SHARED_MOST));
    must(launch(8, 64, 1, SHARED_MOST));
    good = good && launch(8, 64, 1, SHARED_MOST + 1) == refused;
    must(allow(1024));
    return good && launch(8, 64, 1, 1025) == refused ? 0 : 1;
}

/* Bytes 0 to 63 of dynamic shared memory, written by one thread and read by another; the byte behind is nobody's. */
static void within_shared(const void *)
{
    char *p = (char *)emulate_dynamic_shared();
    if (threadIdx.x == 0)
        result = p[63] == (char)0xff ? 5 : 0, p[63] = 1;
    __syncthreads();
    if (threadIdx.x == 32 && p[63] != 1)
        result = 0;
}
static void behind_shared(const void *) { *((volatile char *)emulate_dynamic_shared() + 64) = 1; }

template <void (*BODY)(const void *)> static int shared_bytes(void)
{
    open_device();
    for (int i = 0; i < 2; i++) /* the second launch finds nothing of the first */
        must(launch(8, 64, 2, 64, BODY));
    must(lib->cuStreamSynchronize(stream[0]));
    return result == 5 ? 0 : 1;
}

/* ---- collectives ---- */

#if FLUX1_HAS_NCCL
template <bool RUN_BEFORE> static int recorded_gather(void)
{
    ncclComm_t c;
    ncclUniqueId id;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    CUgraph graph;
    void *p;
    open_device();
    p = (void *)(uintptr_t)memory;
    config.blocking = 0;
    must(lib->ncclGetUniqueId(&id));
    if (lib->ncclCommInitRankConfig(&c, 1, id, 0, &config) != ncclInProgress)
        return 9;
    if (RUN_BEFORE)
        lib->ncclAllGather(p, p, 16, ncclUint8, c, (cudaStream_t)stream[0]);
    must(lib->cuStreamBeginCapture(stream[0], CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    lib->ncclAllGather(p, p, 16, ncclUint8, c, (cudaStream_t)stream[0]);
    must(lib->cuStreamEndCapture(stream[0], &graph));
    return 0;
}

static void first_collectives_are_not_recorded(void)
{
    EXPECT(aborts(run("forward", recorded_gather<false>), "a communicator's first all_gather is recorded"));
    EXPECT(ends_well(run("forward", recorded_gather<true>)));
}
#endif

/* The nth kernel fails, and everything behind it. */
static int failing(void)
{
    CUdeviceptr p;
    open_device();
    cuda_emulator_fail_kernel(2);
    for (int i = 0; i < 3; i++)
        must(launch(8, 64, 1, 0)); /* nothing has run yet */
    const CUresult gone = CUDA_ERROR_ILLEGAL_ADDRESS;
    bool good = lib->cuStreamSynchronize(stream[0]) == gone && result == 5 && launch(8, 64, 1, 0) == gone &&
                lib->cuMemAlloc(&p, 1) == gone && lib->cuStreamSynchronize(stream[1]) == gone;
    lib->cuMemFree(memory);
    must(lib->cuDevicePrimaryCtxRelease(0));
    open_device(); /* until the last context has gone */
    return good && launch(8, 64, 1, 0) == CUDA_SUCCESS && lib->cuStreamSynchronize(stream[0]) == CUDA_SUCCESS ? 0 : 1;
}

int main(void)
{
    orders_show_what_is_missing<without_barrier, with_barrier>();
    orders_show_what_is_missing<without_warp_barrier, with_warp_barrier>();
    words_for_orders();
    workspaces_are_one_stream_s();
    EXPECT(ends_well(run("forward", limits)));
    EXPECT(ends_well(run("forward", shared_limits)));
    EXPECT(ends_well(run("forward", shared_bytes<within_shared>)));
    EXPECT(aborts(run("forward", shared_bytes<behind_shared>), "touches"));
#if FLUX1_HAS_NCCL
    first_collectives_are_not_recorded();
#endif
    EXPECT(ends_well(run("forward", failing)));
    return failures ? 1 : 0;
}
