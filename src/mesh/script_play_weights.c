/* Blocks of weights, and weights by recipe. */
#include "mesh/script_player.h"

#include "base/checked.h"

#include <inttypes.h>

flux1_status play_block(player *p)
{
    const int64_t id = player_take(p);
    const char *name = player_text(p);
    TRY(player_room(p, (void **)&p->blocks, sizeof(block *), &p->block_room, id));
    if (p->blocks[id])
        return player_refuse(p, "b%" PRId64 " is there already", id);
    return ops_block_create(p->m->o, name ? name : "a block", &p->blocks[id]);
}

flux1_status play_weight(player *p)
{
    const int64_t id = player_take(p);
    TRY(player_room(p, (void **)&p->weights, sizeof *p->weights, &p->weight_room, id));
    played_weight *w = &p->weights[id];
    if (w->known)
        return player_refuse(p, "w%" PRId64 " is there already", id);
    w->known = true;
    w->block = player_take(p);
    w->w.role = (weight_role)player_take(p);
    w->w.rows = player_take(p);
    w->w.cols = player_take(p);
    w->w.kernel = (int)player_take(p);
    w->w.heads = player_take(p);
    w->w.coarse = player_take(p) != 0;
    w->w.int8 = player_take(p) != 0;
    if (w->w.rows < 0 || w->w.cols < 0)
        return player_refuse(p, "w%" PRId64 ": a shape out of range", id);
    return FLUX1_OK;
}

/* The weight that a line is about, before it is prepared. */
static flux1_status open_weight(player *p, played_weight **out)
{
    const int64_t id = player_take(p);
    if ((size_t)id >= p->weight_room || !p->weights[id].known || p->weights[id].made)
        return player_refuse(p, "w%" PRId64 " is not begun, or prepared already", id);
    *out = &p->weights[id];
    return FLUX1_OK;
}

flux1_status play_bias(player *p)
{
    played_weight *w;
    TRY(open_weight(p, &w));
    if (w->has_bias)
        return player_refuse(p, "a second bias");
    w->bias = (weight_recipe){.role = WEIGHT_VECTOR, .rows = player_take(p), .cols = 1};
    w->has_bias = true;
    return w->bias.rows >= 0 ? FLUX1_OK : player_refuse(p, "a shape out of range");
}

typedef struct piece {
    const store_tensor *source;
    int64_t tensor_rows, tensor_cols, from_row, from_col, rows, cols, row, col;
} piece;

static flux1_status take_piece(player *p, piece *t)
{
    const char *name = player_text(p);
    int64_t *const cells[] = {&t->tensor_rows, &t->tensor_cols, &t->from_row, &t->from_col,
                              &t->rows,        &t->cols,        &t->row,      &t->col};
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++)
        *cells[i] = player_take(p);
    if (!name)
        return player_refuse(p, "a piece of no tensor");
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
                return player_refuse(p, "pieces that overlap");
        if (to->count == RECIPE_PIECES)
            return player_refuse(p, "a weight of more than %d pieces", RECIPE_PIECES);
        to->piece[to->count++] = one;
    }
    return FLUX1_OK;
}

flux1_status play_piece(player *p)
{
    played_weight *w;
    piece t = {0};
    TRY(open_weight(p, &w));
    weight_recipe *to = player_take(p) ? &w->bias : &w->w;
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
        return player_refuse(p, "a piece of \"%s\" that is not inside of it, or of the weight", t.source->name);
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

flux1_status play_prepare(player *p)
{
    played_weight *w;
    TRY(open_weight(p, &w));
    if ((size_t)w->block >= p->block_room || !p->blocks[w->block])
        return player_refuse(p, "b%" PRId64 " is not there", w->block);
    if (!is_tiled(&w->w) || (w->has_bias && !is_tiled(&w->bias)))
        return player_refuse(p, "the pieces do not make up the weight");
    return ops_prepare(p->m->o, p->blocks[w->block], &w->w, w->has_bias ? &w->bias : NULL, &w->made);
}

flux1_status play_begin(player *p)
{
    block *b = NULL;
    TRY(player_block(p, &b));
    return ops_block_begin(p->m->o, b);
}

flux1_status play_end(player *p)
{
    block *b = NULL;
    TRY(player_block(p, &b));
    return ops_block_end(p->m->o, b);
}
