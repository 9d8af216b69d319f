/* The backend interface: everything a backend can do, and all that model code may ask of one.
 *
 * Model code says what is computed, never where or in which layout. It creates activations by logical shape and role,
 * passes handles, and reads shapes back. It takes no pointer, computes no stride and copies no bytes. Operations are
 * enqueued in order; a returned status is about the enqueueing, on a CPU also about the work. Messages go to o->err.
 * `ops/ref` defines every entry; tests/ops/test_checkops.c tests the other backends against it.
 *
 * Handles: an `act` names a buffer, one part of it (prompt or image rows of a joint tensor) or the whole, and a window
 * of rows and columns. So fused products (q|k|v, attention|mlp, shift|scale|gate) are one buffer, and nothing is ever
 * concatenated. A zeroed act means "left out". Windows of columns begin at multiples of a head size or of the model's
 * width. */
#ifndef FLUX1_OPS_OPS_H
#define FLUX1_OPS_OPS_H

#include "base/arena.h"
#include "tensor/tensor.h"
#include "weights/recipe.h"

#include <stdatomic.h>
#include <stdbool.h>

/* What an activation is for; the backend chooses dtype, order and padding from it. PARTIAL, TABLE, STATS and ROPE are
 * float32 on every backend. */
typedef enum act_role {
    ACT_RESIDUAL, /* the stream between blocks: float32, or wider than the arithmetic */
    ACT_LINEAR,   /* input of a linear layer */
    ACT_HEADS,    /* attention operand: columns are heads × head size */
    ACT_PARTIAL,  /* partial sum or partial attention result */
    ACT_PLANE,    /* image plane: rows are height × width row-major, columns are channels */
    ACT_TABLE,    /* rows = steps·batch (or heads, for an attention bias) */
    ACT_STATS,    /* group statistics (count, mean, M2), attention log-sum-exp */
    ACT_ROPE,     /* rows as the tensor it rotates; columns (cos, sin) pairs of one head: head_dim values */
    ACT_IDS,      /* int32 token ids, one column */
    ACT_ROLES
} act_role;

typedef enum act_part { PART_WHOLE = -1, PART_TEXT = 0, PART_IMAGE = 1 } act_part;

/* batch × (text rows, then image rows) × cols. A tensor of one part has it in rows[PART_IMAGE] or rows[PART_TEXT], and
 * the other is 0. Planes have height × width == rows[PART_IMAGE]; for all other tensors, and for a plane's rows
 * without their geometry, both are 0. Any count may be 0 (a rank that holds nothing). */
typedef struct act_shape {
    int64_t batch;
    int64_t rows[2];
    int64_t cols;
    int64_t height, width;
} act_shape;

/* Every backend's buffer begins with this. */
typedef struct act_buffer {
    act_shape shape;
    act_role role;
} act_buffer;

/* A window of rows and columns of a buffer's part. */
typedef struct act {
    act_buffer *buffer;
    act_part part;
    int64_t row, rows; /* window: from the part's first row on */
    int64_t col, cols;
} act;

static inline bool act_present(act a) { return a.buffer != NULL; }
static inline act act_of(act a, act_part part)
{
    const int64_t *r = a.buffer->shape.rows;
    a.part = part;
    a.row = 0;
    a.rows = part == PART_WHOLE ? r[0] + r[1] : r[part];
    return a;
}
static inline act act_whole(act_buffer *b) { return act_of((act){.buffer = b, .cols = b->shape.cols}, PART_WHOLE); }
static inline act act_columns(act a, int64_t col, int64_t cols)
{
    a.col += col;
    a.cols = cols;
    return a;
}
/* Rows [row, row + rows) of every batch entry. */
static inline act act_slice(act a, int64_t row, int64_t rows)
{
    a.row += row;
    a.rows = rows;
    return a;
}
static inline int64_t act_rows(act a) { return a.rows; }
static inline int64_t act_first_row(act a) { return a.row + (a.part == PART_IMAGE ? a.buffer->shape.rows[0] : 0); }
static inline int64_t act_batch(act a) { return a.buffer->shape.batch; }

