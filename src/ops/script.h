/* Scripts: the calls of a stage written down as data, in order, with the calls of all ranks in one list. A recording
 * (docs/recording.md) is made of them. (ops/record.h is another thing: a step's calls kept by a backend to be made
 * again.)
 *
 * `ops_script_create` gives a backend that computes nothing and writes a rank's calls down; script_fold makes one
 * script of all ranks', script_text.h is its text, and mesh/script_play.h makes the calls again.
 *
 * A line is an entry of SCRIPT_CALLS and its cells, numbers in the order of the entry's fields. Activations, weights,
 * blocks and marks are numbers that the line of their creation gives. */
#ifndef FLUX1_OPS_SCRIPT_H
#define FLUX1_OPS_SCRIPT_H

#include "ops/ops.h"

/* What a field is, and how many cells it has. */
typedef enum script_kind {
    KIND_NEW,    /* an activation that the line creates: its number */
    KIND_ACT,    /* SCRIPT_ACT_CELLS: an activation, part, rows, columns */
    KIND_OPT,    /* the same; −1: left out */
    KIND_WEIGHT, /* its number */
    KIND_OPTW,   /* the same; −1: none */
    KIND_BLOCK,
    KIND_MARK,
    KIND_INT,
    KIND_ZERO, /* an integer that is left out of the text if it is 0 */
    KIND_REAL, /* bits of a float */
    KIND_ROLE,
    KIND_WROLE,
    KIND_F, /* activation function; NONE is left out */
    KIND_AXIS,
    KIND_TEXT /* offset of its characters; −1: left out */
} script_kind;

/* Of a KIND_ACT or KIND_OPT. */
typedef enum script_act_cell {
    CELL_ACT,  /* number, or −1 */
    CELL_PART, /* act_part */
    CELL_ROW,
    CELL_ROWS,
    CELL_COL,
    CELL_COLS, /* windows; ROWS or COLS −1: all there are */
    SCRIPT_ACT_CELLS
} script_act_cell;

/* SCRIPT_IDS: activations, weights, blocks and marks have numbers below it. Each rank that makes the calls keeps tables
 * as long as the largest, so it bounds what a line of a file can ask for. */
enum { SCRIPT_FIELDS = 16, SCRIPT_IDS = 1 << 15 };

typedef struct script_field {
    const char *key;
    script_kind kind;
} script_field;

/* clang-format off */
/* Entry, name, whether all ranks make it together, fields. Compute entries are those of ops.h of the same name (linear:
 * without adapters), exchanges those of mesh/exchange.h. */
