#include "model/vae.h"
#include "model/vae_bands.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_BYTES 128

struct vae_decoder {
    vae_side h;
};
struct vae_encoder {
    vae_side h;
};

/* ---- weights ---- */

static flux1_status load_resnet(loader *l, const char *base, int64_t in, int64_t out, resnet *r)
{
    char name[NAME_BYTES];
    *r = (resnet){.in = in, .out = out};
    snprintf(name, sizeof name, "%s.norm1", base);
    TRY(load_norm(l, name, in, true, &r->norm1));
    snprintf(name, sizeof name, "%s.conv1", base);
    TRY(load_conv(l, name, out, in, 3, &r->conv1));
    snprintf(name, sizeof name, "%s.norm2", base);
    TRY(load_norm(l, name, out, true, &r->norm2));
    snprintf(name, sizeof name, "%s.conv2", base);
    TRY(load_conv(l, name, out, out, 3, &r->conv2));
    snprintf(name, sizeof name, "%s.conv_shortcut", base);
    return in == out ? FLUX1_OK : load_conv(l, name, out, in, 1, &r->shortcut);
}

static flux1_status load_attention(loader *l, const char *base, int64_t c, attention_block *a)
{
    static const char *const names[] = {"group_norm", "to_q", "to_k", "to_v", "to_out.0"};
    char n[5][NAME_BYTES];
    weight_recipe all = {0}, all_bias = {0}, w, b, joined;
    for (int i = 0; i < 5; i++)
        snprintf(n[i], sizeof n[i], "%s.%s", base, names[i]);
    TRY(load_norm(l, n[0], c, true, &a->norm));
    for (int i = 0; i < 3; i++) { /* whole on every rank: this attention is cut by pixels, not by heads */
        char full[NAME_BYTES + 8];
        snprintf(full, sizeof full, "%s.weight", n[1 + i]);
        TRY(load_recipe(l, WEIGHT_LINEAR, full, 2, (int64_t[]){c, c}, &w));
        if (i)
            TRY(recipe_stack(&all, &w, &joined, l->m->err));
        all = i ? joined : w;
        snprintf(full, sizeof full, "%s.bias", n[1 + i]);
        TRY(load_recipe(l, WEIGHT_VECTOR, full, 1, &c, &b));
        if (i)
            TRY(recipe_stack(&all_bias, &b, &joined, l->m->err));
        all_bias = i ? joined : b;
    }
    all.role = WEIGHT_QKV;
    all.heads = 1;
    TRY(ops_prepare(l->m->o, l->block, &all, &all_bias, &a->qkv.w));
    return load_linear(l, n[4], c, c, true, LINEAR_WHOLE, 1, &a->out);
}

static flux1_status load_mid(loader *l, vae_side *h)
{
    char name[NAME_BYTES];
    int64_t c = h->config.channels[h->config.levels - 1];
    TRY(load_block(l, &h->mid, "%s.mid_block", h->side));
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%s.mid_block.resnets.%d", h->side, i);
        TRY(load_resnet(l, name, c, c, &h->mid_resnet[i]));
    }
    snprintf(name, sizeof name, "%s.mid_block.attentions.0", h->side);
    return h->config.mid_attention ? load_attention(l, name, c, &h->attention) : FLUX1_OK;
}

/* Level i in the order it is passed: `kind` "up" or "down", channels in → out, `resampler` the name of the change of
 * resolution. */
static flux1_status load_level(loader *l, vae_side *h, int64_t i, const char *kind, int64_t in, int64_t out,
                               bool resample)
{
    char name[NAME_BYTES];
    level *v = &h->level[i];
    v->resnets = h->resnets + i * h->per_level;
    snprintf(v->name, sizeof v->name, "%s.%s_blocks.%d", h->side, kind, (int)i);
    TRY(load_block(l, &v->block, "%s", v->name));
    for (int64_t r = 0; r < h->per_level; r++) {
        snprintf(name, sizeof name, "%s.resnets.%d", v->name, (int)r);
        TRY(load_resnet(l, name, r ? out : in, out, &v->resnets[r]));
    }
    if (!resample)
        return FLUX1_OK;
    snprintf(name, sizeof name, "%s.%ssamplers.0.conv", v->name, kind);
    return load_conv(l, name, out, out, 3, &v->resample);
}

