/* Shapes of a mesh, as texts, and a rank's place in one. */
#include "mesh/exchange.h"

#include <stdlib.h>
#include <string.h>

/* Two numbers around `separator`; what follows them, or NULL. */
static const char *parse_pair(const char *text, char separator, long *a, long *b)
{
    char *end;
    if (*text < '0' || *text > '9')
        return NULL;
    *a = strtol(text, &end, 10);
    if (*end != separator || end[1] < '0' || end[1] > '9')
        return NULL;
    *b = strtol(end + 1, &end, 10);
    return end;
}

static flux1_status parse_factor(const char *name, const char *text, const mesh_config *c, int *factor, int *axis,
                                 flux1_error *err)
{
    long f, a;
    if (!text || !*text)
        return FLUX1_OK;
    const char *end = parse_pair(text, '@', &f, &a);
    if (!end || *end || a > 1)
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

/* "RxC", or "RxCspAtpB": then *named, and the axes of sp and tp are A and B. */
static flux1_status parse_shape(const char *text, mesh_config *c, bool *named, flux1_error *err)
{
    long rows, cols;
    const char *end = parse_pair(text, 'x', &rows, &cols);
    *named = end && *end;
    bool axes = *named && strlen(end) == 6 && !strncmp(end, "sp", 2) && (end[2] == '0' || end[2] == '1') &&
                !strncmp(end + 3, "tp", 2) && (end[5] == '0' || end[5] == '1');
    if (!end || rows < 1 || cols < 1 || (*named && !axes))
        return error_set(err, FLUX1_ERR_ARGUMENT,
                         "mesh \"%s\": it should be ROWSxCOLUMNS, such as 2x4, or with the axes of sp and tp, such as "
                         "2x4sp0tp1",
                         text);
    if (rows > MESH_RANKS_MAX || cols > MESH_RANKS_MAX || rows * cols > MESH_RANKS_MAX)
        return error_set(err, FLUX1_ERR_LIMIT, "mesh \"%s\": at most %d devices", text, MESH_RANKS_MAX);
    c->shape[0] = (int)rows;
    c->shape[1] = (int)cols;
    if (!*named)
        return FLUX1_OK;
    c->sp_axis = end[2] - '0';
    c->tp_axis = end[5] - '0';
    return c->sp_axis != c->tp_axis
               ? FLUX1_OK
               : error_set(err, FLUX1_ERR_ARGUMENT,
                           "mesh \"%s\": sp and tp both take axis %d; give them different axes", text, c->sp_axis);
}

/* A name such as 2x4sp0tp1 gives each axis whole. */
static flux1_status contradict(const char *shape, const char *name, const char *text, flux1_error *err)
{
    return error_set(err, FLUX1_ERR_ARGUMENT, "mesh \"%s\" and %s \"%s\" contradict each other; leave one out", shape,
                     name, text);
}

flux1_status mesh_parse(const char *shape, const char *sp, const char *tp, mesh_config *out, flux1_error *err)
{
    mesh_config c = {.shape = {1, 1}, .sp_axis = 0, .tp_axis = 1};
    bool named = false;
    if (shape && *shape)
        TRY(parse_shape(shape, &c, &named, err));
    const mesh_config name = c;
    TRY(parse_factor("sp", sp, &c, &c.sp, &c.sp_axis, err));
    TRY(parse_factor("tp", tp, &c, &c.tp, &c.tp_axis, err));
    bool sp_given = c.sp > 0, tp_given = c.tp > 0;
    if (named && sp_given && (c.sp_axis != name.sp_axis || c.sp != c.shape[c.sp_axis]))
        return contradict(shape, "sp", sp, err);
    if (named && tp_given && (c.tp_axis != name.tp_axis || c.tp != c.shape[c.tp_axis]))
        return contradict(shape, "tp", tp, err);
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
    m->exchange = &exchange_bytes;
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
