/* The mesh: its shape, the ranks that run on it, and the parallel forms of operations that model code calls in place of
 * the plain ones.
 *
 * SPMD: every rank runs the same model code. 1×1 is a mesh too, on which each form is the plain operation. Model code
 * never calls a communicator.
 *
 * How tensors are cut (shares are ceil-sized, so only the last ranks hold less, or nothing; nothing is padded):
 *
 *   tensor                             over sp              over tp
 *   prompt rows and image rows of      rows, each part      that range's rows again
 *     the residual; latent             by itself
 *   prompt, image inside a block       as above             all rows, after mesh_enter; columns (heads, features) are
 *                                                           the rank's own
 *   q, k, v, attention output          as above             heads
 *   column-parallel weights            replicated           output rows, by unit (a head, a feature)
 *   row-parallel weights               replicated           input columns, by the same unit; bias on tp rank 0
 *   modulation tables                  computed by rows of their weights over all ranks, then gathered whole
 *   CLIP and T5                        as the transformer with tp = all ranks (mesh_flat)
 *   VAE planes                         rows, over all ranks (sp × tp) together, in units of one latent row
 *
 * Between blocks the residual is cut by tokens: each rank has whole rows, so norms exchange no statistics. A block
 * begins with a gather and ends with a reduce_scatter. */
#ifndef FLUX1_MESH_MESH_H
#define FLUX1_MESH_MESH_H

#include "mesh/comm.h"
#include "ops/device.h"

#define MESH_RANKS_MAX 1024

typedef struct mesh_config {
    int shape[2];
    int sp, sp_axis;
    int tp, tp_axis;
} mesh_config;

/* "2x4", "2@0", "4@1"; NULL or "" for the defaults (1x1; sp takes axis 0, tp axis 1). A factor is the size of its axis,
 * or 1 (then that axis is not used: its other devices stay idle). The mesh may name the axes: "2x4sp1tp0" is
 * "2x4", "4@1", "2@0"; sp and tp may then be given too if they say the same. FLUX1_ERR_ARGUMENT says which part is
 * wrong. */
flux1_status mesh_parse(const char *shape, const char *sp, const char *tp, mesh_config *out, flux1_error *err);

static inline int mesh_ranks(const mesh_config *c) { return c->sp * c->tp; }

/* How ranks exchange tensors (exchange.h). */
typedef struct exchange_table exchange_table;

/* One rank's view. */
typedef struct mesh {
    int sp, sp_rank, tp, tp_rank;
    int ranks, rank; /* all together: rank = sp_rank · tp + tp_rank */
    comm *sp_comm, *tp_comm, *all;
    const exchange_table *exchange; /* by these communicators, at first */
    ops *o;
    flux1_error *err;
    bool bfp8;                                       /* of the ops_config: the loader's */
    flux1_status (*tick)(void *arg, struct mesh *m); /* of the step that is made (mesh_step) */
    void *tick_arg;
    bool ticked;
    uint64_t recording; /* of that step */
} mesh;

/* Sets all members except the communicators, the backend and err. */
void mesh_set_rank(mesh *m, const mesh_config *c, int rank);

/* The same ranks as a mesh whose tp is all of them: for what sp would not cut (the encoders, modulation). */
mesh mesh_flat(const mesh *m);

/* What the ranks compute on. */
typedef struct mesh_device {
    const ops_device_kind *kind; /* enough for a dry run */
    ops_device *device;          /* shared by all ranks; NULL if only dry runs are made */
    ops_device **own;            /* [ranks]: one each, linked if the kind has links; NULL: they share `device` */
    ops_config config;           /* threads: of all ranks of this process together */
    bool alike;                  /* of plans: ranks that do the same are run dry once, and have no weights in common */
    int together;                /* of plans for other machines: ranks of one process, one behind the other; 0: all */
    struct processes *processes; /* over which the ranks are spread; NULL: all are in this process. Then `own` has this
                                  * process's ranks only, and the processes call mesh_open, mesh_run … alike */
} mesh_device;

/* What a rank runs. All ranks must make the same sequence of collective calls. */
typedef flux1_status mesh_body(void *arg, mesh *m);

/* Runs body on the dry backend as rank `rank` would run it; *count: the sum of its events. */
flux1_status mesh_dry_run(const mesh_config *c, const mesh_device *d, int rank, mesh_body *body, void *arg,
                          ops_count *count, flux1_error *err);

/* A session: ranks that stay, each with a backend and, except for rank 0, a thread, joined by communicators. What a
 * body leaves on a backend (weights, activations) is there for the next one. The devices outlive the session.
 * FLUX1_ERR_UNSUPPORTED: nothing runs bodies on this kind of device (runner.h). */
typedef struct mesh_session mesh_session;
flux1_status mesh_open(const mesh_config *c, const mesh_device *d, mesh_session **out, flux1_error *err);
void mesh_close(mesh_session *s); /* NULL is fine */

/* Gives each rank of this process an empty arena of at least arena_bytes[rank of the mesh]. Activations that were left
 * there are lost, weights stay. An arena that is large enough is kept. After a failure some ranks may have none:
 * reserve again. Other processes do not learn of a failure (processes_abort tells them). */
