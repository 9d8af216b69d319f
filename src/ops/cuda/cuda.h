/* The CUDA backend's insides, from the ground up. gpu.c: a GPU; kept.c: its memory beside arenas, and weights that stay
 * there; kind.c: GPUs as a kind of device. On them a backend: launch.c (views, kernels), arena.c, moves.c (copies),
 * quantise.c; upload.c (recipes to device memory), packed.c (weights that stay packed there), weights.c (what is
 * resident, what is streamed), steps.c (order, recordings), branches.c (a step's branches); race.c, algorithms.c,
 * linear_plans.c and linear.c (cuBLASLt), graphs.c, attention.c and conv.c (cuDNN), norms.c and rows.c (the other
 * kernels of our own), link.c (NCCL); backend.c: its table and its life.
 *
 * Layout: an activation is row-major, [batch][text rows, image rows][cols], float32 or bf16 by role and arithmetic, as
 * on the CPU, so that windows and parts are views with a stride. Everything is enqueued on one stream, but for what a
 * recorded step does beside it; a status tells of the enqueueing. */
#ifndef FLUX1_OPS_CUDA_CUDA_H
#define FLUX1_OPS_CUDA_CUDA_H

#include "ops/cuda/kept.h"

#define CUDA_SLOTS 4096                   /* of finite */
#define CUDA_ALIGN 256                    /* of every activation and weight */
#define CUDA_WORKSPACE ((size_t)64 << 20) /* cuBLASLt's and cuDNN's, one a backend */
#define CUDA_BOUNCE ((size_t)16 << 20)
#define CUDA_DECODED ((size_t)128 << 20) /* of a packed weight at a time: FLUX.1's largest are 108 MiB in bf16 */

typedef struct cuda_buffer {
    act_buffer head;
    CUdeviceptr data;
    size_t offset; /* in the arena */
    bool bf16;
    bool e4m3[2];       /* by part: what lies here is e4m3, at the beginning of each row's place */
    CUdeviceptr scales; /* float32, of each row in e4m3; 0: it never is */
} cuda_buffer;

typedef struct cuda_weight {
    weight head;
    CUdeviceptr data; /* LINEAR, QKV [rows][cols], CONV [rows][ky][kx][in], TABLE [rows][cols]: bf16 or float32, dense.
                         VECTOR: float32 [rows]. Valid in the bracket */
    CUdeviceptr bias, bias_bf16;                 /* [rows], float32 and (in bf16 arithmetic) bf16; or 0 */
    CUdeviceptr scales;                          /* of e4m3: float32, one a row or one in all; or 0 */
    bool bf16, e4m3;                             /* e4m3: data are bytes [rows][cols] */
    bool packed;                                 /* data are the recipe's pieces as the file has them: packed.c */
    size_t at, bias_at, bias_bf16_at, scales_at; /* in the block's memory */
    size_t piece_at[RECIPE_PIECES], factors_at[RECIPE_PIECES]; /* packed: there too */
    CUdeviceptr memory;                                        /* the block's. Valid in the bracket */
    weight_recipe recipe, bias_recipe;
    struct cuda_weight *next;
} cuda_weight;

/* Two branches of a step. The first is enqueued on a stream of its own, with a workspace of its own. */
typedef struct cuda_branches {
    CUstream stream, main; /* main: the backend's own, while calls go to the first branch */
    CUdeviceptr workspace, main_workspace;
    CUevent forked, joined;
    bool wanted;
    bool open;        /* between the first call's branch and the end of both */
    bool beside;      /* the first runs on its stream: a recording forks */
    bool first;       /* calls go to it now */
    size_t base, top; /* of the arena: where they began, and the most they reached */
} cuda_branches;

