/* One script of all ranks': their lists are gone through side by side. Where all have the same line, but for numbers,
 * it becomes one line; lines that only some have stand before the next that all have. */
#include "ops/script.h"

#include <stdlib.h>
#include <string.h>

enum { LOOK = 96 }; /* lines ahead in which the next common one is looked for */

typedef struct folding {
    const script *rank;
    int ranks;
    size_t *at, *until; /* [ranks]: the next line, and where lines of its own end */
    int64_t *v, *one;   /* [ranks]: a cell of each; scratch */
    int *first;         /* [ranks]: of a place, the first rank that has the line */
    bool *in;           /* [ranks]: has the line that is written */
    script *out;
} folding;

static bool same_text(const script *a, int64_t x, const script *b, int64_t y)
{
    const char *s = script_text(a, x), *t = script_text(b, y);
    return s && t ? strcmp(s, t) == 0 : s == t;
}

static bool same_field(script_kind kind, const script *a, const int64_t *x, const script *b, const int64_t *y)
{
    switch (kind) {
    case KIND_INT:
    case KIND_ZERO: return true;
    case KIND_TEXT: return same_text(a, *x, b, *y);
    case KIND_OPT:
        if (x[CELL_ACT] < 0 || y[CELL_ACT] < 0)
            return true;
        return x[CELL_ACT] == y[CELL_ACT] && x[CELL_PART] == y[CELL_PART];
    case KIND_ACT: return x[CELL_ACT] == y[CELL_ACT] && x[CELL_PART] == y[CELL_PART];
    default: return *x == *y;
    }
}

/* Whether they differ in nothing but numbers. */
static bool alike(const script *a, size_t i, const script *b, size_t k)
{
    if (i >= a->lines || k >= b->lines || a->line[i].call != b->line[k].call)
        return false;
    const int64_t *x = a->cell + a->line[i].first, *y = b->cell + b->line[k].first;
    for (const script_field *f = script_entries[a->line[i].call].field; f->key; f++) {
        if (!same_field(f->kind, a, x, b, y))
            return false;
        x += script_cells_of(f->kind);
        y += script_cells_of(f->kind);
    }
    return true;
}

/* Where every rank has this line of rank r: in f->until. */
static bool found_by_all(folding *f, int r, size_t line)
{
    for (int q = 0; q < f->ranks; q++) {
        size_t k = f->at[q];
        while (k < f->at[q] + LOOK && !alike(&f->rank[r], line, &f->rank[q], k))
            k++;
        if (k == f->at[q] + LOOK)
            return false;
        f->until[q] = k;
    }
    return true;
}

/* The next line that all have; where there is none, each rank's next one is its own. */
static void find_common(folding *f)
{
    for (size_t d = 0; d < LOOK; d++)
        for (int r = 0; r < f->ranks; r++)
            if (f->at[r] + d < f->rank[r].lines && found_by_all(f, r, f->at[r] + d))
                return;
    for (int r = 0; r < f->ranks; r++)
        f->until[r] = f->at[r] < f->rank[r].lines ? f->at[r] + 1 : f->at[r];
}

/* Where a rank stands in the values of a varying cell. */
static int place_of(const folding *f, script_vary vary, int rank)
{
    const int tp = f->out->tp;
    return vary == VARY_NOT ? 0 : vary == VARY_TP ? rank % tp : vary == VARY_SP ? rank / tp : rank;
}

/* Whether ranks of one place have one value, and then out[place]; where no rank has the line, any rank's. */
static bool gather(const folding *f, script_vary vary, int64_t *out)
{
    const int n = script_width(f->out, vary);
    int any = -1;
    for (int i = 0; i < n; i++)
        f->first[i] = -1;
    for (int r = 0; r < f->ranks; r++) {
        int *first = &f->first[place_of(f, vary, r)];
        if (!f->in[r])
            continue;
        any = any < 0 ? r : any;
        *first = *first < 0 ? r : *first;
        if (f->v[r] != f->v[*first])
            return false;
    }
    for (int i = 0; i < n; i++)
        out[i] = f->v[f->first[i] < 0 ? any : f->first[i]];
    return true;
}

/* A cell of f->v, one a rank. */
static void put_values(folding *f)
{
    static const script_vary ways[] = {VARY_NOT, VARY_TP, VARY_SP, VARY_ALL};
    script *s = f->out;
    size_t i = 0;
    while (!gather(f, ways[i], f->one))
        i++;
    const script_vary vary = ways[i];
    script_put(s, vary == VARY_NOT ? f->one[0] : (int64_t)script_add_values(s, f->one, script_width(s, vary)));
    if (!s->failed)
        s->vary[s->cells - 1] = (unsigned char)vary;
}

static int64_t cell_of(const folding *f, int rank, size_t cell)
{
    const script *s = &f->rank[rank];
    return s->cell[s->line[f->at[rank]].first + cell];
}

