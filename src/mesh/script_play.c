#include "mesh/script_play.h"

#include "base/checked.h"
#include "base/half.h"
#include "mesh/exchange.h"

#include <inttypes.h>
#include <stdlib.h>

enum { ELEMENTS_MAX_BITS = 44 }; /* of an activation */

typedef struct played_mark {
    size_t at;    /* of the arena */
    int64_t made; /* activations before it */
    bool set;
} played_mark;

typedef struct played_weight {
    weight *made; /* NULL: not prepared */
    weight_recipe w, bias;
    int64_t block;
    bool known, has_bias;
} played_weight;

/* What a number names; arrays grow with the numbers. */
struct player {
    mesh *m;
    const script_sources *from;
    const script *s;
    script_call call; /* that is made */
    size_t cell;      /* the next one of the line that is made */
    act *acts;
    int64_t *order; /* [made]: numbers of the activations that are there, oldest first */
    int64_t made;
    size_t act_room, order_room;
    played_weight *weights;
    size_t weight_room;
    block **blocks;
    size_t block_room;
    played_mark *marks;
    size_t mark_room;
    kv_ring ring;
    bool turning; /* a ring has begun, and not all has come */
};

/* ---- what is wrong with a script ---- */

static flux1_status refuse(const player *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static flux1_status refuse(const player *p, const char *format, ...)
{
    char why[256];
    va_list list;
    va_start(list, format);
    vsnprintf(why, sizeof why, format, list);
    va_end(list);
    return error_set(p->m->err, FLUX1_ERR_FORMAT, "%s: %s", script_entries[p->call].name, why);
}

/* ---- numbers to things ---- */

/* Room for number `id`, zeroed. */
static flux1_status room_for(const player *p, void **memory, size_t size, size_t *room, int64_t id)
{
    if ((size_t)id < *room)
        return FLUX1_OK;
    const size_t wanted = 2 * ((size_t)id + 32);
    char *more = realloc(*memory, wanted * size);
    if (!more)
        return error_oom(p->m->err, wanted * size, "a recording's activations");
    for (size_t i = *room * size; i < wanted * size; i++)
        more[i] = 0;
    *memory = more;
    *room = wanted;
    return FLUX1_OK;
}

static int64_t take(player *p) { return script_cell(p->s, p->cell++, p->m->sp_rank, p->m->tp_rank); }
static float take_real(player *p) { return f32_from_bits((uint32_t)take(p)); }
static const char *take_text(player *p) { return script_text(p->s, take(p)); }

static flux1_status take_act(player *p, act *out)
{
    int64_t c[SCRIPT_ACT_CELLS];
    for (int i = 0; i < SCRIPT_ACT_CELLS; i++)
        c[i] = take(p);
    *out = (act){0};
    if (c[CELL_ACT] < 0)
        return FLUX1_OK;
    if ((size_t)c[CELL_ACT] >= p->act_room || !act_present(p->acts[c[CELL_ACT]]))
        return refuse(p, "a%" PRId64 " is not there", c[CELL_ACT]);
    act a = act_of(p->acts[c[CELL_ACT]], (act_part)c[CELL_PART]);
    const int64_t row = c[CELL_ROW], rows = c[CELL_ROWS] < 0 ? a.rows - row : c[CELL_ROWS], col = c[CELL_COL],
                  cols = c[CELL_COLS] < 0 ? a.cols - col : c[CELL_COLS];
    if (row < 0 || rows < 0 || row > a.rows - rows || col < 0 || cols < 0 || col > a.cols - cols)
        return refuse(p,
                      "a%" PRId64 " of %" PRId64 " rows, %" PRId64 " columns has no window [%" PRId64 "+%" PRId64
                      "]:%" PRId64 "+%" PRId64,
                      c[CELL_ACT], a.rows, a.cols, row, rows, col, cols);
    *out = act_columns(act_slice(a, row, rows), col, cols);
    return FLUX1_OK;
}

/* One that the line may not leave out. */
static flux1_status need_act(player *p, act *out)
{
    TRY(take_act(p, out));
    return act_present(*out) ? FLUX1_OK : refuse(p, "an activation is left out");
}

static flux1_status take_weight(player *p, weight **out)
{
    const int64_t id = take(p);
    *out = NULL;
    if (id < 0)
        return FLUX1_OK;
    if ((size_t)id >= p->weight_room || !p->weights[id].made)
        return refuse(p, "w%" PRId64 " is not prepared", id);
    *out = p->weights[id].made;
    return FLUX1_OK;
}

static flux1_status need_weight(player *p, weight **out)
{
    TRY(take_weight(p, out));
    return *out ? FLUX1_OK : refuse(p, "a weight is left out");
}

static flux1_status take_linear(player *p, linear_weight *out)
{
    *out = (linear_weight){0};
    return need_weight(p, &out->w);
}

static flux1_status take_block(player *p, block **out)
{
    const int64_t id = take(p);
    if ((size_t)id >= p->block_room || !p->blocks[id])
        return refuse(p, "b%" PRId64 " is not there", id);
    *out = p->blocks[id];
    return FLUX1_OK;
}

static flux1_status take_epilogue(player *p, epilogue *e)
{
    TRY(take_act(p, &e->addend));
    e->f = (activation)take(p);
    TRY(take_act(p, &e->mul));
    TRY(take_act(p, &e->gate));
    return take_act(p, &e->residual);
}

typedef struct attended {
    act q, k, v;
    attention_args a;
} attended;

static flux1_status take_attention(player *p, attended *t)
{
    TRY(need_act(p, &t->q));
    TRY(need_act(p, &t->k));
    TRY(need_act(p, &t->v));
    t->a.heads = take(p);
    t->a.scale = take_real(p);
    t->a.causal = take(p) != 0;
    return take_act(p, &t->a.bias);
}

/* ---- memory ---- */

static flux1_status keep_act(player *p, int64_t id, act a)
{
    TRY(room_for(p, (void **)&p->acts, sizeof *p->acts, &p->act_room, id));
    TRY(room_for(p, (void **)&p->order, sizeof *p->order, &p->order_room, p->made));
    p->acts[id] = a;
    p->order[p->made++] = id;
    return FLUX1_OK;
}

static bool fits(const act_shape *s)
{
    int64_t n;
    return i64_mul(s->batch, s->rows[0] + s->rows[1], &n) && i64_mul(n, s->cols, &n) &&
           n <= (int64_t)1 << ELEMENTS_MAX_BITS;
}

static flux1_status play_create(player *p)
{
    const int64_t id = take(p);
    const act_role role = (act_role)take(p);
    act_shape s;
    act a;
    s.batch = take(p);
    s.rows[PART_TEXT] = take(p);
    s.rows[PART_IMAGE] = take(p);
    s.cols = take(p);
    s.height = take(p);
    s.width = take(p);
    if ((size_t)id < p->act_room && act_present(p->acts[id]))
        return refuse(p, "a%" PRId64 " is there already", id);
    if (s.batch < 0 || s.rows[0] < 0 || s.rows[1] < 0 || s.cols < 0 || !fits(&s))
        return refuse(p, "a%" PRId64 ": a shape out of range", id);
    TRY(ops_create(p->m->o, role, s, &a));
    return keep_act(p, id, a);
}

static flux1_status play_mark(player *p)
{
    const int64_t id = take(p);
    TRY(room_for(p, (void **)&p->marks, sizeof *p->marks, &p->mark_room, id));
    p->marks[id] = (played_mark){.at = ops_mark(p->m->o), .made = p->made, .set = true};
    return FLUX1_OK;
}

static flux1_status play_release(player *p)
{
    const int64_t id = take(p);
    if ((size_t)id >= p->mark_room || !p->marks[id].set || p->marks[id].made > p->made)
        return refuse(p, "m%" PRId64 " is not set", id);
    while (p->made > p->marks[id].made)
        p->acts[p->order[--p->made]] = (act){0};
    for (size_t i = 0; i < p->mark_room; i++) /* those set since are gone with what they marked */
        p->marks[i].set = p->marks[i].set && p->marks[i].at <= p->marks[id].at;
    ops_release(p->m->o, p->marks[id].at);
    return FLUX1_OK;
}

/* ---- what comes and goes by name ---- */

static flux1_status play_input(player *p)
{
    const char *name = take_text(p);
    const int64_t first = take(p);
    tensor host = {0};
    act out;
    TRY(need_act(p, &out));
    if (!name)
        return refuse(p, "an input without a name");
    TRY(p->from->input(p->from->user, name, &host, p->m->err));
    if (act_batch(out) != 1 || first < 0 || first > host.shape[0] - act_rows(out) || out.cols != host.shape[1] ||
        (host.type == DTYPE_I32) != (out.buffer->role == ACT_IDS))
        return refuse(p, "input %s has %" PRId64 " rows of %" PRId64 ", not rows %" PRId64 "+%" PRId64 " of %" PRId64,
                      name, host.shape[0], host.shape[1], first, act_rows(out), out.cols);
    host.shape[0] = act_rows(out);
    if (host.data)
        host.data = (char *)host.data + (size_t)(first * out.cols) * 4;
    return ops_upload(p->m->o, &host, out);
}

static flux1_status play_output(player *p)
{
    tensor *to = p->from->output;
    act in;
    TRY(need_act(p, &in));
    if (!mesh_leads(p->m))
        return refuse(p, "an output of another rank than 0");
    if (act_batch(in) * act_rows(in) * in.cols != tensor_elements(to))
        return refuse(p, "the output has %" PRId64 " elements, should have %" PRId64,
                      act_batch(in) * act_rows(in) * in.cols, tensor_elements(to));
    return ops_download(p->m->o, in, to);
}

static flux1_status play_finite(player *p)
{
    act in;
    TRY(need_act(p, &in));
    return ops_finite(p->m->o, in, (int)i64_min(take(p), OPS_SLOTS));
}

static flux1_status play_check(player *p)
{
    int slot;
    TRY(ops_finite_first(p->m->o, &slot));
    TRY(mesh_lowest(p->m, &slot));
    return slot < 0 ? FLUX1_OK
                    : error_set(p->m->err, FLUX1_ERR_NUMERIC,
                                "NaN or infinity in what finite slot=%d looks at; flux1 info --verify looks for a "
                                "damaged weight",
                                slot);
}

/* ---- weights ---- */

static flux1_status play_block(player *p)
{
    const int64_t id = take(p);
    const char *name = take_text(p);
    TRY(room_for(p, (void **)&p->blocks, sizeof(block *), &p->block_room, id));
    if (p->blocks[id])
        return refuse(p, "b%" PRId64 " is there already", id);
    return ops_block_create(p->m->o, name ? name : "a block", &p->blocks[id]);
}

static flux1_status play_weight(player *p)
{
    const int64_t id = take(p);
    TRY(room_for(p, (void **)&p->weights, sizeof *p->weights, &p->weight_room, id));
    played_weight *w = &p->weights[id];
    if (w->known)
        return refuse(p, "w%" PRId64 " is there already", id);
    w->known = true;
    w->block = take(p);
    w->w.role = (weight_role)take(p);
    w->w.rows = take(p);
    w->w.cols = take(p);
    w->w.kernel = (int)take(p);
    w->w.heads = take(p);
    w->w.coarse = take(p) != 0;
    w->w.int8 = take(p) != 0;
    if (w->w.rows < 0 || w->w.cols < 0)
        return refuse(p, "w%" PRId64 ": a shape out of range", id);
    return FLUX1_OK;
}

/* The weight that a line is about, before it is prepared. */
static flux1_status open_weight(player *p, played_weight **out)
{
    const int64_t id = take(p);
    if ((size_t)id >= p->weight_room || !p->weights[id].known || p->weights[id].made)
        return refuse(p, "w%" PRId64 " is not begun, or prepared already", id);
    *out = &p->weights[id];
    return FLUX1_OK;
}

static flux1_status play_bias(player *p)
{
    played_weight *w;
    TRY(open_weight(p, &w));
    if (w->has_bias)
        return refuse(p, "a second bias");
    w->bias = (weight_recipe){.role = WEIGHT_VECTOR, .rows = take(p), .cols = 1};
    w->has_bias = true;
    return w->bias.rows >= 0 ? FLUX1_OK : refuse(p, "a shape out of range");
}

typedef struct piece {
    const store_tensor *source;
    int64_t tensor_rows, tensor_cols, from_row, from_col, rows, cols, row, col;
} piece;

static flux1_status take_piece(player *p, piece *t)
{
    const char *name = take_text(p);
    int64_t *const cells[] = {&t->tensor_rows, &t->tensor_cols, &t->from_row, &t->from_col,
                              &t->rows,        &t->cols,        &t->row,      &t->col};
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++)
        *cells[i] = take(p);
    if (!name)
        return refuse(p, "a piece of no tensor");
    return p->from->tensor(p->from->user, name, &t->source, p->m->err);
}