static inline act_shape shape_rows(int64_t batch, int64_t text, int64_t image, int64_t cols)
{
    return (act_shape){.batch = batch, .rows = {text, image}, .cols = cols};
}
static inline act_shape shape_plane(int64_t batch, int64_t height, int64_t width, int64_t channels)
{
    return (act_shape){.batch = batch, .rows = {0, height * width}, .cols = channels, .height = height, .width = width};
}

typedef enum activation {
    ACTIVATION_NONE,
    ACTIVATION_GELU_TANH,
    ACTIVATION_QUICK_GELU,
    ACTIVATION_GELU,
    ACTIVATION_SILU
} activation;

typedef struct ops ops;
typedef struct weight weight; /* a prepared recipe, backend's */
typedef struct block block;   /* the weights held between block_begin and block_end */

/* A low-rank term of the context beside a weight: scale · x·downᵀ·upᵀ, down [rank, in], up [out, rank]. Both are
 * prepared weights whose blocks are held while the term is used. */
typedef struct adapter {
    const weight *down, *up;
    float scale;
} adapter;

/* What a linear layer takes: the weight, and what is added to its product before the epilogue. The list is the
 * context's. */
typedef struct linear_weight {
    weight *w;
    const adapter *adapters;
    int adapter_count;
} linear_weight;

/* y = f(x·Wᵀ + b + addend); y ⊙= mul; y ⊙= gate[step]; y += residual. Each part may be left out. residual may be the
 * output itself. */
typedef struct epilogue {
    act addend; /* PARTIAL, shape of the output */
    activation f;
    act mul;
    act gate; /* TABLE window: one row a step and batch entry */
    act residual;
} epilogue;

typedef struct attention_args {
    int64_t heads;
    float scale;
    bool causal; /* key row <= query row */
    bool int8;   /* may be multiplied in int8 (int8.h), as a weight whose recipe says so; not causal, no bias */
    act bias; /* TABLE, rows = heads, cols = 2·L−1: added to score(q, k) at column k − q + L − 1 (T5's relative bias);
                 left out otherwise */
} attention_args;