typedef struct cuda_ops {
    ops head;
    cuda_device *device;
    const cuda_libraries *lib;
    CUstream stream;
    bool bf16;        /* arithmetic is bf16 */
    bool fp8;         /* coarse weights are e4m3 */
    bool scales_rows; /* of e4m3 operands; otherwise a whole operand has one scale */
    bool eager;       /* steps are not recorded: not wanted, or bytes go through the host */
    bool recording;   /* what is enqueued now is recorded, not done: steps.c */
    bool linked;      /* NCCL moves what is exchanged: link.c */
    /* the arena and what lies in it: arena.c */
    CUdeviceptr arena;
    size_t arena_size, arena_used, arena_peak;
    struct cuda_headers *headers;
    void *mirror;          /* host memory as large as the arena, made when something is exchanged; NULL on one rank and
                              where linked */
    CUdeviceptr step;      /* int32: the step counter */
    CUdeviceptr flags;     /* int32[CUDA_SLOTS]: finite */
    CUdeviceptr workspace; /* CUDA_WORKSPACE bytes */
    CUdeviceptr bounce;    /* CUDA_BOUNCE bytes: host tensors on their way */
    CUdeviceptr decoded; /* decoded_bytes: values of a packed weight, or of as many rows as decoded_most bytes are room
                            for, until its product is done */
    size_t decoded_bytes, decoded_most;
    ops_held held;       /* how weights lie on the device */
    int32_t *host_flags; /* pinned, int32[1 + OPS_STEPS_AHEAD][CUDA_SLOTS]: finite_first's, then the last steps' */
    CUevent ended[OPS_STEPS_AHEAD]; /* behind a step and its flags */
    struct cuda_upload *upload;     /* upload.c */
    struct cuda_blocks *blocks;     /* weights.c */
    struct cuda_steps *steps;       /* steps.c */
    cuda_branches branches;
} cuda_ops;

static inline cuda_ops *cuda_self(ops *o) { return (cuda_ops *)o; }
static inline const cuda_weight *cuda_w(const weight *w) { return (const cuda_weight *)w; }

/* ---- launch.c ---- */

/* Every operation begins with this: cancelled, a weight (may be NULL) used outside its block's bracket, a device that
 * failed. Makes the device's context current. */
flux1_status cuda_begin(const ops *o, const char *operation, const weight *w);
/* FLUX1_ERR_INTERNAL unless `ok`: a model asked for shapes that do not fit. */
flux1_status cuda_fits(const ops *o, bool ok, const char *operation);
/* The status of a driver's call; a failure's sentence has the driver's own words. */
flux1_status cuda_check(const ops *o, CUresult r, const char *what);
/* cuBLASLt or cuDNN refused what it had accepted: FLUX1_ERR_INTERNAL, unless the device itself has failed. */
flux1_status cuda_library_failed(const cuda_ops *o, const char *sentence);

cuda_view cuda_view_of(act a); /* data NULL for an act left out */
/* For an output of `batch` entries; data NULL for a table left out. */
cuda_table_view cuda_table_of(const cuda_ops *o, act t, int64_t batch);
cuda_view cuda_dense_view(CUdeviceptr p, int64_t rows, int64_t cols,
                          bool bf16); /* rows of one batch; batches follow each other */
int cuda_is_wide(const cuda_view *v); /* kernels.h: `wide` */

/* Enqueues a kernel; args: its struct. Nothing is launched for an empty grid. */
flux1_status cuda_launch(cuda_ops *o, cuda_kernel k, int64_t grid_x, int64_t grid_y, int64_t grid_z, int threads,
                         const void *args);
flux1_status cuda_launch_on(cuda_ops *o, CUstream stream, cuda_kernel k, int64_t grid_x, int64_t grid_y, int64_t grid_z,
                            int threads, const void *args);
/* Element-wise kernels over view.rows × batch rows. */
flux1_status cuda_launch_elements(cuda_ops *o, cuda_kernel k, cuda_element_args *a);

/* ---- arena.c ---- */

size_t cuda_act_bytes(bool bf16, bool fp8, act_role role, const act_shape *s);
/* Of at least `bytes`, all of it free: the one there is, if that will do; otherwise another, in another place. */
flux1_status cuda_arena_reserve(cuda_ops *o, size_t bytes);
void cuda_arena_free(cuda_ops *o);
flux1_status cuda_arena_take(cuda_ops *o, size_t bytes, size_t *offset);
/* Scratch until the caller's mark is released; what ops_cuda_sizing.scratch promised for this operation. */
flux1_status cuda_scratch(cuda_ops *o, size_t bytes, CUdeviceptr *out);