flux1_status mesh_reserve(mesh_session *s, const size_t *arena_bytes, flux1_error *err);

/* Bytes of mapped weights that each rank's backend may leave in memory, by rank of the mesh, from the next body on
 * (weights_budget in ops/device.h). */
void mesh_weights_budget(mesh_session *s, const size_t *bytes);

/* Runs body on all ranks, rank 0 on the caller's thread. A rank that fails or is cancelled aborts the others. When all
 * have returned, in all processes, err has the message of the rank that failed first, and each rank's arena, brackets
 * and recording are as they were before the body: a failed body leaves nothing but weights, and the next body runs. */
flux1_status mesh_run(mesh_session *s, mesh_body *body, void *arg, flux1_error *err);

/* Bodies that run from now on are timed (ops/profile.h), until NULL is given; p has room for this process's ranks. */
struct profile;
void mesh_profile(mesh_session *s, struct profile *p);

/* ---- steps ---- */

/* What a step is: `calls` enqueues it. Where it calls mesh_tick, `tick` is called; also when the step is replayed by a
 * backend that makes each call as it comes. Both get arg, which may be another one in each step. */
typedef struct mesh_step_calls {
    mesh_body *calls, *tick;
    void *arg;
    bool in_parts; /* `calls` is made in every step; what of it is the same each time it calls by mesh_part */
} mesh_step_calls;

/* One step of a loop, by its calls, or replayed if a step of this number was recorded before. `recording` is a number
 * that stands for these calls on these activations. Up to OPS_STEPS_AHEAD steps may be enqueued before the first is
 * waited for. *silent: it was replayed as a whole, without ticks. */
flux1_status mesh_step(mesh *m, int64_t step, uint64_t recording, const mesh_step_calls *s, bool *silent);
flux1_status mesh_tick(void *unused, mesh *m); /* within a step's calls */

/* Within the calls of a step in parts: part number `part` (below OPS_STEP_PARTS), by its calls, or replayed as a step
 * is. Parts may come in another order in each step, or not at all. */
flux1_status mesh_part(mesh *m, int part, mesh_body *calls, void *arg, bool *silent);

/* Waits until the step is done on all ranks. *slot: the lowest slot that ops_finite remembered in it on any rank, or
 * −1. */
flux1_status mesh_step_wait(mesh *m, int64_t step, int *slot);

/* ---- cuts ---- */

typedef struct cut {
    int64_t begin, count;
} cut;

/* The ranks that are in one process with this one, itself included: what lies in files they map together. */
cut mesh_together(const mesh_config *c, const mesh_device *d, int rank);

/* Rank's share of n things: ceil(n / size) each, the last ranks fewer. */
cut cut_of(int64_t n, int size, int rank);

/* This rank's share of heads, or of features (the hidden units of an MLP), over tp. */
static inline cut mesh_heads(const mesh *m, int64_t heads) { return cut_of(heads, m->tp, m->tp_rank); }
static inline cut mesh_features(const mesh *m, int64_t features) { return cut_of(features, m->tp, m->tp_rank); }

/* A bias is added once in what all tp ranks sum: on this rank. */
static inline bool mesh_adds_bias(const mesh *m) { return m->tp_rank == 0; }

/* The rank that talks to the caller. */
static inline bool mesh_leads(const mesh *m) { return m->rank == 0; }

/* Rows of a part of `total` rows: this sp rank's span, and within it the rows this rank keeps of the residual. `begin`
 * counts from the part's first row in the whole picture. */
cut mesh_span(const mesh *m, int64_t total);
cut mesh_rows(const mesh *m, int64_t total);

/* A rank's slice of a weight, by units of `unit` rows (column-parallel) or columns (row-parallel). */
weight_recipe mesh_column_slice(const mesh *m, const weight_recipe *r, int64_t unit);
weight_recipe mesh_row_slice(const mesh *m, const weight_recipe *r, int64_t unit);

/* ---- forms for token streams ----
 * Enter, leave, mlp and gather make one exchange at most, whether x has rows of one part or of both. The forms called
 * joint take what the two parts have each of their own in arrays by act_part; x, in and full have both parts. */

typedef enum norm_kind { NORM_NONE, NORM_LAYER, NORM_RMS } norm_kind;
typedef struct norm {
    norm_kind kind;
    const weight *w;
    act shift, scale; /* TABLE windows */
    float eps;
} norm;

/* Start of a block: full = gather over tp of norm(x). x: this rank's residual rows (a part or the whole); full: LINEAR,
 * all rows of the span. */
flux1_status mesh_enter(mesh *m, const norm *n, act x, act full);
flux1_status mesh_joint_enter(mesh *m, const norm n[2], act x, act full);

/* What comes between blocks: ops_finite(x, slot), and the enter of the next one. A leave takes it along, so that a
 * device can make one pass of both. */