static bool overlaps(const recipe_piece *a, const recipe_piece *b)
{
    return a->row < b->row + b->rows && b->row < a->row + a->rows && a->col < b->col + b->cols &&
           b->col < a->col + a->cols;
}

/* The pieces of `from`, moved to where they belong in `to`. Whether they leave gaps shows when it is prepared. */
static flux1_status add_pieces(const player *p, weight_recipe *to, const weight_recipe *from, int64_t row, int64_t col)
{
    for (int i = 0; i < from->count; i++) {
        recipe_piece one = from->piece[i];
        one.row += row;
        one.col += col;
        for (int k = 0; k < to->count; k++)
            if (overlaps(&to->piece[k], &one))
                return refuse(p, "pieces that overlap");
        if (to->count == RECIPE_PIECES)
            return refuse(p, "a weight of more than %d pieces", RECIPE_PIECES);
        to->piece[to->count++] = one;
    }
    return FLUX1_OK;
}

static flux1_status play_piece(player *p)
{
    played_weight *w;
    piece t = {0};
    TRY(open_weight(p, &w));
    weight_recipe *to = take(p) ? &w->bias : &w->w;
    TRY(take_piece(p, &t));
    weight_recipe all = recipe_whole(to->role, t.source);
    if (all.rows != t.tensor_rows || all.cols != t.tensor_cols)
        return error_set(p->m->err, FLUX1_ERR_MODEL,
                         "%s: tensor \"%s\" is [%" PRId64 ", %" PRId64 "], the recording is of a model where it is "
                         "[%" PRId64 ", %" PRId64 "]",
                         t.source->file, t.source->name, all.rows, all.cols, t.tensor_rows, t.tensor_cols);
    if (t.from_row < 0 || t.rows < 0 || t.from_row > all.rows - t.rows || t.from_col < 0 || t.cols < 0 ||
        t.from_col > all.cols - t.cols || t.row < 0 || t.row > to->rows - t.rows || t.col < 0 ||
        t.col > to->cols - t.cols)
        return refuse(p, "a piece of \"%s\" that is not inside of it, or of the weight", t.source->name);
    all = recipe_rows(&all, t.from_row, t.rows);
    all = recipe_cols(&all, t.from_col, t.cols);
    return add_pieces(p, to, &all, t.row, t.col);
}

