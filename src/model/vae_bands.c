#include "model/vae_bands.h"

#include "base/checked.h"

typedef struct bands {
    const vae_run *r;
    int64_t rows;  /* of a band */
    int64_t scale; /* of the level: its rows for one of the latent's */
} bands;

/* ---- rows of a plane ---- */

/* A plane, or one that is twice as high and wide as x: what `resample` makes of it. */
typedef struct source {
    act x;
    const weight *resample; /* NULL: x itself */
    act top, bottom;        /* the neighbours' rows beside x, to resample; left out at the picture's border */
    int64_t height, width, channels;
} source;

static source stored(act x)
{
    const act_shape *s = &x.buffer->shape;
    return (source){.x = x, .height = s->height, .width = s->width, .channels = x.cols};
}

/* Rows, as a plane of their own. */
static flux1_status plane_of(const vae_run *r, act rows, int64_t width, act *out)
{
    TRY(vae_plane(r, act_rows(rows) / width, width, rows.cols, out));
    return ops_cast(r->m->o, rows, *out);
}

static flux1_status resampled(const bands *b, act x, const weight *resample, source *out)
{
    const act_shape *s = &x.buffer->shape;
    const int64_t width = s->width, edge = s->height ? width : 0;
    act first, last;
    *out =
        (source){.x = x, .resample = resample, .height = 2 * s->height, .width = 2 * width, .channels = resample->rows};
    if (b->r->m->ranks == 1)
        return FLUX1_OK;
    TRY(plane_of(b->r, act_slice(x, 0, edge), width, &first));
    TRY(plane_of(b->r, act_slice(x, act_rows(x) - edge, edge), width, &last));
    return mesh_plane_halo(b->r->m, &b->r->p, first, last, &out->top, &out->bottom);
}

/* Rows [first, first + count) of a source that is resampled, by the rows of x that they come from. */
static flux1_status resample_rows(const vae_run *r, const source *s, int64_t first, int64_t count, act *out)
{
    ops *o = r->m->o;
    const int64_t half = s->width / 2, begin = first / 2, end = (first + count + 1) / 2, n = end - begin;
    act whole, part, top = s->top, bottom = s->bottom;
    TRY(vae_plane(r, 2 * n, s->width, s->channels, &whole));
    size_t mark = ops_mark(o);
    if (begin > 0)
        TRY(plane_of(r, act_slice(s->x, (begin - 1) * half, half), half, &top));
    if (2 * end < s->height)
        TRY(plane_of(r, act_slice(s->x, end * half, half), half, &bottom));
    TRY(plane_of(r, act_slice(s->x, begin * half, n * half), half, &part));
    TRY(ops_upsample_conv(o, part, top, bottom, s->resample, whole));
    ops_release(o, mark);
    *out = act_slice(whole, (first - 2 * begin) * s->width, count * s->width);
    return FLUX1_OK;
}

/* Rows [first, first + count), at least one. */
static flux1_status source_rows(const vae_run *r, const source *s, int64_t first, int64_t count, act *out)
{
    if (s->resample)
        return resample_rows(r, s, first, count, out);
    *out = act_slice(s->x, first * s->width, count * s->width);
    return FLUX1_OK;
}

/* ---- statistics ---- */

/* Of a source that is not there as a whole: a set for each band, as many sets on each rank. */
static flux1_status band_stats(const bands *b, const source *s, int64_t sets, act out)
{
    ops *o = b->r->m->o;
    const int64_t groups = b->r->h->config.groups;
    for (int64_t i = 0; i < sets; i++) {
        const int64_t first = i64_min(s->height, i * b->rows), count = i64_min(b->rows, s->height - first);
        size_t mark = ops_mark(o);
        act rows = act_slice(s->x, 0, 0);
        if (count > 0)
            TRY(source_rows(b->r, s, first, count, &rows));
        TRY(ops_group_stats(o, rows, groups, act_slice(out, i * groups, groups)));
        ops_release(o, mark);
    }
    return FLUX1_OK;
}

/* *out: of all ranks' rows. */
static flux1_status source_stats(const bands *b, const source *s, act *out)
{
    mesh *m = b->r->m;
    const int64_t groups = b->r->h->config.groups, most = cut_of(b->r->p.total, m->ranks, 0).count * b->scale,
                  sets = s->resample ? i64_ceil_div(most, b->rows) : 1;
    act mine;
    TRY(ops_create(m->o, ACT_STATS, shape_rows(1, 0, sets * groups, 3), &mine));
    if (s->resample)
        TRY(band_stats(b, s, sets, mine));
    else
        TRY(ops_group_stats(m->o, s->x, groups, mine));
    return mesh_plane_stats(m, mine, out);
}

/* ---- norm and convolution ---- */

