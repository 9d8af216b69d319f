/* test_checkops --bench, test_checkops_cuda --gpu --bench: each entry at true sizes (DiT at 1024², VAE at 512²), one
 * line an entry: milliseconds, and GFLOP/s for products or GB/s (bytes read and written once) for the rest. Included by
 * those programs, whose helpers it uses; stored_bf16 says how an activation is stored. */
#ifndef CHECKOPS_BENCH_H
#define CHECKOPS_BENCH_H

enum { TOKENS = 4608, WIDTH = 3072, HEADS = 24, DIM = 128 };

typedef struct timing {
    act x[6];
    weight *w[2];
    void *bytes;
} timing;

static act plain(run *r, act_role role, act_shape shape)
{
    act a;
    ok(r, ops_create(r->o, role, shape, &a));
    fill(r, a, false);
    return a;
}
static act tokens(run *r, act_role role, int64_t cols)
{
    return plain(r, role, shape_rows(1, 512, TOKENS - 512, cols));
}
static act square_plane(run *r, int64_t size, int64_t channels)
{
    return plain(r, ACT_PLANE, shape_plane(1, size, size, channels));
}
static weight *plain_weight(run *r, weight_role role, int dims, const int64_t *shape, int kernel)
{
    weight_recipe w = recipe_whole(role, weight_tensor(r, DTYPE_BF16, dims, shape));
    w.kernel = kernel;
    return prepare(r, &w, false);
}
#define MATRIX(r, n, k) plain_weight(r, WEIGHT_LINEAR, 2, (int64_t[]){n, k}, 0)
#define VECTOR(r, n) plain_weight(r, WEIGHT_VECTOR, 1, (int64_t[]){n}, 0)

static double cells(act a) { return (double)act_batch(a) * (double)act_rows(a) * (double)a.cols; }
static double bytes_of(act a) { return cells(a) * (stored_bf16(a) ? 2 : 4); }

static double set_linear(run *r, timing *t)
{
    t->x[0] = tokens(r, ACT_LINEAR, WIDTH), t->x[1] = tokens(r, ACT_LINEAR, WIDTH), t->w[0] = MATRIX(r, WIDTH, WIDTH);
    return 2.0 * TOKENS * WIDTH * WIDTH;
}
static flux1_status do_linear(ops *o, const timing *t)
{
    return ops_product(o, t->x[0], t->w[0], &(epilogue){.f = ACTIVATION_GELU_TANH}, t->x[1]);
}

static double set_linear_row(run *r, timing *t)
{
    t->x[0] = plain(r, ACT_TABLE, shape_rows(1, 0, 4, WIDTH)),
    t->x[1] = plain(r, ACT_TABLE, shape_rows(1, 0, 4, 6 * WIDTH)), t->w[0] = MATRIX(r, 6 * WIDTH, WIDTH);
    return 2.0 * 6 * WIDTH * WIDTH;
}
static flux1_status do_linear_row(ops *o, const timing *t)
{
    return ops_product(o, t->x[0], t->w[0], &(epilogue){0}, t->x[1]);
}

static double set_attention(run *r, timing *t)
{
    t->x[0] = tokens(r, ACT_HEADS, 3 * WIDTH), t->x[1] = tokens(r, ACT_HEADS, WIDTH);
    return 4.0 * TOKENS * TOKENS * WIDTH;
}
static flux1_status do_attention(ops *o, const timing *t)
{
    act q = act_columns(t->x[0], 0, WIDTH), k = act_columns(q, WIDTH, WIDTH), v = act_columns(k, WIDTH, WIDTH);
    return ops_attention(o, q, k, v, &(attention_args){.heads = HEADS, .scale = 0.088f}, t->x[1]);
}

/* T5's, with its bias. */
static double set_attention_bias(run *r, timing *t)
{
    t->x[0] = plain(r, ACT_HEADS, shape_rows(1, 512, 0, 3 * 4096)),
    t->x[1] = plain(r, ACT_HEADS, shape_rows(1, 512, 0, 4096)),
    t->x[2] = plain(r, ACT_TABLE, shape_rows(1, 0, 64, 1023));
    return 4.0 * 512 * 512 * 4096;
}
static flux1_status do_attention_bias(ops *o, const timing *t)
{
    act q = act_columns(t->x[0], 0, 4096), k = act_columns(q, 4096, 4096), v = act_columns(k, 4096, 4096);
    return ops_attention(o, q, k, v, &(attention_args){.heads = 64, .scale = 1, .bias = t->x[2]}, t->x[1]);
}