static bool is_tiled(const weight_recipe *r)
{
    int64_t sum = 0, all, one;
    for (int i = 0; i < r->count; i++) {
        if (!i64_mul(r->piece[i].rows, r->piece[i].cols, &one) || !i64_add(sum, one, &sum))
            return false;
    }
    return i64_mul(r->rows, r->cols, &all) && sum == all;
}

static flux1_status play_prepare(player *p)
{
    played_weight *w;
    TRY(open_weight(p, &w));
    if ((size_t)w->block >= p->block_room || !p->blocks[w->block])
        return refuse(p, "b%" PRId64 " is not there", w->block);
    if (!is_tiled(&w->w) || (w->has_bias && !is_tiled(&w->bias)))
        return refuse(p, "the pieces do not make up the weight");
    return ops_prepare(p->m->o, p->blocks[w->block], &w->w, w->has_bias ? &w->bias : NULL, &w->made);
}

static flux1_status play_begin(player *p)
{
    block *b = NULL;
    TRY(take_block(p, &b));
    return ops_block_begin(p->m->o, b);
}

static flux1_status play_end(player *p)
{
    block *b = NULL;
    TRY(take_block(p, &b));
    return ops_block_end(p->m->o, b);
}

/* ---- exchanges ---- */

/* Rows of `in` are this rank's share of out's. */
static flux1_status check_share(const player *p, mesh_axis axis, act in, act out, int64_t unit)
{
    const int size = axis_size(p->m, axis), rank = axis_rank(p->m, axis);
    for (act_part part = PART_TEXT; part <= PART_IMAGE; part++) {
        const int64_t all = act_rows(part_of(out, part));
        if (unit < 1 || all % unit || cut_of(all / unit, size, rank).count * unit != act_rows(part_of(in, part)))
            return refuse(p, "the rows of one operand are not this rank's share of the other's");
    }
    return in.cols == out.cols && act_batch(in) == act_batch(out) && in.buffer->role == out.buffer->role
               ? FLUX1_OK
               : refuse(p, "operands of an exchange differ in role, batch or columns");
}

