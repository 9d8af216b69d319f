/* How rows, heads and weights are cut among ranks. */
#include "mesh/mesh.h"

#include "base/checked.h"

cut cut_of(int64_t n, int size, int rank)
{
    int64_t each = i64_ceil_div(n, size), begin = i64_min(n, each * rank);
    return (cut){begin, i64_min(n, begin + each) - begin};
}

cut mesh_span(const mesh *m, int64_t total) { return cut_of(total, m->sp, m->sp_rank); }

cut mesh_rows(const mesh *m, int64_t total)
{
    cut span = mesh_span(m, total), mine = cut_of(span.count, m->tp, m->tp_rank);
    mine.begin += span.begin;
    return mine;
}

weight_recipe mesh_column_slice(const mesh *m, const weight_recipe *r, int64_t unit)
{
    cut mine = cut_of(r->rows / unit, m->tp, m->tp_rank);
    return recipe_rows(r, mine.begin * unit, mine.count * unit);
}

weight_recipe mesh_row_slice(const mesh *m, const weight_recipe *r, int64_t unit)
{
    cut mine = cut_of(r->cols / unit, m->tp, m->tp_rank);
    return recipe_cols(r, mine.begin * unit, mine.count * unit);
}
