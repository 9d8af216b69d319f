/* Shapes of a mesh, as texts, and a rank's place in one. */
#include "mesh/mesh.h"

#include <stdlib.h>

/* Two positive integers around `separator`, and nothing else. */
static bool parse_pair(const char *text, char separator, long *a, long *b)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    *a = strtol(text, &end, 10);
    if (*end != separator || end[1] < '0' || end[1] > '9')
        return false;
    *b = strtol(end + 1, &end, 10);
    return *end == '\0';
}

static flux1_status parse_factor(const char *name, const char *text, const mesh_config *c, int *factor, int *axis,
                                 flux1_error *err)
{
    long f, a;
    if (!text || !*text)
        return FLUX1_OK;
    if (!parse_pair(text, '@', &f, &a) || a > 1)
        return error_set(err, FLUX1_ERR_ARGUMENT, "%s \"%s\": it should be FACTOR@AXIS with axis 0 or 1, such as 2@0",
                         name, text);
    if (f != 1 && f != c->shape[a])
        return error_set(err, FLUX1_ERR_ARGUMENT,
                         "%s \"%s\": axis %ld of mesh %dx%d has %d devices, so the factor should be %d or 1", name,
                         text, a, c->shape[0], c->shape[1], c->shape[a], c->shape[a]);
    *factor = (int)f;
    *axis = (int)a;
    return FLUX1_OK;
}

flux1_status mesh_parse(const char *shape, const char *sp, const char *tp, mesh_config *out, flux1_error *err)
{
    mesh_config c = {.shape = {1, 1}};
    long rows, cols;
    if (shape && *shape) {
        if (!parse_pair(shape, 'x', &rows, &cols) || rows < 1 || cols < 1)
            return error_set(err, FLUX1_ERR_ARGUMENT, "mesh \"%s\": it should be ROWSxCOLUMNS, such as 2x4", shape);
        if (rows > MESH_RANKS_MAX || cols > MESH_RANKS_MAX || rows * cols > MESH_RANKS_MAX)
            return error_set(err, FLUX1_ERR_LIMIT, "mesh \"%s\": at most %d devices", shape, MESH_RANKS_MAX);
        c.shape[0] = (int)rows;
        c.shape[1] = (int)cols;
    }
    c.sp_axis = 0;
    c.tp_axis = 1;
    c.sp = c.tp = 0;
    TRY(parse_factor("sp", sp, &c, &c.sp, &c.sp_axis, err));
    TRY(parse_factor("tp", tp, &c, &c.tp, &c.tp_axis, err));
    bool sp_given = c.sp > 0, tp_given = c.tp > 0;
    if (!tp_given && sp_given)
        c.tp_axis = 1 - c.sp_axis;
    if (!sp_given && tp_given)
        c.sp_axis = 1 - c.tp_axis;
    c.sp = sp_given ? c.sp : c.shape[c.sp_axis];
    c.tp = tp_given ? c.tp : c.shape[c.tp_axis];
    if (c.sp_axis == c.tp_axis && c.sp > 1 && c.tp > 1)
        return error_set(err, FLUX1_ERR_ARGUMENT, "sp and tp both take axis %d of the mesh; give them different axes",
                         c.sp_axis);
    *out = c;
    return FLUX1_OK;
}

void mesh_set_rank(mesh *m, const mesh_config *c, int rank)
{
    m->sp = c->sp;
    m->tp = c->tp;
    m->ranks = mesh_ranks(c);
    m->rank = rank;
    m->sp_rank = rank / c->tp;
    m->tp_rank = rank % c->tp;
}

mesh mesh_flat(const mesh *m)
{
    mesh flat = *m;
    flat.sp = 1;
    flat.sp_rank = 0;
    flat.sp_comm = NULL; /* no form uses it where sp is 1 */
    flat.tp = m->ranks;
    flat.tp_rank = m->rank;
    flat.tp_comm = m->all;
    return flat;
}