static flux1_status play_gather_rows(player *p)
{
    const mesh_axis axis = (mesh_axis)take(p);
    act in, out;
    TRY(need_act(p, &in));
    const int64_t unit = take(p);
    TRY(need_act(p, &out));
    TRY(check_share(p, axis, in, out, unit));
    return p->m->exchange->gather_rows(p->m, axis, in, out, unit);
}

static flux1_status play_gather_columns(player *p)
{
    const mesh_axis axis = (mesh_axis)take(p);
    act in, out;
    TRY(need_act(p, &in));
    TRY(need_act(p, &out));
    if (in.cols != cut_of(out.cols, axis_size(p->m, axis), axis_rank(p->m, axis)).count ||
        act_rows(in) != act_rows(out) || act_batch(in) != 1 || act_batch(out) != 1 ||
        in.buffer->role != out.buffer->role)
        return refuse(p, "the columns of one operand are not this rank's share of the other's");
    return p->m->exchange->gather_columns(p->m, axis, in, out);
}

static flux1_status play_reduce_rows(player *p)
{
    const mesh_axis axis = (mesh_axis)take(p);
    act in, out;
    TRY(need_act(p, &in));
    TRY(need_act(p, &out));
    TRY(check_share(p, axis, out, in, 1));
    if (in.buffer->role != ACT_PARTIAL)
        return refuse(p, "a sum over ranks of something else than partial");
    return p->m->exchange->reduce_rows(p->m, axis, in, out);
}