/* clang-format off */
/* Primitives: return type, name, arguments. `rows` below are the rows that an act names. Unless stated otherwise, in
 * and out have the same rows and batch, out may not overlap an input, and 0 rows or 0 columns are legal. "[step]" is a
 * row of a TABLE: row step·batch + b for entry b of the output's batch, where step is the step counter and batch the
 * output's (the table itself has batch 1). check.h checks calls against this contract.
 *
 * memory
 *   destroy        frees everything, including weights
 *   reserve        an empty arena of at least these bytes (the dry run counts them). 0: none, and of the host's memory
 *                  what is there for computing alone leaves until the next one
 *   create         a new activation; contents undefined. FLUX1_ERR_INTERNAL if the arena is too small
 *   mark, release  release frees everything created since the mark
 *   upload         host float32 (int32 for ACT_IDS) dense [batch, rows, cols] into a part, whole or window
 *   download       the reverse, always float32 (int32 for ACT_IDS); waits
 *   exchange       `bytes` of the arena that a communicator paired with this backend may read and write. In a dry run
 *                  these are addresses for arithmetic only: nothing may be read or written there
 * weights
 *   block_create   an empty block; `name` is copied, for messages
 *   block_destroy  frees the block and its weights. Nothing enqueued may still use them, and a recording that does may
 *                  not be replayed again. NULL is fine
 *   prepare        recipe and bias (may be NULL) into *out, which belongs to the block; the block is not begun.
 *                  WEIGHT_VECTOR: the bias recipe is the norm's beta
 *   block_begin    holds the block's weights until block_end; operations may use a weight only in between. Not nested
 *                  with itself
 *   rest           nothing will be enqueued for a while: what was prepared may be given up if memory is needed, and is
 *                  prepared again when its block is begun
 * order
 *   step_set       the step counter
 *   step_replay    at the start of a step, after step_set, or of one of its parts. *done: the calls of an earlier step,
 *                  recorded under this number, have all been enqueued again. Otherwise the caller makes them, on the
 *                  same acts and in the same order as in every step of that number, and then calls step_record. Parts
 *                  of one step have numbers that differ in number % OPS_STEP_PARTS alone
 *   step_record    the end of these calls
 *   branch         1 or 2: the calls that follow belong to that one of two branches, which begin behind what was
 *                  enqueued before the first of them and run beside each other: neither reads or writes what the other
 *                  writes, and what is created in a branch is released in it. 0: both end, and what follows comes
 *                  behind them. A backend may do everything in order
 *   step_end       the step is enqueued completely; what finite remembers up to here belongs to it. At most
 *                  OPS_STEPS_AHEAD steps may be ended and not waited for
 *   step_wait      waits until an ended step is done, not for what was enqueued after it. *slot: the lowest slot that
 *                  finite remembered in it, or −1
 *   step_unwind    after a call of a step failed: waits, closes open brackets, releases to the mark, drops the step's
 *                  recording and what finite remembers since the last step_end. The next step works
 *   sync           waits for everything enqueued
 * arithmetic (sums in float32 or better)
 *   product        out[rows, n] = epilogue(in[rows, k] · Wᵀ + b)
 *   layer_norm     (x − mean)/√(var + eps) [· w + b] [· (1 + scale[step]) + shift[step]]; w may be NULL
 *   rms_norm       x/√(mean x² + eps) · w
 *   head_norm_rope in place: per head RMS norm with w[head_dim] (NULL: left out), then rotation of pairs (2i, 2i+1) by
 *                  rope (left out: none), whose rows match x's and whose batch is 1: it serves every batch entry
 *   attention      softmax(q·kᵀ·scale + bias)·v per head and batch; q, k, v as heads × head_dim columns; k and v have
 *                  the same rows
 *   attention_part the same over this k and v only, with its log-sum-exp: out PARTIAL [q rows, heads·dim], lse STATS
 *                  [q rows, heads] (−inf and zeros for no keys)
 *   attention_merge out, lse ← the merge of (out, lse) and (other, other_lse): the result over both sets of keys
 *   conv           3×3 (padding 1) or 1×1 with stride 1; or 3×3 with stride 2 and one row and column of zeros, below
 *                  and right only. in, out PLANE. top and bottom are rows of the neighbours' image ([1 × width] planes)
 *                  in place of the zero padding; left out: zeros. residual (out's shape) is added; it may be out
 *   group_stats    stats[batch, groups, 3] = count, mean, M2 of each group of channels over the plane's rows
 *   group_apply    (x − mean)/√(var + eps)·w + b, then SiLU if `silu`. stats has sets·groups rows, set after set, which
 *                  are merged first (Chan et al. 1979). out may be in
 *   upsample       nearest ×2: out is 2·height × 2·width
 *   embed          out[row] = table[ids[row]] (+ positions[first + row], if not NULL)
 *   activate       out = f(in)⊙mul; mul may be left out; out may be in
 *   add            out = x + s·gate[step]⊙y; gate may be left out; y of one row is added to every row; out may be x, and
 *                  y may be x
 *   euler          x += dsigma[step]·v; dsigma TABLE [steps·batch, 1]
 *   cast           out = in, between roles
 *   copy_rows      out's rows = in's rows [first, first + out rows), batch by batch
 *   pack_bytes     bytes of `rows` rows of this act, all batches, as pack writes them (float32 for PARTIAL, TABLE and
 *                  STATS)
 *   pack, unpack   rows [first, first + rows) of the act to or from exchange memory, densely
 *   finite         remembers in slot, of OPS_SLOTS, whether the act holds a NaN or infinity
 *   finite_first   the lowest such slot since the last call, or −1; waits */
/* clang-format on */
#define BRANCH_OF(part) (1 + (part)) /* of a part that the model treats by itself */
#define OPS_SLOTS 4096
#define OPS_STEPS_AHEAD 2
#define OPS_STEP_PARTS 8

