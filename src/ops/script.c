#include "ops/script.h"

#include <stdlib.h>
#include <string.h>

const script_entry script_entries[SCRIPT_CALLS_COUNT] = {
#define SCRIPT_ROW(id, name, together, ...) [CALL_##id] = {name, together, {__VA_ARGS__}},
    SCRIPT_CALLS(SCRIPT_ROW)
#undef SCRIPT_ROW
};

int script_cells_of(script_kind kind) { return kind == KIND_ACT || kind == KIND_OPT ? SCRIPT_ACT_CELLS : 1; }

void script_free(script *s)
{
    free(s->line);
    free(s->cell);
    free(s->vary);
    free(s->value);
    free(s->text);
    *s = (script){.sp = s->sp, .tp = s->tp};
}

int script_width(const script *s, script_vary v)
{
    return v == VARY_SP ? s->sp : v == VARY_TP ? s->tp : v == VARY_ALL ? s->sp * s->tp : 1;
}

bool script_line_is_of(const script *s, const script_line *l, int rank)
{
    for (int i = 0; i < l->rank_count; i++)
        if (s->value[l->ranks + (size_t)i] == rank)
            return true;
    return l->rank_count == 0;
}

static bool is_released(const script *s, size_t mark)
{
    const int64_t number = s->cell[s->line[mark].first];
    for (size_t i = mark + 1; i < s->lines; i++)
        if (s->line[i].call == CALL_RELEASE && s->cell[s->line[i].first] == number)
            return true;
    return false;
}

void script_prune(script *s)
{
    size_t kept = 0;
    for (size_t i = 0; !s->failed && i < s->lines; i++) {
        /* those that are kept lie before i, so the rest is still whole */
        if (s->line[i].call != CALL_MARK || is_released(s, i))
            s->line[kept++] = s->line[i];
    }
    if (!s->failed) /* otherwise the last line may lack cells */
        s->lines = kept;
}

/* Room for `more` behind `count` elements; false if there is none, which is remembered. */
static bool grow(script *s, void **memory, size_t size, size_t count, size_t more, size_t *room)
{
    if (s->failed || count + more <= *room)
        return !s->failed;
    const size_t wanted = 2 * (count + more) + 64;
    void *larger = realloc(*memory, wanted * size);
    s->failed = !larger;
    if (!larger)
        return false;
    *memory = larger;
    *room = wanted;
    return true;
}

void script_begin(script *s, script_call call)
{
    if (!grow(s, (void **)&s->line, sizeof *s->line, s->lines, 1, &s->line_room))
        return;
    s->line[s->lines++] = (script_line){.call = call, .first = s->cells};
}

void script_put(script *s, int64_t cell)
{
    size_t vary_room = s->cell_room;
    if (!grow(s, (void **)&s->vary, 1, s->cells, 1, &vary_room) ||
        !grow(s, (void **)&s->cell, sizeof *s->cell, s->cells, 1, &s->cell_room))
        return;
    s->vary[s->cells] = VARY_NOT;
    s->cell[s->cells++] = cell;
}

void script_put_text(script *s, const char *text)
{
    const size_t bytes = text ? strlen(text) + 1 : 0;
    if (!text) {
        script_put(s, -1);
        return;
    }
    if (!grow(s, (void **)&s->text, 1, s->texts, bytes, &s->text_room))
        return;
    memcpy(s->text + s->texts, text, bytes);
    script_put(s, (int64_t)s->texts);
    s->texts += bytes;
}

flux1_status script_end(script *s, flux1_error *err) { return s->failed ? error_oom(err, 0, "a recording") : FLUX1_OK; }

size_t script_add_values(script *s, const int64_t *v, int n)
{
    if (!grow(s, (void **)&s->value, sizeof *s->value, s->values, (size_t)n, &s->value_room))
        return 0;
    memcpy(s->value + s->values, v, (size_t)n * sizeof *v);
    s->values += (size_t)n;
    return s->values - (size_t)n;
}