/* The first rank that has the line, and in it the activation at cell `operand`; the first with the line if none has. */
static int shown_by(const folding *f, size_t operand)
{
    int first = f->ranks;
    for (int r = f->ranks - 1; r >= 0; r--)
        if (f->in[r] && cell_of(f, r, operand) >= 0)
            first = r;
    for (int r = 0; first == f->ranks; r++)
        if (f->in[r])
            first = r;
    return first;
}

/* Counts of a window: −1 where it is everything on all ranks, otherwise numbers (script.h). */
static void settle_whole(folding *f)
{
    bool whole = true;
    for (int r = 0; r < f->ranks; r++)
        whole = whole && f->v[r] < 0;
    for (int r = 0; r < f->ranks; r++)
        f->v[r] = whole ? -1 : f->v[r] < 0 ? -1 - f->v[r] : f->v[r];
}

/* A rank that leaves the activation out says nothing of its window, one without the line nothing at all: there stands
 * what another rank has. */
static void put_act(folding *f, size_t cell)
{
    const int shown = shown_by(f, cell);
    for (size_t i = 0; i < SCRIPT_ACT_CELLS; i++) {
        for (int r = 0; r < f->ranks; r++) {
            const bool has = f->in[r] && (i == CELL_ACT || cell_of(f, r, cell) >= 0);
            f->v[r] = cell_of(f, has ? r : shown, cell + i);
        }
        if (i == CELL_ROWS || i == CELL_COLS)
            settle_whole(f);
        put_values(f);
    }
}

static void put_field(folding *f, int from, script_kind kind, size_t cell)
{
    if (kind == KIND_ACT || kind == KIND_OPT) {
        put_act(f, cell);
        return;
    }
    if (kind == KIND_TEXT) {
        script_put_text(f->out, script_text(&f->rank[from], cell_of(f, from, cell)));
        return;
    }
    for (int r = 0; r < f->ranks; r++)
        f->v[r] = cell_of(f, f->in[r] ? r : from, cell);
    put_values(f);
}

/* The line of the ranks that f->in names. */
static void put_line(folding *f)
{
    int from = 0, n = 0;
    while (!f->in[from])
        from++;
    const script_call call = f->rank[from].line[f->at[from]].call;
    size_t cell = 0;
    script_begin(f->out, call);
    for (const script_field *x = script_entries[call].field; x->key; x++) {
        put_field(f, from, x->kind, cell);
        cell += (size_t)script_cells_of(x->kind);
    }
    for (int r = 0; r < f->ranks; r++)
        if (f->in[r])
            f->v[n++] = r;
    if (n == f->ranks || f->out->failed)
        return;
    script_line *l = &f->out->line[f->out->lines - 1];
    l->ranks = script_add_values(f->out, f->v, n);
    l->rank_count = n;
}

static void step_over(folding *f)
{
    for (int r = 0; r < f->ranks; r++)
        f->at[r] += f->in[r];
}

/* What ranks have before the next common line: those that have the same share a line. */
static void put_own(folding *f)
{
    for (int r = 0; r < f->ranks; r++)
        while (f->at[r] < f->until[r]) {
            for (int q = 0; q < f->ranks; q++)
                f->in[q] =
                    q == r || (q > r && f->at[q] < f->until[q] && alike(&f->rank[r], f->at[r], &f->rank[q], f->at[q]));
            put_line(f);
            step_over(f);
        }
}

static bool is_common(const folding *f)
{
    for (int r = 0; r < f->ranks; r++)
        if (!alike(&f->rank[0], f->at[0], &f->rank[r], f->at[r]))
            return false;
    return true;
}

static bool at_end(const folding *f)
{
    for (int r = 0; r < f->ranks; r++)
        if (f->at[r] < f->rank[r].lines)
            return false;
    return true;
}

static void fold(folding *f)
{
    while (!at_end(f) && !f->out->failed) {
        if (is_common(f)) {
            for (int r = 0; r < f->ranks; r++)
                f->in[r] = true;
            put_line(f);
            step_over(f);
        } else {
            find_common(f);
            put_own(f);
        }
    }
}

flux1_status script_fold(const script *rank, int sp, int tp, script *out, flux1_error *err)
{
    const size_t n = (size_t)sp * (size_t)tp;
    *out = (script){.sp = sp, .tp = tp};
    folding f = {.rank = rank, .ranks = sp * tp, .out = out};
    size_t *places = calloc(2 * n, sizeof *places);
    f.v = calloc(2 * n, sizeof *f.v);
    f.one = f.v ? f.v + n : NULL;
    f.first = calloc(n, sizeof *f.first);
    f.in = calloc(n, sizeof *f.in);
    f.at = places;
    f.until = places ? places + n : NULL;
    out->failed = !places || !f.v || !f.first || !f.in;
    if (!out->failed)
        fold(&f);
    free(places);
    free(f.v);
    free(f.first);
    free(f.in);
    return script_end(out, err);
}