/* clang-format off */
#define OPS_PRIMITIVES(X) \
    X(void, destroy, (ops *o), (o)) \
    X(flux1_status, reserve, (ops *o, size_t arena_bytes), (o, arena_bytes)) \
    X(flux1_status, create, (ops *o, act_role role, act_shape shape, act *out), (o, role, shape, out)) \
    X(size_t, mark, (ops *o), (o)) \
    X(void, release, (ops *o, size_t mark), (o, mark)) \
    X(flux1_status, upload, (ops *o, const tensor *host, act out), (o, host, out)) \
    X(flux1_status, download, (ops *o, act in, tensor *host), (o, in, host)) \
    X(flux1_status, exchange, (ops *o, size_t bytes, void **out), (o, bytes, out)) \
    X(flux1_status, block_create, (ops *o, const char *name, block **out), (o, name, out)) \
    X(void, block_destroy, (ops *o, block *b), (o, b)) \
    X(flux1_status, prepare, (ops *o, block *b, const weight_recipe *w, const weight_recipe *bias, weight **out), \
      (o, b, w, bias, out)) \
    X(flux1_status, block_begin, (ops *o, block *b), (o, b)) \
    X(flux1_status, block_end, (ops *o, block *b), (o, b)) \
    X(void, rest, (ops *o), (o)) \
    X(flux1_status, step_set, (ops *o, int64_t step), (o, step)) \
    X(flux1_status, step_replay, (ops *o, uint64_t recording, bool *done), (o, recording, done)) \
    X(flux1_status, step_record, (ops *o), (o)) \
    X(flux1_status, branch, (ops *o, int which), (o, which)) \
    X(flux1_status, step_end, (ops *o, int64_t step), (o, step)) \
    X(flux1_status, step_wait, (ops *o, int64_t step, int *slot), (o, step, slot)) \
    X(void, step_unwind, (ops *o, size_t mark), (o, mark)) \
    X(flux1_status, sync, (ops *o), (o)) \
    X(flux1_status, product, (ops *o, act in, const weight *w, const epilogue *e, act out), (o, in, w, e, out)) \
    X(flux1_status, layer_norm, (ops *o, act in, const weight *w, act shift, act scale, float eps, act out), \
      (o, in, w, shift, scale, eps, out)) \
    X(flux1_status, rms_norm, (ops *o, act in, const weight *w, float eps, act out), (o, in, w, eps, out)) \
    X(flux1_status, head_norm_rope, (ops *o, act x, int64_t heads, const weight *w, float eps, act rope), \
      (o, x, heads, w, eps, rope)) \
    X(flux1_status, attention, (ops *o, act q, act k, act v, const attention_args *a, act out), \
      (o, q, k, v, a, out)) \
    X(flux1_status, attention_part, (ops *o, act q, act k, act v, const attention_args *a, act out, act lse), \
      (o, q, k, v, a, out, lse)) \
    X(flux1_status, attention_merge, (ops *o, int64_t heads, act out, act lse, act other, act other_lse), \
      (o, heads, out, lse, other, other_lse)) \
    X(flux1_status, conv, (ops *o, act in, act top, act bottom, const weight *w, int stride, act residual, act out), \
      (o, in, top, bottom, w, stride, residual, out)) \
    X(flux1_status, group_stats, (ops *o, act in, int64_t groups, act stats), (o, in, groups, stats)) \
    X(flux1_status, group_apply, (ops *o, act in, act stats, int64_t groups, const weight *w, float eps, bool silu, act out), \
      (o, in, stats, groups, w, eps, silu, out)) \
    X(flux1_status, upsample, (ops *o, act in, act out), (o, in, out)) \
    X(flux1_status, embed, (ops *o, act ids, const weight *table, const weight *positions, int64_t first, act out), \
      (o, ids, table, positions, first, out)) \
    X(flux1_status, activate, (ops *o, activation f, act in, act mul, act out), (o, f, in, mul, out)) \
    X(flux1_status, add, (ops *o, act x, float s, act gate, act y, act out), (o, x, s, gate, y, out)) \
    X(flux1_status, euler, (ops *o, act x, act v, act dsigma), (o, x, v, dsigma)) \
    X(flux1_status, cast, (ops *o, act in, act out), (o, in, out)) \
    X(flux1_status, copy_rows, (ops *o, act in, int64_t first, act out), (o, in, first, out)) \
    X(size_t, pack_bytes, (ops *o, act a, int64_t rows), (o, a, rows)) \
    X(flux1_status, pack, (ops *o, act in, int64_t first, int64_t rows, void *bytes), (o, in, first, rows, bytes)) \
    X(flux1_status, unpack, (ops *o, const void *bytes, act out, int64_t first, int64_t rows), \
      (o, bytes, out, first, rows)) \
    X(flux1_status, finite, (ops *o, act a, int slot), (o, a, slot)) \
    X(flux1_status, finite_first, (ops *o, int *slot), (o, slot))
