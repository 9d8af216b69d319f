#include "mesh/script_player.h"

#include "base/half.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- what is wrong with a script ---- */

flux1_status player_refuse(const player *p, const char *format, ...)
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
flux1_status player_room(const player *p, void **memory, size_t size, size_t *room, int64_t id)
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

int64_t player_take(player *p) { return script_cell(p->s, p->cell++, p->m->sp_rank, p->m->tp_rank); }
float player_real(player *p) { return f32_from_bits((uint32_t)player_take(p)); }
const char *player_text(player *p) { return script_text(p->s, player_take(p)); }

flux1_status player_act(player *p, act *out)
{
    int64_t c[SCRIPT_ACT_CELLS];
    for (int i = 0; i < SCRIPT_ACT_CELLS; i++)
        c[i] = player_take(p);
    *out = (act){0};
    if (c[CELL_ACT] < 0)
        return FLUX1_OK;
    if ((size_t)c[CELL_ACT] >= p->act_room || !act_present(p->acts[c[CELL_ACT]]))
        return player_refuse(p, "a%" PRId64 " is not there", c[CELL_ACT]);
    act a = act_of(p->acts[c[CELL_ACT]], (act_part)c[CELL_PART]);
    const int64_t row = c[CELL_ROW], rows = c[CELL_ROWS] < 0 ? a.rows - row : c[CELL_ROWS], col = c[CELL_COL],
                  cols = c[CELL_COLS] < 0 ? a.cols - col : c[CELL_COLS];
    if (row < 0 || rows < 0 || row > a.rows - rows || col < 0 || cols < 0 || col > a.cols - cols)
        return player_refuse(p,
                             "a%" PRId64 " of %" PRId64 " rows, %" PRId64 " columns has no window [%" PRId64 "+%" PRId64
                             "]:%" PRId64 "+%" PRId64,
                             c[CELL_ACT], a.rows, a.cols, row, rows, col, cols);
    *out = act_columns(act_slice(a, row, rows), col, cols);
    return FLUX1_OK;
}

/* One that the line may not leave out. */
flux1_status player_need_act(player *p, act *out)
{
    TRY(player_act(p, out));
    return act_present(*out) ? FLUX1_OK : player_refuse(p, "an activation is left out");
}

flux1_status player_weight(player *p, weight **out)
{
    const int64_t id = player_take(p);
    *out = NULL;
    if (id < 0)
        return FLUX1_OK;
    if ((size_t)id >= p->weight_room || !p->weights[id].made)
        return player_refuse(p, "w%" PRId64 " is not prepared", id);
    *out = p->weights[id].made;
    return FLUX1_OK;
}

flux1_status player_need_weight(player *p, weight **out)
{
    TRY(player_weight(p, out));
    return *out ? FLUX1_OK : player_refuse(p, "a weight is left out");
}

flux1_status player_linear(player *p, linear_weight *out)
{
    *out = (linear_weight){0};
    return player_need_weight(p, &out->w);
}

flux1_status player_block(player *p, block **out)
{
    const int64_t id = player_take(p);
    if ((size_t)id >= p->block_room || !p->blocks[id])
        return player_refuse(p, "b%" PRId64 " is not there", id);
    *out = p->blocks[id];
    return FLUX1_OK;
}

flux1_status player_epilogue(player *p, epilogue *e)
{
    TRY(player_act(p, &e->addend));
    e->f = (activation)player_take(p);
    TRY(player_act(p, &e->mul));
    TRY(player_act(p, &e->gate));
    return player_act(p, &e->residual);
}