/* ---- quantise.c ---- */

/* `in`, a matrix or batches of one, to e4m3 at `to`, dense, and its scales: one a row, or one in all. spare: 4 bytes,
 * used in the second case. */
flux1_status cuda_quantise(cuda_ops *o, CUstream stream, const cuda_view *in, int64_t batch, CUdeviceptr to,
                           CUdeviceptr scales, CUdeviceptr spare);
/* Whether a norm's rows are written as e4m3 with scales by rows: nothing but products with such weights reads them. */
bool cuda_norm_in_e4m3(const cuda_ops *o, const norm_behind *n);
/* From here on `a`, one part or the whole of a buffer, is e4m3. */
void cuda_set_e4m3(act a);
bool cuda_is_e4m3(act a);
cuda_view cuda_e4m3_view(act a);      /* rows lie twice as far apart as they are long */
float *cuda_e4m3_scales(act a);       /* of its first row */
int64_t cuda_e4m3_scales_step(act a); /* from a batch entry's to the next's */

/* ---- packed.c ---- */

/* Whether a weight can lie packed, in fewer bytes than it takes otherwise. */
bool cuda_packs(const weight_recipe *r, size_t plain_bytes);
/* Bytes of its pieces from w->at on, and their places in *w (NULL: nowhere yet). */
size_t cuda_packed_place(const weight_recipe *r, cuda_weight *w);
/* Where a piece's rows, or the factors of its scale, go: `count` lines of `bytes` from `at` on in the block's memory.
 */
typedef struct cuda_lines {
    size_t at, bytes;
    int64_t count;
} cuda_lines;
cuda_lines cuda_packed_lines(const cuda_weight *w, int piece, bool factors);
void cuda_packed_line(const recipe_piece *p, bool factors, int64_t line, unsigned char *out);
/* How many rows of a packed weight are decoded at a time; the bytes of these values, 0 for one that is not packed; and
 * room for so many, in another place. */
int64_t cuda_packed_rows(const cuda_ops *o, const cuda_weight *w);
size_t cuda_packed_values(const cuda_ops *o, const cuda_weight *w);
flux1_status cuda_packed_room(cuda_ops *o, size_t bytes);
/* Enqueues the decoding of rows [first, first + count) to `out`, dense. */
flux1_status cuda_packed_decode(cuda_ops *o, const cuda_weight *w, int64_t first, int64_t count, const cuda_view *out);

/* ---- upload.c: all made at its first use ---- */

/* Enqueues the copy of a weight's parts to their places in a block's memory at `to`. The recipes' bytes have been read
 * when it returns. */
flux1_status cuda_upload_weight(cuda_ops *o, const cuda_weight *w, CUdeviceptr to);
flux1_status cuda_upload_wait(cuda_ops *o);                  /* until all copies have arrived */
flux1_status cuda_upload_after(cuda_ops *o, CUevent event);  /* what follows waits for the event */
flux1_status cuda_upload_record(cuda_ops *o, CUevent event); /* behind all copies so far */
void cuda_upload_rest(cuda_ops *o);                          /* waits, and holds no device memory any more */
flux1_status cuda_upload_create(cuda_ops *o, int threads);
void cuda_upload_free(cuda_ops *o);

/* ---- weights.c ---- */

/* Blocks that a step began, and where they lay. */
typedef struct cuda_use {
    block *b;
    CUdeviceptr at, decoded; /* decoded: where the values of its packed weights were, 0 without any */
} cuda_use;
typedef struct cuda_uses {
    cuda_use *use;
    size_t count, room;
    bool streamed; /* one of them has no place of its own */
} cuda_uses;

flux1_status cuda_blocks_create(cuda_ops *o);
void cuda_blocks_free(cuda_ops *o);
void cuda_blocks_unwind(cuda_ops *o);                 /* no block is held any more */
void cuda_blocks_watch(cuda_ops *o, cuda_uses *uses); /* blocks that are begun from now on are noted; NULL: no more */
/* Takes hold of blocks that were noted, until the next rest. False if one is not on the device any more, or, with
 * `same_place`, elsewhere. */