/* clang-format on */

/* clang-format off */
/* Composites: each has a default made of primitives (composite.c); a backend may put its own fusion in the table.
 *   linear         product with the weight's adapters: each adds its term to the addend
 *   qkv_norm_rope  qkv[rows, 3·heads·dim] = in·Wᵀ + b, then head_norm_rope on the q and k windows
 *   mlp            out = e(f(in·Upᵀ)·Downᵀ); scratch for the hidden rows comes from the arena
 *   linear_norm    linear; then finite(out, slot), unless slot is −1; then layer_norm(out) into norm.out, which is no
 *                  operand of the layer's. Where readers are named, what is read of norm.out before it is written again
 *                  is all its columns and rows of a part or the whole, by products with them: a backend may keep it in
 *                  the form in which it multiplies. Parts of one buffer have the same kind of readers
 *   single_products the single block's two products of one input: qkv as above, and hidden = gelu_tanh(in·Wᵀ + b)
 *   group_norm     group_stats and group_apply, on one rank
 *   upsample_conv  upsample, then a 3×3 conv of stride 1. top and bottom: the neighbours' rows of in, which are
 *                  upsampled too
 *   norm_conv      group_apply of in, top and bottom, then a 3×3 conv of stride 1 with a residual. in: rows of a plane,
 *                  as many as out has; top, bottom: as many as out is wide, or left out */
/* clang-format on */
typedef struct qkv_weights {
    linear_weight qkv;
    const weight *norm_q, *norm_k;
    int64_t heads;
    float eps;
} qkv_weights;

/* What becomes of a linear layer's output: it is looked at, and normalised for the next layer. */
typedef struct norm_behind {
    int slot;        /* finite's; −1: it is not looked at */
    const weight *w; /* layer_norm's arguments */
    act shift, scale;
    float eps;
    act out;
    const linear_weight *readers[2]; /* the layers that read out, where they are all; NULL behind the last */
} norm_behind;

/* What a convolution's input passes first: group_apply's arguments. */
typedef struct norm_before {
    act stats;
    int64_t groups;
    const weight *w;
    float eps;
    bool silu;
} norm_before;

/* clang-format off */
#define OPS_COMPOSITES(X) \
    X(flux1_status, linear, (ops *o, act in, const linear_weight *w, const epilogue *e, act out), \
      (o, in, w, e, out)) \
    X(flux1_status, linear_norm, (ops *o, act in, const linear_weight *w, const epilogue *e, act out, const norm_behind *norm), \
      (o, in, w, e, out, norm)) \
    X(flux1_status, qkv_norm_rope, (ops *o, act in, const qkv_weights *w, act rope, act qkv), \
      (o, in, w, rope, qkv)) \
    X(flux1_status, mlp, (ops *o, act in, const linear_weight *up, activation f, const linear_weight *down, const epilogue *e, act out), \
      (o, in, up, f, down, e, out)) \
    X(flux1_status, single_products, (ops *o, act in, const qkv_weights *w, act rope, act qkv, const linear_weight *up, act hidden), \
      (o, in, w, rope, qkv, up, hidden)) \
    X(flux1_status, group_norm, (ops *o, act in, int64_t groups, const weight *w, float eps, bool silu, act out), \
      (o, in, groups, w, eps, silu, out)) \
    X(flux1_status, upsample_conv, (ops *o, act in, act top, act bottom, const weight *w, act out), \
      (o, in, top, bottom, w, out)) \
    X(flux1_status, norm_conv, (ops *o, act in, act top, act bottom, const norm_before *n, const weight *w, act residual, act out), \
      (o, in, top, bottom, n, w, residual, out))
/* clang-format on */

typedef struct ops_table {
    const char *name; /* "ref", "cpu", "dry" */
#define OPS_FIELD(ret, name, args, call) ret(*name) args;
    OPS_PRIMITIVES(OPS_FIELD)
    OPS_COMPOSITES(OPS_FIELD)
#undef OPS_FIELD
} ops_table;