typedef struct band_conv {
    const bands *b;
    source from;
    const weight *norm, *conv;
    act residual;           /* of out's size, may be out; or left out */
    act out;                /* a plane that is there whole */
    act beside;             /* or left out: becomes the source itself, or what `shortcut` makes of it */
    const weight *shortcut; /* NULL: none */
    act stats, top, bottom; /* the neighbours' rows */
} band_conv;

static act rows_of(act whole, int64_t width, int64_t first, int64_t count)
{
    return act_present(whole) ? act_slice(whole, first * width, count * width) : whole;
}

/* This rank's row `first` for a neighbour; of a rank without rows, a plane without rows. */
static flux1_status edge_row(const band_conv *j, int64_t first, act *out)
{
    act row;
    if (j->from.height == 0)
        return vae_plane(j->b->r, 0, j->from.width, j->from.channels, out);
    TRY(source_rows(j->b->r, &j->from, first, 1, &row));
    return plane_of(j->b->r, row, j->from.width, out);
}

static flux1_status exchange_edges(band_conv *j)
{
    const vae_run *r = j->b->r;
    act first, last;
    if (r->m->ranks == 1)
        return FLUX1_OK;
    TRY(edge_row(j, 0, &first));
    TRY(edge_row(j, j->from.height - 1, &last));
    return mesh_plane_halo(r->m, &r->p, first, last, &j->top, &j->bottom);
}

/* rows: of the band, with one more above and below where this rank has it. */
static flux1_status convolve(const band_conv *j, act rows, int64_t first, int64_t count)
{
    const vae_run *r = j->b->r;
    ops *o = r->m->o;
    const int64_t w = j->from.width, skip = first > 0 ? w : 0;
    const act top = first > 0 ? act_slice(rows, 0, w) : j->top,
              bottom = first + count < j->from.height ? act_slice(rows, skip + count * w, w) : j->bottom;
    const norm_before n = vae_norm(r, j->norm, j->stats);
    size_t mark = ops_mark(o);
    act out;
    TRY(vae_plane(r, count, w, j->out.cols, &out));
    TRY(ops_norm_conv(o, act_slice(rows, skip, count * w), top, bottom, &n, j->conv,
                      rows_of(j->residual, w, first, count), out));
    TRY(ops_cast(o, out, rows_of(j->out, w, first, count)));
    ops_release(o, mark);
    return FLUX1_OK;
}

static flux1_status put_beside(const band_conv *j, act rows, int64_t first, int64_t count)
{
    const vae_run *r = j->b->r;
    ops *o = r->m->o;
    const act to = rows_of(j->beside, j->from.width, first, count);
    act in, out;
    if (!j->shortcut)
        return ops_cast(o, rows, to);
    size_t mark = ops_mark(o);
    TRY(plane_of(r, rows, j->from.width, &in));
    TRY(vae_plane(r, count, j->from.width, to.cols, &out));
    TRY(ops_conv(o, in, (act){0}, (act){0}, j->shortcut, 1, (act){0}, out));
    TRY(ops_cast(o, out, to));
    ops_release(o, mark);
    return FLUX1_OK;
}

static flux1_status one_band(const band_conv *j, int64_t first, int64_t count)
{
    const vae_run *r = j->b->r;
    const source *s = &j->from;
    const int64_t above = first > 0, below = first + count < s->height;
    size_t mark = ops_mark(r->m->o);
    act rows;
    TRY(source_rows(r, s, first - above, above + count + below, &rows));
    TRY(convolve(j, rows, first, count));
    if (act_present(j->beside))
        TRY(put_beside(j, act_slice(rows, above * s->width, count * s->width), first, count));
    ops_release(r->m->o, mark);
    return FLUX1_OK;
}

/* out = conv(silu(norm(from))) (+ residual), and what comes beside it. */
static flux1_status norm_conv(band_conv *j)
{
    ops *o = j->b->r->m->o;
    size_t mark = ops_mark(o);
    TRY(source_stats(j->b, &j->from, &j->stats));
    TRY(exchange_edges(j));
    for (int64_t first = 0; first < j->from.height; first += j->b->rows)
        TRY(one_band(j, first, i64_min(j->b->rows, j->from.height - first)));
    ops_release(o, mark);
    return FLUX1_OK;
}

/* ---- levels ---- */

/* out may be the source itself. */
static flux1_status run_resnet(const bands *b, const resnet *w, const source *from, act out)
{
    ops *o = b->r->m->o;
    size_t mark = ops_mark(o);
    const bool in_place = !from->resample && from->x.buffer == out.buffer;
    act hidden;
    TRY(vae_plane(b->r, from->height, from->width, w->out, &hidden));
    TRY(norm_conv(&(band_conv){.b = b,
                               .from = *from,
                               .norm = w->norm1,
                               .conv = w->conv1,
                               .out = hidden,
                               .beside = in_place ? (act){0} : out,
                               .shortcut = w->shortcut}));
    TRY(norm_conv(
        &(band_conv){.b = b, .from = stored(hidden), .norm = w->norm2, .conv = w->conv2, .residual = out, .out = out}));
    ops_release(o, mark);
    return FLUX1_OK;
}

