#include "ops/ttnn_machines.h"

#include <stdio.h>
#include <string.h>

static const ttnn_machine TABLE[] = {
#define TTNN_MACHINE_ROW(name, rows, cols, links, weights, chip, board, boards) \
    {name, "ttnn:" name, rows, cols, links, weights, CARD_##chip, board, boards},
    TTNN_MACHINES(TTNN_MACHINE_ROW)
#undef TTNN_MACHINE_ROW
};

enum { ROWS = sizeof TABLE / sizeof *TABLE };

static bool is_made_of(const ttnn_machine *m, const cards *found)
{
    if (m->boards == 0 || found->count != m->boards)
        return false;
    for (int i = 0; i < found->count; i++)
        if (found->card[i].chip != m->chip || strcmp(found->card[i].board, m->board) != 0)
            return false;
    return true;
}

static flux1_status tell(const char *name, const cards *found, flux1_error *err)
{
    char known[256] = "", seen[64] = "no card was found";
    size_t used = 0;
    for (int i = 0; i < ROWS; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", TABLE[i].name);
    if (found->count)
        snprintf(seen, sizeof seen, "%d card%s of board \"%.20s\"", found->count, found->count == 1 ? "" : "s",
                 found->card[0].board);
    if (name)
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "device \"ttnn:%.40s\": machines are %s", name, known);
    return error_set(err, FLUX1_ERR_UNSUPPORTED,
                     "device ttnn: the cards do not tell which machine this is (%s); name it, as in ttnn:wh-n300: %s",
                     seen, known);
}

flux1_status ttnn_machine_find(const char *name, const cards *found, const ttnn_machine **out, flux1_error *err)
{
    const bool named = name && *name;
    for (int i = 0; i < ROWS; i++)
        if (named ? strcmp(TABLE[i].name, name) == 0 : is_made_of(&TABLE[i], found)) {
            *out = &TABLE[i];
            return FLUX1_OK;
        }
    *out = NULL;
    return tell(named ? name : NULL, found, err);
}