#define OPS_DECLARE_COMPOSITE(ret, name, args, call) ret composite_##name args;
OPS_COMPOSITES(OPS_DECLARE_COMPOSITE)
#undef OPS_DECLARE_COMPOSITE

/* What the next call takes that is another in every run, for a backend that writes calls down (script.h): an upload the
 * rows from `first` on of an input, copy_rows a row. docs/recording.md has the names. */
typedef struct ops_given {
    const char *name; /* NULL: nothing */
    int64_t first;
} ops_given;

/* Products in int8, which int8.h defines: none; with scales as ggml's of Q8_0 have them; with
 * fewer scales, faster where int8 is fast. */
typedef enum int8_kind { INT8_NONE, INT8_FINE, INT8_ROTATED } int8_kind;

/* Every backend's state begins with this. */
struct ops {
    const ops_table *fn;
    flux1_error *err;             /* the rank's message; outlives the backend */
    const atomic_int *cancel;     /* non-zero: operations return FLUX1_ERR_CANCELLED; may be NULL */
    int64_t step;                 /* the counter, as step_set left it */
    const size_t *cell;           /* [ACT_ROLES]: bytes of a value, where events are told (work.h) */
    struct profile_rank *profile; /* profile.h: where calls are timed; NULL: nowhere */
    struct call_list *calls;      /* record.h: of a step; NULL: the backend records itself, or not at all */
    bool counts_only;             /* a dry run */
    int8_kind attends;            /* how attention that may be in int8 is multiplied (ops_sizing.attends) */
    ops_given given;
};

/* check.h: whether the contract allows the call. For entries that return a status. */
#define OPS_DECLARE_CHECK_void(name, args)
#define OPS_DECLARE_CHECK_size_t(name, args)
#define OPS_DECLARE_CHECK_flux1_status(name, args) flux1_status check_##name args;
#define OPS_DECLARE_CHECK(ret, name, args, call) OPS_DECLARE_CHECK_##ret(name, args)
OPS_PRIMITIVES(OPS_DECLARE_CHECK)
OPS_COMPOSITES(OPS_DECLARE_CHECK)
#undef OPS_DECLARE_CHECK

#ifndef FLUX1_CHECK_CALLS
#define FLUX1_CHECK_CALLS 0 /* 1: every call is checked, not only the dry run's */
#endif
#define OPS_CHECK_void(name, call)
#define OPS_CHECK_size_t(name, call)
#if FLUX1_CHECK_CALLS
#define OPS_CHECK_flux1_status(name, call) TRY(check_##name call);
#else
#define OPS_CHECK_flux1_status(name, call)
#endif

/* What model code calls: ops_linear(o, …) and so on. */
#define OPS_WRAPPER(ret, name, args, call) \
    static inline ret ops_##name args { OPS_CHECK_##ret(name, call) return o->fn->name call; }
OPS_PRIMITIVES(OPS_WRAPPER)
OPS_COMPOSITES(OPS_WRAPPER)
#undef OPS_WRAPPER

/* upload of rows of the input `name`, and copy_rows from a row of that name. */
static inline flux1_status ops_upload_input(ops *o, const char *name, int64_t first, const tensor *host, act out)
{
    o->given = (ops_given){name, first};
    return ops_upload(o, host, out);
}

static inline flux1_status ops_copy_given(ops *o, const char *name, act in, int64_t first, act out)
{
    o->given = (ops_given){name, first};
    return ops_copy_rows(o, in, first, out);
}

/* Every backend's weights and blocks begin with these. */
struct weight {
    weight_role role;
    int64_t rows, cols;
    int kernel; /* convolutions: 1 or 3 */
    bool has_bias;
    int8_kind int8;    /* its products are in int8 */
    size_t file_bytes; /* of the file's tensors behind it, bias included */
    block *owner;
};

struct block {
    char *name;
    bool held;
    bool idle;  /* its model has no part in this stage: a backend does not make it ready beside others */
    bool filed; /* with forms_in_files: its form may lie in a file, since its weights come from files */
};

/* A dry run: values given to upload are not read, so they need not be computed. */
static inline bool ops_counts_only(const ops *o) { return o->counts_only; }