static flux1_status play_ring_begin(player *p)
{
    act k, v;
    kv_ring r = {.axis = (mesh_axis)take(p)};
    r.units[PART_TEXT] = take(p);
    r.units[PART_IMAGE] = take(p);
    r.unit = take(p);
    TRY(need_act(p, &k));
    TRY(need_act(p, &v));
    if (p->turning)
        return refuse(p, "a second ring before the first has ended");
    if (r.units[0] < 0 || r.units[1] < 0 || r.unit < 1 || axis_size(p->m, r.axis) < 2)
        return refuse(p, "a ring of no rows, or of one rank");
    if (act_rows(k) != act_rows(v) || k.cols != v.cols || act_batch(k) != act_batch(v) ||
        k.buffer->role != v.buffer->role || act_rows(k) != ring_rows(p->m, &r, axis_rank(p->m, r.axis)))
        return refuse(p, "k and v are not this rank's share of the ring's rows");
    p->ring = r;
    p->turning = true;
    return p->m->exchange->ring_begin(p->m, &p->ring, k, v);
}

static flux1_status play_ring_receive(player *p)
{
    act k, v;
    TRY(need_act(p, &k));
    TRY(need_act(p, &v));
    if (!p->turning)
        return refuse(p, "no ring has begun, or all of it has come");
    const int size = axis_size(p->m, p->ring.axis), rank = axis_rank(p->m, p->ring.axis), turn = p->ring.turn + 1;
    const int64_t rows = ring_rows(p->m, &p->ring, (rank + turn) % size);
    if (act_rows(k) != rows || act_rows(v) != rows || k.cols != v.cols || act_batch(k) != act_batch(v) ||
        k.buffer->role != v.buffer->role)
        return refuse(p, "k and v have not the rows of the rank that they come from");
    if (p->ring.bytes && p->ring.bytes < ops_pack_bytes(p->m->o, k, rows))
        return refuse(p, "k and v are wider than what comes");
    p->turning = turn + 1 < size;
    return p->m->exchange->ring_receive(p->m, &p->ring, k, v);
}

static flux1_status play_halo_row(player *p)
{
    act in, out;
    TRY(need_act(p, &in));
    const int64_t row = take(p), distance = take(p), wanted = take(p);
    TRY(need_act(p, &out));
    const act_shape *s = &in.buffer->shape;
    if (distance != 1 && distance != -1)
        return refuse(p, "a halo row from farther than a neighbour");
    if (in.buffer->role != ACT_PLANE || out.buffer->role != ACT_PLANE || act_rows(in) != s->height * s->width ||
        act_rows(out) != s->width || in.cols != out.cols || act_batch(in) != act_batch(out) || row < 0 ||
        (s->height > 0 && row >= s->height))
        return refuse(p, "a halo row is a row of the plane");
    return p->m->exchange->halo_row(p->m, in, row, (int)distance, wanted != 0, out);
}

/* ---- arithmetic: the contract of each entry is checked by the dry run ---- */

static flux1_status play_linear(player *p)
{
    act in, out;
    linear_weight w;
    epilogue e;
    TRY(need_act(p, &in));
    TRY(take_linear(p, &w));
    TRY(take_epilogue(p, &e));
    TRY(need_act(p, &out));
    return ops_linear(p->m->o, in, &w, &e, out);
}

