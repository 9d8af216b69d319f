/* The CUDA backend's insides. device.c: what all backends on one GPU share (libraries, kernels, handles, weights that
 * stay); cuda.c: memory, order, capture; weights.c: recipes to device memory, resident or streamed; rows.c: launches of
 * our own kernels; linear.c (cuBLASLt), attention.c and conv.c (cuDNN).
 *
 * Layout: an activation is row-major, [batch][text rows, image rows][cols], float32 or bf16 by role and arithmetic, as
 * on the CPU, so that windows and parts are views with a stride. Everything is enqueued on one stream; a status tells
 * of the enqueueing. */
#ifndef FLUX1_OPS_CUDA_CUDA_H
#define FLUX1_OPS_CUDA_CUDA_H

#include "ops/cuda/kernels.h"
#include "ops/cuda/libraries.h"
#include "ops/device.h"

#define CUDA_SLOTS 4096
#define CUDA_ALIGN 256                    /* of every activation and weight */
#define CUDA_WORKSPACE ((size_t)64 << 20) /* cuBLASLt's and cuDNN's, one a backend */
#define CUDA_BOUNCE ((size_t)16 << 20)

typedef struct cuda_linear_plans cuda_linear_plans; /* linear.c: algorithms by shape */
typedef struct cuda_dnn_plans cuda_dnn_plans;       /* dnn.c: execution plans by shape */

typedef struct cuda_buffer {
    act_buffer head;
    CUdeviceptr data;
    size_t offset; /* in the arena */
    bool bf16;     /* bf16 */
} cuda_buffer;

typedef struct cuda_weight {
    weight head;
    CUdeviceptr data; /* LINEAR [rows][cols], CONV [rows][ky][kx][in], TABLE [rows][cols]: bf16 or float32, dense.
                         VECTOR: float32 [rows]. Valid in the bracket */
    CUdeviceptr bias, bias_bf16;                 /* [rows], float32 and (in bf16 arithmetic) bf16; or 0 */
    CUdeviceptr scales;                          /* of e4m3: float32, one a row or one in all; or 0 */
    bool bf16, e4m3;                             /* e4m3: data are bytes [rows][cols] */
    size_t at, bias_at, bias_bf16_at, scales_at; /* in the block's memory */
    weight_recipe recipe, bias_recipe;
    struct cuda_weight *next;
} cuda_weight;

/* A step's calls, enqueued again and again as a graph: the first step runs as it is (algorithms are chosen, weights
 * arrive), the second is recorded. */
typedef struct cuda_capture {
    bool off;  /* not wanted, or not possible: weights are streamed, or bytes go through the host */
    bool warm; /* one step has run */
    bool recording;
    uint64_t number; /* the recording's */
    CUgraphExec graph;
} cuda_capture;

typedef struct cuda_device cuda_device;

typedef struct cuda_ops {
    ops head;
    cuda_device *device;
    const cuda_libraries *lib;
    CUstream stream;
    bool bf16;        /* arithmetic is bf16 */
    bool fp8;         /* coarse weights are e4m3 */
    bool scales_rows; /* of e4m3 operands; otherwise a whole operand has one scale */
    /* the arena and what lies in it: cuda.c */
    CUdeviceptr arena;
    size_t arena_size, arena_used, arena_peak;
    struct cuda_headers *headers;
    void *mirror;     /* host memory as large as the arena, made when something is exchanged; NULL on one rank and where
                         linked */
    bool linked;      /* NCCL moves what is exchanged: link.c */
    CUdeviceptr step; /* int32: the step counter */
    CUdeviceptr flags;     /* int32[CUDA_SLOTS]: finite */
    CUdeviceptr workspace; /* CUDA_WORKSPACE bytes */
    CUdeviceptr bounce;    /* CUDA_BOUNCE bytes: host tensors on their way */
    int32_t *host_flags;   /* pinned, int32[1 + OPS_STEPS_AHEAD][CUDA_SLOTS]: finite_first's, then the last steps' */
    CUevent ended[OPS_STEPS_AHEAD]; /* behind a step and its flags */
    cuda_capture capture;
    struct cuda_blocks *blocks; /* weights.c */
    cuda_linear_plans *linear_plans;
    cuda_dnn_plans *dnn_plans;
} cuda_ops;