/* Products with coarse weights in e4m3. Each row of both operands (ROWS), or each operand as a whole (WHOLE), is
 * divided by its largest magnitude / 448 and rounded to nearest even; the product is then multiplied by the scales.
 * Sums are float32, or as the hardware adds e4m3. A GPU that cannot scale rows treats FP8_ROWS as FP8_WHOLE. */
typedef enum ops_fp8 { FP8_NO, FP8_ROWS, FP8_WHOLE } ops_fp8;

/* What the dry run reports for each call, in order: the plan. ops_count is the sum of these events. A collective's
 * event comes from the mesh's dry communicator. Names live as long as the backend. */
typedef enum ops_event_kind {
    EVENT_COMPUTE,
    EVENT_COLLECTIVE,
    EVENT_WEIGHTS,
    EVENT_MEMORY,
    EVENT_ORDER
} ops_event_kind;

typedef struct ops_event {
    ops_event_kind kind;
    const char *operation;  /* the entry's name, or all_gather, reduce_scatter, shift_begin, shift_end */
    const char *block;      /* of the weights it uses, or the block begun; NULL: none */
    int64_t batch, m, n, k; /* product and conv: rows of one batch entry, outputs, inputs; attention: queries, keys,
                               head size; others: rows, columns */
    int64_t heads;
    int8_kind int8; /* product, attention: in int8, and how */
    double flops;   /* 2 per multiply-add; products, attention and convolutions only */
    /* activations read and written, file bytes of weights read. prepare: bytes_weights of the file, bytes_out on the
     * device. block_begin: bytes_weights of those that stay in the file, bytes_out of the others' forms, and which
     * weights they are: equal on ranks that have the same */
    size_t bytes_in, bytes_out, bytes_weights;
    uint64_t which_weights;
    size_t bytes_moved; /* collectives: sent by this rank */
    int ranks;          /* collectives: of the communicator */
    const char *axis;   /* collectives: what it joins: "sp", "tp" or "all" */
    bool overlaps;      /* shift_begin: it may overlap with everything up to its shift_end */
    size_t arena;       /* bytes in use when it runs, scratch included */
} ops_event;

/* How a device with memory of its own holds weights that a file has packed (GGUF's types, fp8, 8 and 4 bits): decoded,
 * which costs time once, when they come; packed, which costs memory's time in front of every product; or decoded where
 * a model's weights fit beside what there is, otherwise packed. */
typedef enum ops_held { HELD_AUTO, HELD_PACKED, HELD_DECODED } ops_held;

typedef void ops_event_sink(void *user, const ops_event *e);

typedef struct ops_config {
    dtype arithmetic; /* DTYPE_F32 or DTYPE_BF16: what activations are stored and multiplied in */
    ops_fp8 fp8;
    int8_kind int8;  /* of products with weights whose recipe says that they may be */
    bool int8_quads; /* ops/ref: INT8_ROTATED's inputs are in quads (int8.h); others do what their instructions want */
    bool bfp8;       /* models round their matrices (weights/rounded.h); backends do nothing of it */
    ops_held held;
    bool forms_in_files; /* own forms of blocks that are `filed` are lent (kept_adopt) as pages of files: read and given
                            back as the weights' own files are, instead of held. One that was not lent is of the same
                            budget */
    int threads;
    flux1_error *err;
    const atomic_int *cancel;
    struct ops_device *device; /* device.h; outlives the backend */
    bool eager;                /* steps are not recorded */
    bool branches;             /* where they are recorded, their branches run side by side */
    ops_event_sink *event;     /* the dry backend's; may be NULL */
    void *event_user;
} ops_config;