static flux1_status play_linear_norm(player *p)
{
    act in, out;
    linear_weight w;
    weight *norm_w;
    epilogue e;
    norm_behind n = {0};
    TRY(need_act(p, &in));
    TRY(take_linear(p, &w));
    TRY(take_epilogue(p, &e));
    TRY(need_act(p, &out));
    n.slot = (int)take(p);
    TRY(take_weight(p, &norm_w));
    n.w = norm_w;
    TRY(take_act(p, &n.shift));
    TRY(take_act(p, &n.scale));
    n.eps = take_real(p);
    TRY(need_act(p, &n.out));
    return ops_linear_norm(p->m->o, in, &w, &e, out, &n);
}

typedef struct qkv_operands {
    act in, rope, out;
    qkv_weights w;
} qkv_operands;

static flux1_status take_qkv(player *p, qkv_operands *t)
{
    weight *q, *k;
    TRY(need_act(p, &t->in));
    TRY(take_linear(p, &t->w.qkv));
    TRY(take_weight(p, &q));
    TRY(take_weight(p, &k));
    t->w.norm_q = q;
    t->w.norm_k = k;
    t->w.heads = take(p);
    t->w.eps = take_real(p);
    TRY(take_act(p, &t->rope));
    return need_act(p, &t->out);
}

static flux1_status play_qkv_norm_rope(player *p)
{
    qkv_operands t;
    TRY(take_qkv(p, &t));
    return ops_qkv_norm_rope(p->m->o, t.in, &t.w, t.rope, t.out);
}

static flux1_status play_single_products(player *p)
{
    qkv_operands t;
    linear_weight up;
    act hidden;
    TRY(take_qkv(p, &t));
    TRY(take_linear(p, &up));
    TRY(need_act(p, &hidden));
    return ops_single_products(p->m->o, t.in, &t.w, t.rope, t.out, &up, hidden);
}

static flux1_status play_mlp(player *p)
{
    act in, out;
    linear_weight up, down;
    epilogue e;
    TRY(need_act(p, &in));
    TRY(take_linear(p, &up));
    const activation f = (activation)take(p);
    TRY(take_linear(p, &down));
    TRY(take_epilogue(p, &e));
    TRY(need_act(p, &out));
    return ops_mlp(p->m->o, in, &up, f, &down, &e, out);
}

static flux1_status play_layer_norm(player *p)
{
    act in, shift, scale, out;
    weight *w;
    TRY(need_act(p, &in));
    TRY(take_weight(p, &w));
    TRY(take_act(p, &shift));
    TRY(take_act(p, &scale));
    const float eps = take_real(p);
    TRY(need_act(p, &out));
    return ops_layer_norm(p->m->o, in, w, shift, scale, eps, out);
}

static flux1_status play_rms_norm(player *p)
{
    act in, out;
    weight *w;
    TRY(need_act(p, &in));
    TRY(need_weight(p, &w));
    const float eps = take_real(p);
    TRY(need_act(p, &out));
    return ops_rms_norm(p->m->o, in, w, eps, out);
}

static flux1_status play_head_norm_rope(player *p)
{
    act x, rope;
    weight *w;
    TRY(need_act(p, &x));
    const int64_t heads = take(p);
    TRY(take_weight(p, &w));
    const float eps = take_real(p);
    TRY(take_act(p, &rope));
    return ops_head_norm_rope(p->m->o, x, heads, w, eps, rope);
}

static flux1_status play_attention(player *p)
{
    attended t;
    act out;
    TRY(take_attention(p, &t));
    TRY(need_act(p, &out));
    return ops_attention(p->m->o, t.q, t.k, t.v, &t.a, out);
}

static flux1_status play_attention_part(player *p)
{
    attended t;
    act out, lse;
    TRY(take_attention(p, &t));
    TRY(need_act(p, &out));
    TRY(need_act(p, &lse));
    return ops_attention_part(p->m->o, t.q, t.k, t.v, &t.a, out, lse);
}

static flux1_status play_attention_merge(player *p)
{
    act out, lse, other, other_lse;
    const int64_t heads = take(p);
    TRY(need_act(p, &out));
    TRY(need_act(p, &lse));
    TRY(need_act(p, &other));
    TRY(need_act(p, &other_lse));
    return ops_attention_merge(p->m->o, heads, out, lse, other, other_lse);
}