static inline cuda_ops *cuda_self(ops *o) { return (cuda_ops *)o; }
static inline const cuda_weight *cuda_w(const weight *w) { return (const cuda_weight *)w; }

cuda_view cuda_view_of(act a); /* data NULL for an act left out */
/* For an output of `batch` entries; data NULL for a table left out. */
cuda_table_view cuda_table_of(const cuda_ops *o, act t, int64_t batch);

/* Every operation begins with this: cancelled, or a weight (may be NULL) used outside its block's bracket. Makes the
 * device's context current. */
flux1_status cuda_begin(const ops *o, const char *operation, const weight *w);
/* FLUX1_ERR_INTERNAL unless `ok`: a model asked for shapes that do not fit. */
flux1_status cuda_fits(const ops *o, bool ok, const char *operation);
/* The status of a driver, cuBLASLt or cuDNN call; a failure's sentence has the library's own words. */
flux1_status cuda_check(const ops *o, CUresult r, const char *what);

cuda_view cuda_dense_view(CUdeviceptr p, int64_t rows, int64_t cols,
                          bool bf16); /* rows of one batch; batches follow each other */
int cuda_is_wide(const cuda_view *v); /* kernels.h: `wide` */
void cuda_headers_free(cuda_ops *o);

/* Scratch from the arena until the caller's mark is released; what ops_cuda_sizing.scratch promised for this operation.
 */
flux1_status cuda_scratch(cuda_ops *o, size_t bytes, CUdeviceptr *out);

/* Enqueues a kernel; args: its struct. Nothing is launched for an empty grid. */
flux1_status cuda_launch(cuda_ops *o, cuda_kernel k, int64_t grid_x, int64_t grid_y, int64_t grid_z, int threads,
                         const void *args);
flux1_status cuda_launch_on(cuda_ops *o, CUstream stream, cuda_kernel k, int64_t grid_x, int64_t grid_y, int64_t grid_z,
                            int threads, const void *args);
/* `in`, a matrix or batches of one, to e4m3 at `to`, dense, and its scales: one a row, or one in all. spare: 4 bytes,
 * used in the second case. */
flux1_status cuda_quantise(cuda_ops *o, CUstream stream, const cuda_view *in, int64_t batch, CUdeviceptr to,
                           CUdeviceptr scales, CUdeviceptr spare);
/* Element-wise kernels over view.rows × batch rows. */
flux1_status cuda_launch_elements(cuda_ops *o, cuda_kernel k, cuda_element_args *a);

/* ---- the device: device.c ---- */

extern const ops_sizing ops_cuda_sizing;
extern const ops_device_kind ops_cuda_device;
flux1_status ops_cuda_create(const ops_config *c, ops **out);
#define OPS_CUDA_SPARE ((size_t)512 << 20) /* of the device's bytes, left to the libraries when weights are to stay */

const cuda_libraries *cuda_device_libraries(const cuda_device *d);
flux1_status cuda_device_current(const cuda_device *d, flux1_error *err); /* makes the GPU this thread's */
CUfunction cuda_device_kernel(const cuda_device *d, cuda_kernel k);
cublasLtHandle_t cuda_device_blas(const cuda_device *d);
int cuda_device_multiprocessors(const cuda_device *d);
int cuda_device_capability(const cuda_device *d);     /* 90 for sm_90 */
bool cuda_device_scales_rows(const cuda_device *d);   /* cuBLASLt can, on this GPU */
const char *cuda_device_folder(const cuda_device *d); /* where algorithms are remembered between runs; NULL: nowhere */
const char *cuda_device_identity(
    const cuda_device *d); /* GPU, driver and library versions: what a remembered algorithm is good for */

/* Memory of the device beside arenas: gives back weights that nobody uses when there is not enough. FLUX1_ERR_MEMORY
 * says what was needed and what to do. */