static double set_merge(run *r, timing *t)
{
    t->x[0] = tokens(r, ACT_PARTIAL, WIDTH), t->x[1] = tokens(r, ACT_STATS, HEADS),
    t->x[2] = tokens(r, ACT_PARTIAL, WIDTH), t->x[3] = tokens(r, ACT_STATS, HEADS);
    return 3 * bytes_of(t->x[0]);
}
static flux1_status do_merge(ops *o, const timing *t)
{
    return ops_attention_merge(o, HEADS, t->x[0], t->x[1], t->x[2], t->x[3]);
}

static double set_conv(run *r, timing *t)
{
    t->x[0] = square_plane(r, 256, 256), t->x[1] = square_plane(r, 256, 256),
    t->w[0] = plain_weight(r, WEIGHT_CONV, 4, (int64_t[]){256, 256, 3, 3}, 3);
    return 2.0 * 256 * 256 * 256 * 256 * 9;
}
static flux1_status do_conv(ops *o, const timing *t)
{
    return ops_conv(o, t->x[0], (act){0}, (act){0}, t->w[0], 1, (act){0}, t->x[1]);
}

static double set_layer_norm(run *r, timing *t)
{
    t->x[0] = tokens(r, ACT_RESIDUAL, WIDTH), t->x[1] = tokens(r, ACT_LINEAR, WIDTH), t->x[2] = table(r, 1, WIDTH),
    t->x[3] = table(r, 1, WIDTH);
    return bytes_of(t->x[0]) + bytes_of(t->x[1]);
}
static flux1_status do_layer_norm(ops *o, const timing *t)
{
    return ops_layer_norm(o, t->x[0], NULL, t->x[2], t->x[3], 1e-6f, t->x[1]);
}

/* The end of a block and the next one's norm; the product itself has little to do. */
static double set_linear_norm(run *r, timing *t)
{
    t->x[0] = tokens(r, ACT_LINEAR, 64), t->x[1] = tokens(r, ACT_RESIDUAL, WIDTH),
    t->x[2] = tokens(r, ACT_LINEAR, WIDTH);
    for (int i = 3; i < 6; i++)
        t->x[i] = table(r, 1, WIDTH);
    t->w[0] = MATRIX(r, WIDTH, 64);
    return bytes_of(t->x[0]) + 2 * bytes_of(t->x[1]) + 3 * bytes_of(t->x[2]);
}
static flux1_status do_linear_norm(ops *o, const timing *t)
{
    norm_behind norm = {.shift = t->x[3], .scale = t->x[4], .eps = 1e-6f, .out = t->x[2]};
    return ops_linear_norm(o, t->x[0], &(linear_weight){.w = t->w[0]},
                           &(epilogue){.gate = t->x[5], .residual = t->x[1]}, t->x[1], &norm);
}

static double set_rms_norm(run *r, timing *t)
{
    t->x[0] = tokens(r, ACT_RESIDUAL, WIDTH), t->x[1] = tokens(r, ACT_LINEAR, WIDTH), t->w[0] = VECTOR(r, WIDTH);
    return bytes_of(t->x[0]) + bytes_of(t->x[1]);
}
static flux1_status do_rms_norm(ops *o, const timing *t) { return ops_rms_norm(o, t->x[0], t->w[0], 1e-6f, t->x[1]); }

static double set_rope(run *r, timing *t)
{
    t->x[0] = tokens(r, ACT_HEADS, WIDTH), t->x[1] = tokens(r, ACT_ROPE, DIM), t->w[0] = VECTOR(r, DIM);
    return 2 * bytes_of(t->x[0]);
}
static flux1_status do_rope(ops *o, const timing *t)
{
    return ops_head_norm_rope(o, t->x[0], HEADS, t->w[0], 1e-6f, t->x[1]);
}

static double set_group_norm(run *r, timing *t)
{
    t->x[0] = square_plane(r, 512, 128), t->x[1] = square_plane(r, 512, 128), t->w[0] = VECTOR(r, 128);
    return 2 * bytes_of(t->x[0]) + bytes_of(t->x[1]);
}
static flux1_status do_group_norm(ops *o, const timing *t)
{
    return ops_group_norm(o, t->x[0], 32, t->w[0], 1e-6f, true, t->x[1]);
}

static double set_upsample(run *r, timing *t)
{
    t->x[0] = square_plane(r, 256, 256), t->x[1] = square_plane(r, 512, 256);
    return bytes_of(t->x[0]) + bytes_of(t->x[1]);
}
static flux1_status do_upsample(ops *o, const timing *t) { return ops_upsample(o, t->x[0], t->x[1]); }