typedef struct plane_operands {
    act in, top, bottom;
} plane_operands;

static flux1_status take_plane(player *p, plane_operands *t)
{
    TRY(need_act(p, &t->in));
    TRY(take_act(p, &t->top));
    return take_act(p, &t->bottom);
}

static flux1_status play_conv(player *p)
{
    plane_operands t;
    act residual, out;
    weight *w;
    TRY(take_plane(p, &t));
    TRY(need_weight(p, &w));
    const int64_t stride = take(p);
    TRY(take_act(p, &residual));
    TRY(need_act(p, &out));
    return ops_conv(p->m->o, t.in, t.top, t.bottom, w, (int)stride, residual, out);
}

static flux1_status play_upsample_conv(player *p)
{
    plane_operands t;
    act out;
    weight *w;
    TRY(take_plane(p, &t));
    TRY(need_weight(p, &w));
    TRY(need_act(p, &out));
    return ops_upsample_conv(p->m->o, t.in, t.top, t.bottom, w, out);
}

static flux1_status play_norm_conv(player *p)
{
    plane_operands t;
    norm_before n = {0};
    act residual, out;
    weight *norm_w, *w;
    TRY(take_plane(p, &t));
    TRY(need_act(p, &n.stats));
    n.groups = take(p);
    TRY(need_weight(p, &norm_w));
    n.w = norm_w;
    n.eps = take_real(p);
    n.silu = take(p) != 0;
    TRY(need_weight(p, &w));
    TRY(take_act(p, &residual));
    TRY(need_act(p, &out));
    return ops_norm_conv(p->m->o, t.in, t.top, t.bottom, &n, w, residual, out);
}

static flux1_status play_group_norm(player *p)
{
    act in, out;
    weight *w;
    TRY(need_act(p, &in));
    const int64_t groups = take(p);
    TRY(need_weight(p, &w));
    const float eps = take_real(p);
    const bool silu = take(p) != 0;
    TRY(need_act(p, &out));
    return ops_group_norm(p->m->o, in, groups, w, eps, silu, out);
}

static flux1_status play_group_stats(player *p)
{
    act in, out;
    TRY(need_act(p, &in));
    const int64_t groups = take(p);
    TRY(need_act(p, &out));
    return ops_group_stats(p->m->o, in, groups, out);
}

static flux1_status play_group_apply(player *p)
{
    act in, stats, out;
    weight *w;
    TRY(need_act(p, &in));
    TRY(need_act(p, &stats));
    const int64_t groups = take(p);
    TRY(need_weight(p, &w));
    const float eps = take_real(p);
    const bool silu = take(p) != 0;
    TRY(need_act(p, &out));
    return ops_group_apply(p->m->o, in, stats, groups, w, eps, silu, out);
}

static flux1_status play_upsample(player *p)
{
    act in, out;
    TRY(need_act(p, &in));
    TRY(need_act(p, &out));
    return ops_upsample(p->m->o, in, out);
}

static flux1_status play_embed(player *p)
{
    act ids, out;
    weight *table, *positions;
    TRY(need_act(p, &ids));
    TRY(need_weight(p, &table));
    TRY(take_weight(p, &positions));
    const int64_t first = take(p);
    TRY(need_act(p, &out));
    return ops_embed(p->m->o, ids, table, positions, first, out);
}

static flux1_status play_activate(player *p)
{
    act in, mul, out;
    const activation f = (activation)take(p);
    TRY(need_act(p, &in));
    TRY(take_act(p, &mul));
    TRY(need_act(p, &out));
    return ops_activate(p->m->o, f, in, mul, out);
}

static flux1_status play_add(player *p)
{
    act x, gate, y, out;
    TRY(need_act(p, &x));
    const float s = take_real(p);
    TRY(take_act(p, &gate));
    TRY(need_act(p, &y));
    TRY(need_act(p, &out));
    return ops_add(p->m->o, x, s, gate, y, out);
}

static flux1_status play_euler(player *p)
{
    act x, v, dsigma;
    TRY(need_act(p, &x));
    TRY(need_act(p, &v));
    TRY(need_act(p, &dsigma));
    return ops_euler(p->m->o, x, v, dsigma);
}

static flux1_status play_cast(player *p)
{
    act in, out;
    TRY(need_act(p, &in));
    TRY(need_act(p, &out));
    return ops_cast(p->m->o, in, out);
}