static flux1_status load_side(loader *l, vae_side *h, const vae_config *c, const char *side, int64_t per_level)
{
    h->config = *c;
    h->side = side;
    h->per_level = per_level;
    h->resnets = calloc((size_t)(c->levels * per_level), sizeof *h->resnets);
    return h->resnets ? FLUX1_OK : error_oom(l->m->err, 0, "the VAE");
}

static flux1_status load_ends(loader *l, vae_side *h, int64_t in, int64_t first, int64_t last, int64_t out)
{
    char name[NAME_BYTES];
    TRY(load_block(l, &h->ends, "%s", h->side));
    snprintf(name, sizeof name, "%s.conv_in", h->side);
    TRY(load_conv(l, name, first, in, 3, &h->conv_in));
    snprintf(name, sizeof name, "%s.conv_norm_out", h->side);
    TRY(load_norm(l, name, last, true, &h->norm_out));
    snprintf(name, sizeof name, "%s.conv_out", h->side);
    return load_conv(l, name, out, last, 3, &h->conv_out);
}

flux1_status vae_decoder_create(loader *l, const vae_config *c, vae_decoder **out)
{
    vae_decoder *v = calloc(1, sizeof *v);
    if (!v)
        return error_oom(l->m->err, sizeof *v, "the VAE");
    *out = v;
    vae_side *h = &v->h;
    l->made = &h->blocks;
    int64_t last = c->levels - 1;
    TRY(load_side(l, h, c, "decoder", c->layers + 1));
    TRY(load_ends(l, h, c->latent_channels, c->channels[last], c->channels[0], c->out_channels));
    if (c->post_quant_conv)
        TRY(load_conv(l, "post_quant_conv", c->latent_channels, c->latent_channels, 1, &h->quant));
    TRY(load_mid(l, h));
    h->names[0] = "decoder.conv_in";
    h->names[1] = "decoder.mid_block";
    for (int64_t i = 0; i < c->levels; i++) {
        TRY(load_level(l, h, i, "up", c->channels[i ? c->levels - i : last], c->channels[last - i], i < last));
        h->names[2 + i] = h->level[i].name;
    }
    h->names[2 + c->levels] = "decoder.conv_out";
    return FLUX1_OK;
}

flux1_status vae_encoder_create(loader *l, const vae_config *c, vae_encoder **out)
{
    vae_encoder *v = calloc(1, sizeof *v);
    if (!v)
        return error_oom(l->m->err, sizeof *v, "the VAE");
    *out = v;
    vae_side *h = &v->h;
    l->made = &h->blocks;
    int64_t last = c->levels - 1;
    TRY(load_side(l, h, c, "encoder", c->layers));
    TRY(load_ends(l, h, c->in_channels, c->channels[0], c->channels[last], 2 * c->latent_channels));
    if (c->quant_conv)
        TRY(load_conv(l, "quant_conv", 2 * c->latent_channels, 2 * c->latent_channels, 1, &h->quant));
    h->names[0] = "encoder.conv_in";
    for (int64_t i = 0; i < c->levels; i++) {
        TRY(load_level(l, h, i, "down", c->channels[i ? i - 1 : 0], c->channels[i], i < last));
        h->names[1 + i] = h->level[i].name;
    }
    TRY(load_mid(l, h));
    h->names[1 + c->levels] = "encoder.mid_block";
    h->names[2 + c->levels] = "encoder.conv_out";
    return FLUX1_OK;
}

static void free_side(vae_side *h)
{
    block_list_free(&h->blocks);
    free(h->resnets);
}

void vae_decoder_destroy(vae_decoder *v)
{
    if (!v)
        return;
    free_side(&v->h);
    free(v);
}

void vae_encoder_destroy(vae_encoder *v)
{
    if (!v)
        return;
    free_side(&v->h);
    free(v);
}

/* ---- running ---- */

