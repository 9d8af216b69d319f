#include "tools/card_worker.h"

#include <stdlib.h>

/* ---- a line's cells ---- */

int64_t card_next(card_worker *w) { return w->s->cell[w->cell++]; }

card_operand card_next_act(card_worker *w)
{
    int64_t c[SCRIPT_ACT_CELLS];
    for (int i = 0; i < SCRIPT_ACT_CELLS; i++)
        c[i] = card_next(w);
    return (card_operand){c[CELL_ACT], (act_part)c[CELL_PART], c[CELL_ROW], c[CELL_ROWS], c[CELL_COL], c[CELL_COLS]};
}

card_weight *card_next_weight(card_worker *w)
{
    const int64_t number = card_next(w);
    return number < 0 ? NULL : &w->weight[number];
}

card_tensor *card_get(card_worker *w, card_operand at) { return card_read(&w->space, &w->act[at.act], at); }
void card_put(card_worker *w, card_operand at, card_tensor *t) { card_write(&w->space, &w->act[at.act], at, t); }

/* x becomes the result of a call on it: for a moment both are there. */
card_tensor *card_changed(card_worker *w, card_tensor *x)
{
    card_tensor *y = like(w, x);
    drop(w, x);
    return y;
}

/* The same, of a call that reads an activation beside it, which may have to be cut out first. */
card_tensor *card_changed_by(card_worker *w, card_tensor *x, card_operand at)
{
    card_tensor *other = card_get(w, at), *y = card_changed(w, x);
    drop(w, other);
    return y;
}

bool card_grow(card_worker *w, void **memory, size_t size, size_t count, size_t *room)
{
    if (count < *room)
        return true;
    void *more = realloc(*memory, (2 * *room + 32) * size);
    if (!more) {
        w->space.failed = true;
        return false;
    }
    *memory = more;
    *room = 2 * *room + 32;
    return true;
}

double card_matrix(card_worker *w, int64_t rows, int64_t cols, double cell, bool by_rows)
{
    return card_bytes(&w->space,
                      &(card_tensor){.heads = 1, .rows = rows, .cols = cols, .cell = cell, .by_rows = by_rows});
}