#define EPILOGUE {"addend", KIND_OPT}, {"f", KIND_F}, {"mul", KIND_OPT}, {"gate", KIND_OPT}, {"residual", KIND_OPT}
#define ATTENTION {"heads", KIND_INT}, {"scale", KIND_REAL}, {"causal", KIND_ZERO}, {"bias", KIND_OPT}, {"int8", KIND_ZERO}
#define SCRIPT_CALLS(X) \
    X(BLOCK, "block", false, {"block", KIND_BLOCK}, {"name", KIND_TEXT}) \
    X(WEIGHT, "weight", false, {"w", KIND_WEIGHT}, {"block", KIND_BLOCK}, {"role", KIND_WROLE}, {"rows", KIND_INT}, \
      {"cols", KIND_INT}, {"kernel", KIND_ZERO}, {"heads", KIND_ZERO}, {"coarse", KIND_ZERO}, {"int8", KIND_ZERO}) \
    X(BIAS, "bias", false, {"w", KIND_WEIGHT}, {"rows", KIND_INT}) \
    X(PIECE, "piece", false, {"w", KIND_WEIGHT}, {"of_bias", KIND_ZERO}, {"tensor", KIND_TEXT}, \
      {"tensor_rows", KIND_INT}, {"tensor_cols", KIND_INT}, {"from_row", KIND_ZERO}, {"from_col", KIND_ZERO}, \
      {"rows", KIND_INT}, {"cols", KIND_INT}, {"row", KIND_ZERO}, {"col", KIND_ZERO}) \
    X(PREPARE, "prepare", false, {"w", KIND_WEIGHT}) \
    X(BEGIN, "begin", false, {"block", KIND_BLOCK}) \
    X(END, "end", false, {"block", KIND_BLOCK}) \
    X(CREATE, "create", false, {"act", KIND_NEW}, {"role", KIND_ROLE}, {"batch", KIND_INT}, {"text", KIND_ZERO}, \
      {"image", KIND_ZERO}, {"cols", KIND_INT}, {"height", KIND_ZERO}, {"width", KIND_ZERO}) \
    X(MARK, "mark", false, {"mark", KIND_MARK}) \
    X(RELEASE, "release", false, {"mark", KIND_MARK}) \
    X(INPUT, "input", false, {"name", KIND_TEXT}, {"first", KIND_ZERO}, {"out", KIND_ACT}) \
    X(OUTPUT, "output", false, {"in", KIND_ACT}) \
    X(FINITE, "finite", false, {"in", KIND_ACT}, {"slot", KIND_INT}) \
    X(CHECK, "check", true, {NULL, KIND_INT}) \
    X(GATHER_ROWS, "gather_rows", true, {"axis", KIND_AXIS}, {"in", KIND_ACT}, {"unit", KIND_INT}, {"out", KIND_ACT}) \
    X(GATHER_COLUMNS, "gather_columns", true, {"axis", KIND_AXIS}, {"in", KIND_ACT}, {"out", KIND_ACT}) \
    X(REDUCE_ROWS, "reduce_rows", true, {"axis", KIND_AXIS}, {"in", KIND_ACT}, {"out", KIND_ACT}) \
    X(RING_BEGIN, "ring_begin", true, {"axis", KIND_AXIS}, {"text", KIND_ZERO}, {"image", KIND_ZERO}, \
      {"unit", KIND_INT}, {"k", KIND_ACT}, {"v", KIND_ACT}) \
    X(RING_RECEIVE, "ring_receive", true, {"k", KIND_ACT}, {"v", KIND_ACT}) \
    X(HALO_ROW, "halo_row", true, {"in", KIND_ACT}, {"row", KIND_ZERO}, {"distance", KIND_INT}, {"wanted", KIND_INT}, \
      {"out", KIND_ACT}) \
    X(LINEAR, "linear", false, {"in", KIND_ACT}, {"w", KIND_WEIGHT}, EPILOGUE, {"out", KIND_ACT}) \
    X(LINEAR_NORM, "linear_norm", false, {"in", KIND_ACT}, {"w", KIND_WEIGHT}, EPILOGUE, {"out", KIND_ACT}, \
      {"slot", KIND_INT}, {"norm_w", KIND_OPTW}, {"shift", KIND_OPT}, {"scale", KIND_OPT}, {"eps", KIND_REAL}, \
      {"normed", KIND_ACT}) \
    X(QKV_NORM_ROPE, "qkv_norm_rope", false, {"in", KIND_ACT}, {"w", KIND_WEIGHT}, {"norm_q", KIND_OPTW}, \
      {"norm_k", KIND_OPTW}, {"heads", KIND_INT}, {"eps", KIND_REAL}, {"rope", KIND_OPT}, {"out", KIND_ACT}) \
    X(MLP, "mlp", false, {"in", KIND_ACT}, {"up", KIND_WEIGHT}, {"f_up", KIND_F}, {"down", KIND_WEIGHT}, EPILOGUE, \
      {"out", KIND_ACT}) \
    X(SINGLE_PRODUCTS, "single_products", false, {"in", KIND_ACT}, {"w", KIND_WEIGHT}, {"norm_q", KIND_OPTW}, \
      {"norm_k", KIND_OPTW}, {"heads", KIND_INT}, {"eps", KIND_REAL}, {"rope", KIND_OPT}, {"out", KIND_ACT}, \
      {"up", KIND_WEIGHT}, {"hidden", KIND_ACT}) \
    X(LAYER_NORM, "layer_norm", false, {"in", KIND_ACT}, {"w", KIND_OPTW}, {"shift", KIND_OPT}, {"scale", KIND_OPT}, \
      {"eps", KIND_REAL}, {"out", KIND_ACT}) \
    X(RMS_NORM, "rms_norm", false, {"in", KIND_ACT}, {"w", KIND_WEIGHT}, {"eps", KIND_REAL}, {"out", KIND_ACT}) \
    X(HEAD_NORM_ROPE, "head_norm_rope", false, {"x", KIND_ACT}, {"heads", KIND_INT}, {"w", KIND_OPTW}, \
      {"eps", KIND_REAL}, {"rope", KIND_OPT}) \
    X(ATTENTION, "attention", false, {"q", KIND_ACT}, {"k", KIND_ACT}, {"v", KIND_ACT}, ATTENTION, {"out", KIND_ACT}) \
    X(ATTENTION_PART, "attention_part", false, {"q", KIND_ACT}, {"k", KIND_ACT}, {"v", KIND_ACT}, ATTENTION, \
      {"out", KIND_ACT}, {"lse", KIND_ACT}) \
    X(ATTENTION_MERGE, "attention_merge", false, {"heads", KIND_INT}, {"out", KIND_ACT}, {"lse", KIND_ACT}, \
      {"other", KIND_ACT}, {"other_lse", KIND_ACT}) \
    X(CONV, "conv", false, {"in", KIND_ACT}, {"top", KIND_OPT}, {"bottom", KIND_OPT}, {"w", KIND_WEIGHT}, \
      {"stride", KIND_INT}, {"residual", KIND_OPT}, {"out", KIND_ACT}) \
    X(UPSAMPLE_CONV, "upsample_conv", false, {"in", KIND_ACT}, {"top", KIND_OPT}, {"bottom", KIND_OPT}, \
      {"w", KIND_WEIGHT}, {"out", KIND_ACT}) \
    X(NORM_CONV, "norm_conv", false, {"in", KIND_ACT}, {"top", KIND_OPT}, {"bottom", KIND_OPT}, {"stats", KIND_ACT}, \
      {"groups", KIND_INT}, {"norm_w", KIND_WEIGHT}, {"eps", KIND_REAL}, {"silu", KIND_ZERO}, {"w", KIND_WEIGHT}, \
      {"residual", KIND_OPT}, {"out", KIND_ACT}) \
    X(GROUP_NORM, "group_norm", false, {"in", KIND_ACT}, {"groups", KIND_INT}, {"w", KIND_WEIGHT}, \
      {"eps", KIND_REAL}, {"silu", KIND_ZERO}, {"out", KIND_ACT}) \
    X(GROUP_STATS, "group_stats", false, {"in", KIND_ACT}, {"groups", KIND_INT}, {"out", KIND_ACT}) \
    X(GROUP_APPLY, "group_apply", false, {"in", KIND_ACT}, {"stats", KIND_ACT}, {"groups", KIND_INT}, \
      {"w", KIND_WEIGHT}, {"eps", KIND_REAL}, {"silu", KIND_ZERO}, {"out", KIND_ACT}) \
    X(UPSAMPLE, "upsample", false, {"in", KIND_ACT}, {"out", KIND_ACT}) \
    X(EMBED, "embed", false, {"ids", KIND_ACT}, {"table", KIND_WEIGHT}, {"positions", KIND_OPTW}, \
      {"first", KIND_ZERO}, {"out", KIND_ACT}) \
    X(ACTIVATE, "activate", false, {"f", KIND_F}, {"in", KIND_ACT}, {"mul", KIND_OPT}, {"out", KIND_ACT}) \
    X(ADD, "add", false, {"x", KIND_ACT}, {"s", KIND_REAL}, {"gate", KIND_OPT}, {"y", KIND_ACT}, {"out", KIND_ACT}) \
    X(EULER, "euler", false, {"x", KIND_ACT}, {"v", KIND_ACT}, {"dsigma", KIND_ACT}) \
    X(CAST, "cast", false, {"in", KIND_ACT}, {"out", KIND_ACT}) \
    X(COPY_ROWS, "copy_rows", false, {"in", KIND_ACT}, {"first", KIND_ZERO}, {"given", KIND_TEXT}, {"out", KIND_ACT})