static flux1_status plane_like(const vae_run *r, act a, int64_t channels, act *out)
{
    return vae_plane(r, a.buffer->shape.height, a.buffer->shape.width, channels, out);
}

/* out = conv(silu(norm(in))) (+ residual) */
static flux1_status norm_conv(const vae_run *r, act in, const weight *scale, const weight *conv, act residual, act out)
{
    const norm_before n = vae_norm(r, scale, (act){0});
    return mesh_norm_conv(r->m, &r->p, in, &n, conv, residual, out);
}

static flux1_status run_resnet(const vae_run *r, const resnet *w, act in, act out)
{
    ops *o = r->m->o;
    size_t mark = ops_mark(o);
    act hidden, shortcut = in;
    TRY(plane_like(r, in, w->out, &hidden));
    TRY(norm_conv(r, in, w->norm1, w->conv1, (act){0}, hidden));
    if (w->shortcut) {
        TRY(plane_like(r, in, w->out, &shortcut));
        TRY(mesh_conv(r->m, &r->p, in, w->shortcut, 1, (act){0}, shortcut));
    }
    TRY(norm_conv(r, hidden, w->norm2, w->conv2, shortcut, out));
    ops_release(o, mark);
    return FLUX1_OK;
}

/* out = x + to_out(attention(group_norm(x))), one head over all pixels. */
static flux1_status run_attention(const vae_run *r, const attention_block *w, act x, act out)
{
    ops *o = r->m->o;
    size_t mark = ops_mark(o);
    int64_t c = x.cols, rows = act_rows(x);
    attention_args a = {.heads = 1, .scale = (float)(1 / sqrt((double)c))};
    act normed, in, qkv, att, y;
    TRY(plane_like(r, x, c, &normed));
    TRY(ops_create(o, ACT_LINEAR, shape_rows(1, 0, rows, c), &in));
    TRY(ops_create(o, ACT_HEADS, shape_rows(1, 0, rows, 3 * c), &qkv));
    TRY(ops_create(o, ACT_LINEAR, shape_rows(1, 0, rows, c), &att));
    TRY(ops_create(o, ACT_RESIDUAL, shape_rows(1, 0, rows, c), &y));
    TRY(mesh_group_norm(r->m, x, r->h->config.groups, w->norm, VAE_NORM_EPS, false, normed));
    TRY(ops_cast(o, normed, in));
    TRY(ops_linear(o, in, &w->qkv, &(epilogue){0}, qkv));
    TRY(mesh_plane_attention(r->m, &r->p, r->latent_width, act_columns(qkv, 0, c), act_columns(qkv, c, c),
                             act_columns(qkv, 2 * c, c), &a, att));
    TRY(ops_linear(o, att, &w->out, &(epilogue){0}, y));
    TRY(ops_add(o, x, 1, (act){0}, y, out));
    ops_release(o, mark);
    return FLUX1_OK;
}

static flux1_status run_mid(const vae_run *r, act x, act out)
{
    ops *o = r->m->o;
    const vae_side *h = r->h;
    size_t mark = ops_mark(o);
    act a, b;
    TRY(plane_like(r, x, x.cols, &a));
    TRY(plane_like(r, x, x.cols, &b));
    TRY(held_begin(o, &h->mid));
    TRY(run_resnet(r, &h->mid_resnet[0], x, a));
    if (h->config.mid_attention)
        TRY(run_attention(r, &h->attention, a, b));
    TRY(run_resnet(r, &h->mid_resnet[1], h->config.mid_attention ? b : a, out));
    TRY(held_end(o, &h->mid));
    ops_release(o, mark);
    return FLUX1_OK;
}

/* The level's resnets, through two planes in turn; *last is the one with the result. */
static flux1_status run_resnets(const vae_run *r, const level *v, act x, act *last)
{
    act turn[2];
    for (int i = 0; i < 2; i++)
        TRY(plane_like(r, x, v->resnets[0].out, &turn[i]));
    for (int64_t i = 0; i < r->h->per_level; i++) {
        TRY(run_resnet(r, &v->resnets[i], x, turn[i % 2]));
        x = turn[i % 2];
    }
    *last = x;
    return FLUX1_OK;
}