static flux1_status run_resnets(const bands *b, const level *l, const source *from, act out)
{
    const source own = stored(out);
    for (int64_t i = 0; i < b->r->h->per_level; i++)
        TRY(run_resnet(b, &l->resnets[i], i ? &own : from, out));
    return FLUX1_OK;
}

/* A level's input, from the output of the level before; the last one's is the largest plane of all, and never there as
 * a whole. */
static flux1_status level_input(const bands *b, const level *before, act x, bool last, source *out)
{
    const vae_run *r = b->r;
    ops *o = r->m->o;
    source from;
    act whole;
    if (last)
        return resampled(b, x, before->resample, out);
    TRY(vae_plane(r, 2 * x.buffer->shape.height, 2 * x.buffer->shape.width, before->resample->rows, &whole));
    size_t mark = ops_mark(o);
    TRY(resampled(b, x, before->resample, &from));
    for (int64_t first = 0; first < from.height; first += b->rows) {
        const int64_t count = i64_min(b->rows, from.height - first);
        size_t inner = ops_mark(o);
        act rows;
        TRY(source_rows(r, &from, first, count, &rows));
        TRY(ops_cast(o, rows, rows_of(whole, from.width, first, count)));
        ops_release(o, inner);
    }
    ops_release(o, mark);
    *out = stored(whole);
    return FLUX1_OK;
}

/* Level i > 0: x is the output of the one before. */
static flux1_status run_level(const bands *b, int64_t i, act x, act out)
{
    const vae_side *h = b->r->h;
    const level *l = &h->level[i], *before = &h->level[i - 1];
    ops *o = b->r->m->o;
    source from;
    size_t mark = ops_mark(o);
    TRY(held_begin(o, &before->block));
    TRY(held_begin(o, &l->block));
    TRY(level_input(b, before, x, i + 1 == h->config.levels, &from));
    TRY(run_resnets(b, l, &from, out));
    TRY(held_end(o, &l->block));
    TRY(held_end(o, &before->block));
    ops_release(o, mark);
    return vae_done(b->r, out, 2 + (int)i);
}

static flux1_status run_first_level(const bands *b, vae_bottom *bottom, const tensor *latent, act out)
{
    const vae_run *r = b->r;
    const vae_config *c = &r->h->config;
    ops *o = r->m->o;
    size_t mark = ops_mark(o);
    act x;
    TRY(vae_plane(r, r->p.mine.count, r->latent_width, c->channels[c->levels - 1], &x));
    TRY(bottom(r, latent, x));
    TRY(held_begin(o, &r->h->level[0].block));
    const source from = stored(x);
    TRY(run_resnets(b, &r->h->level[0], &from, out));
    TRY(held_end(o, &r->h->level[0].block));
    ops_release(o, mark);
    return vae_done(r, out, 2);
}

static flux1_status level_output(const vae_run *r, int64_t i, act *out)
{
    return vae_plane(r, r->p.mine.count << i, r->latent_width << i, r->h->level[i].resnets[0].out, out);
}

/* The levels' outputs lie one on the other, that of the level before last undermost: each is given back when the next
 * one is done, and the last level's takes the place of them all but its input. */
flux1_status vae_bands_decode(const vae_run *r, int64_t band, vae_bottom *bottom, const tensor *latent, act out)
{
    const vae_side *h = r->h;
    const int64_t last = h->config.levels - 1;
    ops *o = r->m->o;
    size_t mark[VAE_LEVELS_MAX];
    act y[VAE_LEVELS_MAX];
    for (int64_t i = last ? last - 1 : 0; i >= 0; i--) {
        mark[i] = ops_mark(o);
        TRY(level_output(r, i, &y[i]));
    }
    TRY(run_first_level(&(bands){r, band, 1}, bottom, latent, y[0]));
    for (int64_t i = 1; i <= last; i++) {
        if (i == last)
            TRY(level_output(r, i, &y[i]));
        TRY(run_level(&(bands){r, band, (int64_t)1 << i}, i, y[i - 1], y[i]));
        if (i < last)
            ops_release(o, mark[i - 1]);
    }
    TRY(held_begin(o, &h->ends));
    TRY(norm_conv(&(band_conv){.b = &(bands){r, band, (int64_t)1 << last},
                               .from = stored(y[last]),
                               .norm = h->norm_out,
                               .conv = h->conv_out,
                               .out = out}));
    return held_end(o, &h->ends);
}