/* clang-format on */

typedef enum script_call {
#define SCRIPT_ENUM(id, name, together, ...) CALL_##id,
    SCRIPT_CALLS(SCRIPT_ENUM)
#undef SCRIPT_ENUM
        SCRIPT_CALLS_COUNT
} script_call;

typedef struct script_entry {
    const char *name;
    bool together;                     /* an exchange: no rank may leave it out */
    script_field field[SCRIPT_FIELDS]; /* ended by a NULL key */
} script_entry;

extern const script_entry script_entries[SCRIPT_CALLS_COUNT];

int script_cells_of(script_kind kind);

/* How a cell differs from rank to rank. */
typedef enum script_vary {
    VARY_NOT,
    VARY_SP, /* by sp rank */
    VARY_TP,
    VARY_ALL /* by rank */
} script_vary;

typedef struct script_line {
    script_call call;
    size_t first;   /* cell */
    size_t ranks;   /* of `value`: those that make it, ascending, … */
    int rank_count; /* 0: all */
    int number;     /* in the file, for messages; 0: it comes from none */
} script_line;

/* Zeroed but for sp and tp; script_free ends it. */
typedef struct script {
    int sp, tp;
    script_line *line;
    size_t lines, line_room;
    int64_t *cell; /* the number, or where the ranks' numbers begin in `value` */
    unsigned char *vary;
    size_t cells, cell_room;
    int64_t *value;
    size_t values, value_room;
    char *text;
    size_t texts, text_room;
    bool failed; /* out of memory: what was added last is not there */
} script;

