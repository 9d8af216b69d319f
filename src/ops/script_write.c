#include "ops/script_text.h"

#include "base/half.h"
#include "ops/script_names.h"

#include <inttypes.h>

static const char *const vary_names[] = {[VARY_SP] = "sp", [VARY_TP] = "tp", [VARY_ALL] = "all"};

typedef struct writing {
    const script *s;
    builder *out;
    size_t cell; /* of the field that is written */
} writing;

static int64_t value_of(const writing *w, size_t cell, int i)
{
    const script *s = w->s;
    return s->vary[cell] == VARY_NOT ? s->cell[cell] : s->value[s->cell[cell] + i];
}

/* `sign`: whether a value is there, in place of the value. */
static void put_number(const writing *w, size_t cell, bool sign)
{
    const script_vary vary = (script_vary)w->s->vary[cell];
    if (vary == VARY_NOT) {
        builder_format(w->out, "%" PRId64, w->s->cell[cell]);
        return;
    }
    for (int i = 0; i < script_width(w->s, vary); i++) {
        const int64_t v = value_of(w, cell, i);
        builder_format(w->out, "%s%s%" PRId64, i ? "," : vary_names[vary], i ? "" : "(", sign ? v >= 0 : v);
    }
    builder_add(w->out, ")");
}

static bool is(const writing *w, size_t cell, int64_t value)
{
    return w->s->vary[cell] == VARY_NOT && w->s->cell[cell] == value;
}

static void put_window(const writing *w, size_t from, size_t count, const char *open, const char *close)
{
    if (is(w, from, 0) && is(w, count, -1))
        return;
    builder_add(w->out, open);
    put_number(w, from, false);
    builder_add(w->out, "+");
    put_number(w, count, false);
    builder_add(w->out, close);
}

static void put_act(const writing *w)
{
    const size_t at = w->cell;
    const bool varies = w->s->vary[at + CELL_ACT] != VARY_NOT;
    int64_t id = value_of(w, at + CELL_ACT, 0);
    for (int i = 1; varies && id < 0; i++)
        id = value_of(w, at + CELL_ACT, i);
    builder_format(w->out, "a%" PRId64, id);
    if (varies) {
        builder_add(w->out, "?");
        put_number(w, at + CELL_ACT, true);
    }
    const int64_t part = value_of(w, at + CELL_PART, 0);
    builder_add(w->out, part == PART_TEXT ? ".text" : part == PART_IMAGE ? ".image" : "");
    put_window(w, at + CELL_ROW, at + CELL_ROWS, "[", "]");
    put_window(w, at + CELL_COL, at + CELL_COLS, ":", "");
}

/* Whether the field has its default, which is not written. */
static bool left_out(const writing *w, script_kind kind)
{
    switch (kind) {
    case KIND_ZERO:
    case KIND_F: return is(w, w->cell, 0);
    case KIND_OPT:
    case KIND_OPTW:
    case KIND_TEXT: return is(w, w->cell, -1);
    default: return false;
    }
}

static void put_value(const writing *w, script_kind kind)
{
    const int64_t v = w->s->cell[w->cell];
    switch (kind) {
    case KIND_ACT:
    case KIND_OPT: put_act(w); return;
    case KIND_NEW: builder_format(w->out, "a%" PRId64, v); return;
    case KIND_WEIGHT:
    case KIND_OPTW: builder_format(w->out, "w%" PRId64, v); return;
    case KIND_BLOCK: builder_format(w->out, "b%" PRId64, v); return;
    case KIND_MARK: builder_format(w->out, "m%" PRId64, v); return;
    case KIND_REAL: builder_float(w->out, f32_from_bits((uint32_t)v)); return;
    case KIND_TEXT: builder_add(w->out, script_text(w->s, v)); return;
    case KIND_INT:
    case KIND_ZERO: put_number(w, w->cell, false); return;
    case KIND_ROLE:
    case KIND_WROLE:
    case KIND_F:
    case KIND_AXIS: builder_add(w->out, script_words(kind)[v]); return;
    }
}

void script_write(const script *s, size_t line, builder *out)
{
    const script_line *l = &s->line[line];
    const script_entry *e = &script_entries[l->call];
    writing w = {.s = s, .out = out, .cell = l->first};
    for (int i = 0; i < l->rank_count; i++)
        builder_format(out, "%s%" PRId64, i ? "," : "@", s->value[l->ranks + (size_t)i]);
    builder_format(out, "%s%s", l->rank_count ? " " : "", e->name);
    for (const script_field *f = e->field; f->key; f++) {
        if (!left_out(&w, f->kind)) {
            builder_format(out, " %s=", f->key);
            put_value(&w, f->kind);
        }
        w.cell += (size_t)script_cells_of(f->kind);
    }
    builder_add(out, "\n");
}