static flux1_status play_copy_rows(player *p)
{
    act in, out;
    TRY(need_act(p, &in));
    int64_t first = take(p);
    const char *given = take_text(p);
    TRY(need_act(p, &out));
    if (given)
        TRY(p->from->row(p->from->user, given, &first, p->m->err));
    return ops_copy_rows(p->m->o, in, first, out);
}

/* ---- all of them ---- */

typedef flux1_status play_fn(player *p);

static play_fn *const plays[SCRIPT_CALLS_COUNT] = {
    [CALL_BLOCK] = play_block,
    [CALL_WEIGHT] = play_weight,
    [CALL_BIAS] = play_bias,
    [CALL_PIECE] = play_piece,
    [CALL_PREPARE] = play_prepare,
    [CALL_BEGIN] = play_begin,
    [CALL_END] = play_end,
    [CALL_CREATE] = play_create,
    [CALL_MARK] = play_mark,
    [CALL_RELEASE] = play_release,
    [CALL_INPUT] = play_input,
    [CALL_OUTPUT] = play_output,
    [CALL_FINITE] = play_finite,
    [CALL_CHECK] = play_check,
    [CALL_GATHER_ROWS] = play_gather_rows,
    [CALL_GATHER_COLUMNS] = play_gather_columns,
    [CALL_REDUCE_ROWS] = play_reduce_rows,
    [CALL_RING_BEGIN] = play_ring_begin,
    [CALL_RING_RECEIVE] = play_ring_receive,
    [CALL_HALO_ROW] = play_halo_row,
    [CALL_LINEAR] = play_linear,
    [CALL_LINEAR_NORM] = play_linear_norm,
    [CALL_QKV_NORM_ROPE] = play_qkv_norm_rope,
    [CALL_MLP] = play_mlp,
    [CALL_SINGLE_PRODUCTS] = play_single_products,
    [CALL_LAYER_NORM] = play_layer_norm,
    [CALL_RMS_NORM] = play_rms_norm,
    [CALL_HEAD_NORM_ROPE] = play_head_norm_rope,
    [CALL_ATTENTION] = play_attention,
    [CALL_ATTENTION_PART] = play_attention_part,
    [CALL_ATTENTION_MERGE] = play_attention_merge,
    [CALL_CONV] = play_conv,
    [CALL_UPSAMPLE_CONV] = play_upsample_conv,
    [CALL_NORM_CONV] = play_norm_conv,
    [CALL_GROUP_NORM] = play_group_norm,
    [CALL_GROUP_STATS] = play_group_stats,
    [CALL_GROUP_APPLY] = play_group_apply,
    [CALL_UPSAMPLE] = play_upsample,
    [CALL_EMBED] = play_embed,
    [CALL_ACTIVATE] = play_activate,
    [CALL_ADD] = play_add,
    [CALL_EULER] = play_euler,
    [CALL_CAST] = play_cast,
    [CALL_COPY_ROWS] = play_copy_rows,
};

flux1_status player_create(mesh *m, const script_sources *from, player **out)
{
    player *p = calloc(1, sizeof *p);
    if (!p)
        return error_oom(m->err, sizeof *p, "a recording's activations");
    p->m = m;
    p->from = from;
    *out = p;
    return FLUX1_OK;
}

void player_destroy(player *p)
{
    if (!p)
        return;
    for (size_t i = p->block_room; i-- > 0;)
        ops_block_destroy(p->m->o, p->blocks[i]);
    free(p->acts);
    free(p->order);
    free(p->weights);
    free(p->blocks);
    free(p->marks);
    free(p);
}

/* A script that breaks an entry's contract is a broken file, not a mistake of this program's. */
static flux1_status told(const player *p, const script_line *l, flux1_status st)
{
    if (st == FLUX1_OK || st == FLUX1_ERR_CANCELLED || !l->number)
        return st;
    if (st == FLUX1_ERR_INTERNAL)
        p->m->err->status = FLUX1_ERR_FORMAT;
    return error_prefix(p->m->err, "line %d", l->number);
}

flux1_status player_run(player *p, const script *s)
{
    p->s = s;
    for (size_t i = 0; i < s->lines; i++) {
        const script_line *l = &s->line[i];
        if (!script_line_is_of(s, l, p->m->rank))
            continue;
        p->cell = l->first;
        p->call = l->call;
        TRY(told(p, l, plays[l->call](p)));
    }
    return p->turning ? refuse(p, "a ring has begun, and has not come round") : FLUX1_OK;
}