static double set_activate(run *r, timing *t)
{
    t->x[0] = tokens(r, ACT_LINEAR, 4 * WIDTH), t->x[1] = tokens(r, ACT_LINEAR, 4 * WIDTH);
    return bytes_of(t->x[0]) + bytes_of(t->x[1]);
}
static flux1_status do_activate(ops *o, const timing *t)
{
    return ops_activate(o, ACTIVATION_GELU_TANH, t->x[0], (act){0}, t->x[1]);
}

static double set_add(run *r, timing *t)
{
    t->x[0] = tokens(r, ACT_RESIDUAL, WIDTH), t->x[1] = tokens(r, ACT_LINEAR, WIDTH), t->x[2] = table(r, 1, WIDTH);
    return 2 * bytes_of(t->x[0]) + bytes_of(t->x[1]);
}
static flux1_status do_add(ops *o, const timing *t) { return ops_add(o, t->x[0], 1, t->x[2], t->x[1], t->x[0]); }

static double set_cast(run *r, timing *t)
{
    t->x[0] = tokens(r, ACT_RESIDUAL, WIDTH), t->x[1] = tokens(r, ACT_LINEAR, WIDTH);
    return bytes_of(t->x[0]) + bytes_of(t->x[1]);
}
static flux1_status do_cast(ops *o, const timing *t) { return ops_cast(o, t->x[0], t->x[1]); }
static flux1_status do_finite(ops *o, const timing *t) { return ops_finite(o, t->x[0], 0); }

static double set_pack(run *r, timing *t)
{
    t->x[0] = tokens(r, ACT_HEADS, WIDTH);
    ok(r, ops_exchange(r->o, ops_pack_bytes(r->o, t->x[0], TOKENS), &t->bytes));
    return 2 * bytes_of(t->x[0]);
}
static flux1_status do_pack(ops *o, const timing *t) { return ops_pack(o, t->x[0], 0, TOKENS, t->bytes); }

static const struct {
    const char *name;
    double (*set)(run *r, timing *t); /* returns FLOPs, or bytes */
    flux1_status (*once)(ops *o, const timing *t);
    bool flops;
} timings[] = {
    {"linear 4608 x 3072 x 3072, gelu", set_linear, do_linear, true},
    {"linear 4 x 18432 x 3072 (weights)", set_linear_row, do_linear_row, false},
    {"attention 4608, 24 x 128", set_attention, do_attention, true},
    {"attention 512, 64 x 64, bias", set_attention_bias, do_attention_bias, true},
    {"attention_merge 4608 x 3072", set_merge, do_merge, false},
    {"conv 3x3 256^2, 256 -> 256", set_conv, do_conv, true},
    {"layer_norm 4608 x 3072, modulated", set_layer_norm, do_layer_norm, false},
    {"linear_norm 4608 x 3072 x 64, modulated", set_linear_norm, do_linear_norm, false},
    {"rms_norm 4608 x 3072", set_rms_norm, do_rms_norm, false},
    {"head_norm_rope 4608, 24 x 128", set_rope, do_rope, false},
    {"group_norm 512^2 x 128, silu", set_group_norm, do_group_norm, false},
    {"upsample 256^2 x 256", set_upsample, do_upsample, false},
    {"activate 4608 x 12288, gelu", set_activate, do_activate, false},
    {"add 4608 x 3072, gated", set_add, do_add, false},
    {"cast 4608 x 3072", set_cast, do_cast, false},
    {"finite 4608 x 3072", set_cast, do_finite, false},
    {"pack 4608 x 3072", set_pack, do_pack, false},
};

enum { TIMINGS = sizeof timings / sizeof *timings };

/* Seconds of entry i on an open run, which is closed: the best of as many turns as fit half a second, at least 3, each
 * of `calls` calls and a wait. */
static double time_entry(run *r, size_t i, int calls, double *work)
{
    timing t = {0};
    ok(r, ops_reserve(r->o, (size_t)2 << 30));
    *work = timings[i].set(r, &t);
    double best = INFINITY, begin = seconds(), last = begin;
    for (int turn = 0; turn < 4 || seconds() - begin < 0.5; turn++) {
        for (int k = 0; k < calls; k++)
            ok(r, timings[i].once(r->o, &t));
        ok(r, ops_sync(r->o));
        double here = seconds();
        if (turn > 0 && here - last < best) /* the first touches memory */
            best = here - last;
        last = here;
    }
    close_run(r);
    return best / calls;
}

#endif