void script_free(script *s);

static inline const char *script_text(const script *s, int64_t at) { return at < 0 ? NULL : s->text + at; }

/* A line of a rank: script_begin, its cells in order, script_end: FLUX1_ERR_MEMORY if there was no room. */
void script_begin(script *s, script_call call);
void script_put(script *s, int64_t cell);
void script_put_text(script *s, const char *text); /* NULL: left out */
flux1_status script_end(script *s, flux1_error *err);
size_t script_add_values(script *s, const int64_t *v, int n); /* where they begin */

/* Number of values of a varying cell. */
int script_width(const script *s, script_vary v);

/* The cell of a line that this rank sees. */
static inline int64_t script_cell(const script *s, size_t at, int sp_rank, int tp_rank)
{
    const int64_t c = s->cell[at];
    switch ((script_vary)s->vary[at]) {
    case VARY_SP: return s->value[c + sp_rank];
    case VARY_TP: return s->value[c + tp_rank];
    case VARY_ALL: return s->value[c + sp_rank * s->tp + tp_rank];
    case VARY_NOT: break;
    }
    return c;
}

/* Takes marks out that are not released. */
void script_prune(script *s);

bool script_line_is_of(const script *s, const script_line *l, int rank);

/* rank[sp·tp], each of one rank, into one script, whose lines hold for all ranks where they differ in numbers alone. */
flux1_status script_fold(const script *rank, int sp, int tp, script *out, flux1_error *err);

/* ---- the backend that writes ---- */

/* Calls go to `out` until another is set. The rank's calls alone, so nothing varies. */
flux1_status ops_script_create(const ops_config *c, script *out, ops **o);
void ops_script_into(ops *o, script *out);

/* For exchanges, which the mesh writes: the script in use, and an operand in it. Until it is folded, n rows or columns
 * that are all there are stand as −1 − n. */
script *ops_script_of(ops *o);
void ops_script_put_act(ops *o, act a);

#endif