bool cuda_blocks_hold(cuda_ops *o, const cuda_uses *uses, bool same_place);
void cuda_block_free(cuda_ops *o, block *b);
void cuda_block_key(ops *o, const block *b, uint64_t key[2], size_t *bytes);
flux1_status cuda_block_export(ops *o, block *b, void *out);
size_t cuda_weight_bytes(const ops_config *c, const weight_recipe *r, const weight_recipe *bias);

/* ---- steps.c ---- */

flux1_status cuda_steps_create(cuda_ops *o);
void cuda_steps_free(cuda_ops *o);
void cuda_recordings_drop(cuda_ops *o);                             /* what they use has moved */
flux1_status cuda_flag(const cuda_ops *o, int slot, int32_t **out); /* finite's, on the device */

/* ---- branches.c ---- */

void cuda_branches_drop(cuda_ops *o); /* calls go to the backend's own stream again, whatever was enqueued */
void cuda_branches_free(cuda_ops *o);

/* ---- norms.c ---- */

/* An epilogue without addend, activation and mul that writes `out`, and the norm behind it: one pass. */
flux1_status cuda_finish_norm(cuda_ops *o, const cuda_element_args *e, const norm_behind *norm, act out);
/* What is behind a linear layer that has written `out`: finite, and the norm. */
flux1_status cuda_norm_alone(cuda_ops *o, act out, const norm_behind *norm);

/* ---- algorithms.c, linear.c ---- */

/* A linear layer's input as it is multiplied: in its own place, cast, or quantised, both in the arena. */
typedef struct cuda_operand {
    cuda_view view;      /* bf16: 0, 1 or CUDA_E4M3 */
    const float *scales; /* of e4m3 */
    int64_t scales_step; /* where rows have scales: from a batch entry's to the next's */
    int64_t batch;
} cuda_operand;
flux1_status cuda_operand_of(cuda_ops *o, act in, const cuda_weight *w, cuda_operand *out);
/* linear with an input that is ready; more than one may use it. */
flux1_status cuda_linear_of(cuda_ops *o, const cuda_operand *in, const weight *w, const epilogue *e, act out);
/* out[m][n] = in·wᵀ with nothing behind it, for conv.c's patches; batch 1. */
flux1_status cuda_plain_product(cuda_ops *o, const cuda_view *in, const cuda_weight *w, const cuda_view *out);
/* out[m][n] = in·wᵀ of two activations, by rows [n][k] or `across` [k][n], one batch. *done is false where cuBLASLt
 * does not do it. */
flux1_status cuda_view_product(cuda_ops *o, const cuda_view *in, const cuda_view *w, bool across, const cuda_view *out,
                               bool *done);
size_t cuda_linear_scratch(const ops_config *c, int64_t m, int64_t n, int64_t k);

/* ---- graphs.c, attention.c, conv.c ---- */

void cuda_graphs_free(cuda_device *d);
size_t cuda_attention_scratch(const ops_config *c, int64_t queries, int64_t keys, int64_t heads, int64_t dim);
size_t cuda_conv_scratch(const ops_config *c, int64_t pixels, int64_t out_channels, int64_t in_taps);

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

/* ---- backend.c, kind.c ---- */

extern const ops_sizing ops_cuda_sizing;
extern const ops_device_kind ops_cuda_device;
flux1_status ops_cuda_create(const ops_config *c, ops **out);

#define CUDA_DECLARE(ret, name, args, call) ret cuda_##name args;
OPS_PRIMITIVES(CUDA_DECLARE)
#undef CUDA_DECLARE
flux1_status cuda_linear_norm(ops *o, act in, const linear_weight *w, const epilogue *e, act out,
                              const norm_behind *norm);
flux1_status cuda_qkv_norm_rope(ops *o, act in, const qkv_weights *w, act rope, act qkv);
flux1_status cuda_single_products(ops *o, act in, const qkv_weights *w, act rope, act qkv, const linear_weight *up,
                                  act hidden);

#endif