flux1_status cuda_device_allocate(cuda_device *d, size_t bytes, const char *what, CUdeviceptr *out, flux1_error *err);
void cuda_device_release(cuda_device *d, CUdeviceptr p); /* 0 is fine */

/* Blocks of weights that stay on the device after the backend that uploaded them is gone, found again by content. */
typedef struct cuda_kept {
    uint64_t key[2];
    CUdeviceptr data;
    size_t bytes;
    int users;
    unsigned long used; /* when last */
    bool whole;         /* uploaded */
    struct cuda_kept *next;
} cuda_kept;
/* The block of that key, which has one more user; new (whole is false) or NULL in *out if it is not there and `bytes`
 * do not fit. */
flux1_status cuda_device_keep(cuda_device *d, const uint64_t key[2], size_t bytes, cuda_kept **out, flux1_error *err);
void cuda_device_unkeep(cuda_device *d, cuda_kept *k);
/* The same for a block that is there, whole; NULL otherwise. */
cuda_kept *cuda_device_find(cuda_device *d, const uint64_t key[2]);
/* Bytes that could be allocated if all unused weights were given back. */
size_t cuda_device_free_bytes(cuda_device *d);

/* ---- link.c (where NCCL's header is): the link entries of ops_device_kind ---- */

bool cuda_link_possible(void);
flux1_status cuda_link_id(unsigned char *id, flux1_error *err);
flux1_status cuda_link_create(ops *o, const unsigned char *id, int size, int rank, ops_link **out);
void cuda_link_destroy(ops_link *l);
void cuda_link_abort(ops_link *l);
flux1_status cuda_link_all_gather(ops_link *l, const void *send, void *recv, size_t bytes);
flux1_status cuda_link_reduce_scatter(ops_link *l, const float *send, float *recv, size_t count); /* in NCCL's order */
flux1_status cuda_link_shift_begin(ops_link *l, const void *send, void *recv, size_t bytes, int distance);
flux1_status cuda_link_shift_end(ops_link *l);

/* ---- weights.c ---- */

flux1_status cuda_blocks_create(cuda_ops *o, int threads);
void cuda_blocks_free(cuda_ops *o);
void cuda_blocks_unwind(cuda_ops *o); /* no block is held any more */
size_t cuda_weight_bytes(const ops_config *c, const weight_recipe *r, const weight_recipe *bias);

/* ---- linear.c ---- */

/* A linear layer's input as it is multiplied: in its own place, cast, or quantised, both in the arena. */
typedef struct cuda_operand {
    cuda_view view;      /* bf16: 0, 1 or CUDA_E4M3; batches of e4m3 follow each other */
    const float *scales; /* of e4m3 */
    int64_t batch;
} cuda_operand;
flux1_status cuda_operand_of(cuda_ops *o, act in, const cuda_weight *w, cuda_operand *out);
/* linear with an input that is ready; more than one may use it. */
flux1_status cuda_linear_of(cuda_ops *o, const cuda_operand *in, const weight *w, const epilogue *e, act out);
void cuda_linear_free(cuda_ops *o);
/* out[m][n] = in·wᵀ with nothing behind it, for conv.c's patches; batch 1. */
flux1_status cuda_plain_product(cuda_ops *o, const cuda_view *in, const cuda_weight *w, const cuda_view *out);

/* ---- attention.c, conv.c, dnn.c ---- */
void cuda_dnn_free(cuda_ops *o);
size_t cuda_attention_scratch(const ops_config *c, int64_t queries, int64_t heads, int64_t dim);
size_t cuda_linear_scratch(const ops_config *c, int64_t m, int64_t n, int64_t k);
size_t cuda_conv_scratch(const ops_config *c, int64_t pixels, int64_t out_channels, int64_t in_taps);

#define CUDA_DECLARE(ret, name, args, call) ret cuda_##name args;
OPS_PRIMITIVES(CUDA_DECLARE)
#undef CUDA_DECLARE
flux1_status cuda_qkv_norm_rope(ops *o, act in, const qkv_weights *w, act rope, act qkv);
flux1_status cuda_single_products(ops *o, act in, const qkv_weights *w, act rope, act qkv, const linear_weight *up,
                                  act hidden);

#endif