/* A level of the decoder: out is twice as high and wide, except at the last. */
static flux1_status run_up(const vae_run *r, const level *v, act x, act out)
{
    ops *o = r->m->o;
    size_t mark = ops_mark(o);
    act last;
    TRY(held_begin(o, &v->block));
    TRY(run_resnets(r, v, x, &last));
    if (v->resample) {
        TRY(mesh_upsample_conv(r->m, &r->p, last, v->resample, out));
    } else {
        TRY(ops_cast(o, last, out));
    }
    TRY(held_end(o, &v->block));
    ops_release(o, mark);
    return FLUX1_OK;
}

/* A level of the encoder: out is half as high and wide, except at the last. */
static flux1_status run_down(const vae_run *r, const level *v, act x, act out)
{
    ops *o = r->m->o;
    size_t mark = ops_mark(o);
    act last;
    TRY(held_begin(o, &v->block));
    TRY(run_resnets(r, v, x, &last));
    if (v->resample)
        TRY(mesh_conv(r->m, &r->p, last, v->resample, 2, (act){0}, out));
    else
        TRY(ops_cast(o, last, out));
    TRY(held_end(o, &v->block));
    ops_release(o, mark);
    return FLUX1_OK;
}

/* A host image's rows [begin, begin + count) of `width` pixels as a plane. */
static flux1_status upload_plane(const vae_run *r, const char *name, const tensor *host, int64_t begin, act out)
{
    const act_shape *s = &out.buffer->shape;
    tensor rows = {.type = DTYPE_F32, .dims = 3, .shape = {1, s->height * s->width, s->cols}, .data = host->data};
    if (host->data) /* a dry run has shapes only */
        rows.data = (float *)host->data + begin * s->width * s->cols;
    return ops_upload_input(r->m->o, name, begin * s->width, &rows, out);
}

static flux1_status run_out(const vae_run *r, act x, act out)
{
    ops *o = r->m->o;
    TRY(held_begin(o, &r->h->ends));
    TRY(norm_conv(r, x, r->h->norm_out, r->h->conv_out, (act){0}, out));
    return held_end(o, &r->h->ends);
}

/* conv_in and the middle: out has the latent's size and the first level's channels. */
static flux1_status run_bottom(const vae_run *r, const tensor *latent, act out)
{
    mesh *m = r->m;
    ops *o = m->o;
    const vae_side *parts = r->h;
    int64_t rows = r->p.mine.count, channels = parts->config.latent_channels;
    size_t mark = ops_mark(o);
    act z, x;
    TRY(vae_plane(r, rows, r->latent_width, channels, &z));
    TRY(upload_plane(r, "latent_plane", latent, r->p.mine.begin, z));
    TRY(held_begin(o, &parts->ends));
    if (parts->quant) {
        TRY(vae_plane(r, rows, r->latent_width, channels, &x));
        TRY(mesh_conv(m, &r->p, z, parts->quant, 1, (act){0}, x));
        z = x;
    }
    TRY(plane_like(r, out, out.cols, &x));
    TRY(mesh_conv(m, &r->p, z, parts->conv_in, 1, (act){0}, x));
    TRY(held_end(o, &parts->ends));
    TRY(vae_done(r, x, 0));
    TRY(run_mid(r, x, out));
    ops_release(o, mark);
    return vae_done(r, out, 1);
}

/* The levels and conv_out, plane by plane. */
static flux1_status run_levels(const vae_run *r, act x, act out)
{
    const vae_side *parts = r->h;
    int64_t rows = r->p.mine.count, width = r->latent_width;
    act next;
    for (int64_t i = 0; i < parts->config.levels; i++) {
        const level *l = &parts->level[i];
        if (l->resample) {
            rows *= 2;
            width *= 2;
        }
        TRY(vae_plane(r, rows, width, l->resnets[0].out, &next));
        TRY(run_up(r, l, x, next));
        x = next;
        TRY(vae_done(r, x, 2 + (int)i));
    }
    return run_out(r, x, out);
}