/* How much memory a backend takes, for the dry run. */
typedef enum ops_work {
    WORK_LINEAR,
    WORK_INT8, /* linear, in int8 */
    WORK_ATTENTION,
    WORK_INT8_ATTENTION, /* the same, in int8 */
    WORK_CONV,
    WORK_CONV_HALF /* with stride 2 */
} ops_work;
typedef struct ops_sizing {
    size_t (*act_bytes)(const ops_config *c, act_role role, const act_shape *shape);
    /* bytes of one cell of this role, in memory and as packed. NULL: as layout.h has it, bf16 or float32 by role */
    size_t (*cell_bytes)(const ops_config *c, act_role role);
    /* arena scratch while the operation runs. LINEAR, INT8: m rows of `heads` batch entries, n, k. ATTENTION: m queries
     * of all batches, n keys, k head size (of `heads`). CONV: m pixels out, n channels out, k channels in·kernel²;
     * `heads`: the input's width, 0 for 1×1 */
    size_t (*scratch)(const ops_config *c, ops_work work, int64_t m, int64_t n, int64_t k, int64_t heads);
    /* how attention whose arguments allow int8 is multiplied. NULL: in floats */
    int8_kind (*attends)(const ops_config *c);
    size_t spare; /* bytes of a device's own memory left to its libraries when weights stay on it */
    /* upsample_conv and norm_conv never make the plane between; CONV's m: pixels before upsampling */
    bool folds_planes;
    /* it makes nothing for a number of rows (no plan, no graph), so that a number which has not been there before costs
     * nothing: rows that nobody reads are left out even if each prompt has another number of them */
    bool any_rows;
    bool branches;  /* it can run two of them at once: what both take is taken then */
    bool call_list; /* its steps are recorded in the arena (record.h) */
    /* Pictures of fewer rows (prompt and image tokens) than alone_rows are faster when they share products: as many as
     * have together_rows, which are no less, and at most together_most (0: any number). docs/performance.md */
    int64_t alone_rows, together_rows, together_most;
    size_t unit; /* what exchange memory is rounded up to, at least one; 0: the arena's own alignment */
    /* memory that a prepared weight takes beside the file, at most; 0 for one whose bytes stay in the mapped file. bias
     * may be NULL. NULL: nothing is held */
    size_t (*weight_bytes)(const ops_config *c, const weight_recipe *w, const weight_recipe *bias);
    /* what a backend takes for itself from the start, beside its arena: of the host's memory. NULL: next to nothing */
    size_t (*own_bytes)(const ops_config *c);
} ops_sizing;

extern const ops_sizing ops_ref_sizing, ops_cpu_sizing;

flux1_status ops_ref_create(const ops_config *c, ops **out);
flux1_status ops_cpu_create(const ops_config *c, ops **out);
const char *ops_cpu_isa(void);      /* what the dispatch chose, such as "avx2" (cpu/isa.c has them) */
bool ops_cpu_int8_quads(void);      /* its rotated inputs are in quads (int8.h) */
bool ops_cpu_multiplies_bf16(void); /* the hardware has bf16 multiply-add */

/* What the dry backend counted since its creation: the sum of its events. */
typedef struct ops_count {
    size_t arena_peak;   /* bytes, scratch included */
    size_t own_bytes;    /* ops_sizing.own_bytes */
    size_t weight_bytes; /* bytes of files behind prepared weights */
    size_t held_bytes;   /* of those weights in the backend's own form: ops_sizing.weight_bytes. None with
                            forms_in_files: then forms count as file bytes of the block */
    size_t form_bytes;   /* of them, a block's at most */
    size_t packed_bytes; /* held_bytes with HELD_PACKED: no more than that */
    double flops;        /* 2 per multiply-add, linear + attention + conv */
    double linear_flops, attention_flops, conv_flops;
    size_t block_bytes;  /* file bytes of a block, of what is held beside it, and of the block begun next, at most: that
                            one is read while the others are used. Or of one weight and its bias while a form is made,
                            with forms_in_files beside the form of its block */
    size_t mapped_bytes; /* of all weights that block_bytes counts some blocks of */
    size_t step_bytes;   /* of them, those whose blocks are begun in a step */
    size_t exchanged;    /* bytes sent by this rank */
    int64_t operations;  /* that compute */
} ops_count;

/* A backend that computes nothing and counts, with the memory that a backend of `sizing` would take. */
flux1_status ops_dry_create(const ops_config *c, const ops_sizing *sizing, ops **out);
ops_count *ops_dry_count(ops *o); /* NULL if o is not a dry backend */
/* What the mesh's dry communicators have to tell: counted and handed on as the others are; `arena` is filled in. */
void ops_dry_tell(ops *o, ops_event e);

#endif