typedef struct mesh_next {
    int slot;                           /* −1: x is not looked at */
    norm n[2];                          /* NORM_LAYER; by act_part, both alike where a leave takes the parts together */
    act full;                           /* as enter's; nothing that the leave reads */
    const linear_weight *readers[2][2]; /* by act_part: norm_behind's; alike for both parts, or NULL */
    bool mine; /* nothing is gathered: this rank's rows only, from the first row of each part of full on */
} mesh_next;

flux1_status mesh_enter_next(mesh *m, act x, const mesh_next *next);

/* End of a block: x += gate[step] ⊙ Σ over tp of in·Wᵀ + b. in: LINEAR, all rows of the span, this rank's columns; x:
 * this rank's residual rows. gate may be left out. next: NULL for none. */
flux1_status mesh_leave(mesh *m, act in, const linear_weight *w, act gate, act x, const mesh_next *next);
flux1_status mesh_joint_leave(mesh *m, act in, const linear_weight *const w[2], const act gate[2], act x,
                              const mesh_next *next);

/* x += gate[step] ⊙ down(f(up(in))), up column-parallel, down row-parallel; rows and next as in mesh_leave. */
flux1_status mesh_mlp(mesh *m, act in, const linear_weight *up, activation f, const linear_weight *down, act gate,
                      act x);
flux1_status mesh_joint_mlp(mesh *m, act in, const linear_weight *const up[2], activation f,
                            const linear_weight *const down[2], const act gate[2], act x, const mesh_next *next);

/* full = gather over tp of x's rows. */
flux1_status mesh_gather(mesh *m, act x, act full);

/* table = gather over tp, by columns, of in·Wᵀ + b; W column-parallel with units of 1; table [rows, all outputs]. */
flux1_status mesh_table(mesh *m, act in, const linear_weight *w, act table);

/* Attention where every sp rank holds its own span of the prompt's and of the image's q, k and v: softmax over the keys
 * of all ranks. The next rank's k and v are received while these are used; partial results merge by log-sum-exp.
 * `rows`: of each part, of the whole picture. (Liu et al., arXiv:2310.01889.) out: LINEAR, rows as q. No bias, not
 * causal when sp > 1. */
flux1_status mesh_attention(mesh *m, act q, act k, act v, const attention_args *a, const int64_t rows[2], act out);

/* A single block's products (as ops_single_products) and its attention (as mesh_attention). The second product is
 * computed while the first keys and values travel. hidden and out may be one part: then only its rows get the second
 * product and ask for attention, to the keys and values of both. */
flux1_status mesh_single_attention(mesh *m, act in, const qkv_weights *w, act rope, act qkv, const linear_weight *up,
                                   act hidden, const attention_args *a, const int64_t rows[2], act out);

/* Image rows of every rank into a host tensor [batch, total rows, cols] on all ranks that pass one (others NULL). */
flux1_status mesh_collect(mesh *m, act x, int64_t total, tensor *host);

/* all[rank · count + i] = the rank's mine[i], the same on all ranks. Waits. No memory in a dry run. */
flux1_status mesh_share(mesh *m, const float *mine, int64_t count, float *all);

/* The lowest of all ranks' values, on all of them: values from 0 to 2^24, or −1 for none. Waits. */
flux1_status mesh_lowest(mesh *m, int *value);

/* ---- forms for image planes: rows over all ranks ---- */

typedef struct plane_cut {
    int64_t total; /* latent rows of the picture */
    cut mine;
} plane_cut;

plane_cut mesh_plane_cut(const mesh *m, int64_t latent_rows);

/* conv of the whole picture: neighbours' rows at the seams, zeros at the borders. */
flux1_status mesh_conv(mesh *m, const plane_cut *p, act in, const weight *w, int stride, act residual, act out);
/* upsample_conv in the same way. */
flux1_status mesh_upsample_conv(mesh *m, const plane_cut *p, act in, const weight *w, act out);
/* norm_conv of the whole picture, with statistics that are made here (n's are not read). */
flux1_status mesh_norm_conv(mesh *m, const plane_cut *p, act in, const norm_before *n, const weight *w, act residual,
                            act out);
flux1_status mesh_group_norm(mesh *m, act in, int64_t groups, const weight *w, float eps, bool silu, act out);
/* For planes in bands. mine: STATS, as many rows on each rank; *all: of every rank, one behind the other. first, last:
 * planes that begin and end with this rank's outermost rows, or are of none (last left out: no top is wanted); *top,
 * *bottom: what the neighbours have beside them, left out at the picture's borders. */
flux1_status mesh_plane_stats(mesh *m, act mine, act *all);
flux1_status mesh_plane_halo(mesh *m, const plane_cut *p, act first, act last, act *top, act *bottom);
/* q, k, v: HEADS of one head over this rank's pixels of a plane of latent size, `width` wide; attention over all ranks'
 * pixels. */
flux1_status mesh_plane_attention(mesh *m, const plane_cut *p, int64_t width, act q, act k, act v,
                                  const attention_args *a, act out);
/* All ranks' pixels (height·width == total_rows) into host [batch, total_rows, channels] on all ranks that pass one
 * (others NULL). */
flux1_status mesh_plane_collect(mesh *m, const plane_cut *p, act x, int64_t total_rows, tensor *host);

#endif