flux1_status vae_decode(vae_decoder *v, mesh *m, const tensor *latent, int64_t h, int64_t w, int64_t band,
                        tensor *pixels, model_tick *tick, void *user)
{
    ops *o = m->o;
    const vae_side *parts = &v->h;
    const vae_config *c = &parts->config;
    vae_run r = {.m = m, .h = parts, .p = mesh_plane_cut(m, h), .latent_width = w, .tick = tick, .user = user};
    size_t mark = ops_mark(o), inner;
    int64_t scale = vae_scale(c);
    act x, out;
    TRY(vae_plane(&r, r.p.mine.count * scale, w * scale, c->out_channels, &out));
    inner = ops_mark(o);
    if (band > 0) {
        TRY(vae_bands_decode(&r, band, run_bottom, latent, out));
    } else {
        TRY(vae_plane(&r, r.p.mine.count, w, c->channels[c->levels - 1], &x));
        TRY(run_bottom(&r, latent, x));
        TRY(run_levels(&r, x, out));
    }
    ops_release(o, inner);
    TRY(vae_done(&r, out, 2 + (int)c->levels));
    TRY(finite_report(m, "vae", parts->names, ""));
    TRY(mesh_plane_collect(m, &r.p, out, h * scale * w * scale, pixels));
    ops_release(o, mark);
    return FLUX1_OK;
}

flux1_status vae_encode(vae_encoder *v, mesh *m, const tensor *pixels, int64_t height, int64_t width, tensor *moments,
                        model_tick *tick, void *user)
{
    ops *o = m->o;
    const vae_side *parts = &v->h;
    const vae_config *c = &parts->config;
    int64_t scale = vae_scale(c), h = height / scale, w = width / scale;
    vae_run r = {.m = m, .h = parts, .p = mesh_plane_cut(m, h), .latent_width = w, .tick = tick, .user = user};
    size_t mark = ops_mark(o);
    bool last = r.p.mine.count > 0 &&
                r.p.mine.begin + r.p.mine.count == h; /* rows that no latent row stands for belong to the last rank */
    int64_t rows = r.p.mine.count * scale + (last ? height - h * scale : 0);
    act x, next;
    TRY(vae_plane(&r, rows, width, c->in_channels, &x));
    TRY(upload_plane(&r, "pixels", pixels, r.p.mine.begin * scale, x));
    TRY(vae_plane(&r, rows, width, c->channels[0], &next));
    TRY(held_begin(o, &parts->ends));
    TRY(mesh_conv(m, &r.p, x, parts->conv_in, 1, (act){0}, next));
    TRY(held_end(o, &parts->ends));
    x = next;
    TRY(vae_done(&r, x, 0));
    for (int64_t i = 0; i < c->levels; i++) {
        const level *l = &parts->level[i];
        if (l->resample) {
            rows /= 2;
            width /= 2;
        }
        TRY(vae_plane(&r, rows, width, l->resnets[0].out, &next));
        TRY(run_down(&r, l, x, next));
        x = next;
        TRY(vae_done(&r, x, 1 + (int)i));
    }
    TRY(vae_plane(&r, rows, width, x.cols, &next));
    TRY(run_mid(&r, x, next));
    TRY(vae_done(&r, next, 1 + (int)c->levels));
    TRY(vae_plane(&r, rows, width, 2 * c->latent_channels, &x));
    TRY(run_out(&r, next, x));
    if (parts->quant) {
        TRY(vae_plane(&r, rows, width, 2 * c->latent_channels, &next));
        TRY(held_begin(o, &parts->ends));
        TRY(mesh_conv(m, &r.p, x, parts->quant, 1, (act){0}, next));
        TRY(held_end(o, &parts->ends));
        x = next;
    }
    TRY(vae_done(&r, x, 2 + (int)c->levels));
    TRY(finite_report(m, "vae", parts->names, ""));
    TRY(mesh_plane_collect(m, &r.p, x, h * w, moments));
    ops_release(o, mark);
    return FLUX1_OK;
}
