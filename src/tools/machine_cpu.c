/* One trial an operation: the backend's own kernel on a shape of FLUX's at 512², timed; what it computes and moves
 * comes from the event of the same call on the dry backend. */
#include "tools/machine_cpu.h"

#include "base/checked.h"
#include "base/pool.h"
#include "ops/int8.h"
#include "tools/peak.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/* ---- trials ---- */

#if defined(__SANITIZE_ADDRESS__) /* nobody wants the rates of these kernels, which are some thirty times as slow */
enum { WIDTH = 768, TOKENS = 320, SIDE = 64 };
#else
enum { WIDTH = 3072, TOKENS = 1280, SIDE = 128 };
#endif

enum { ROWS = 512, LEAST = 64, HEADS = 6, HEAD = 128, CHANNELS = 128, GROUPS = 32, ACTS = 4 };

/* One trial's operands on one backend, dry or real. */
typedef struct rig {
    ops *o;
    store *weights;
    block *b;
    act a[ACTS];
    weight *w, *other;
} rig;

static flux1_status make(rig *r, int i, act_role role, act_shape s) { return ops_create(r->o, role, s, &r->a[i]); }

static flux1_status prepare(rig *r, weight_role role, int64_t rows, int64_t cols, int kernel, weight **out)
{
    const store_tensor *t;
    const int64_t shape[4] = {rows, cols, kernel, kernel};
    TRY(store_claim(r->weights, rows > CHANNELS ? "trial.weight" : "trial.other.weight", kernel ? 4 : 2, shape, &t,
                    r->o->err));
    weight_recipe recipe = recipe_whole(role, t);
    recipe.kernel = kernel;
    recipe.int8 = role == WEIGHT_LINEAR; /* where the configuration asks for it */
    return ops_prepare(r->o, r->b, &recipe, NULL, out);
}

static flux1_status set_up_rows_of_product(rig *r, int64_t rows)
{
    TRY(make(r, 0, ACT_LINEAR, shape_rows(1, 0, rows, WIDTH)));
    TRY(make(r, 1, ACT_LINEAR, shape_rows(1, 0, rows, WIDTH)));
    return prepare(r, WEIGHT_LINEAR, WIDTH, WIDTH, 0, &r->w);
}
static flux1_status set_up_product(rig *r) { return set_up_rows_of_product(r, ROWS); }
static flux1_status set_up_few(rig *r) { return set_up_rows_of_product(r, ROWS / 8); }
static flux1_status product(rig *r) { return ops_product(r->o, r->a[0], r->w, &(epilogue){0}, r->a[1]); }

/* Next to nothing: what is left of its time is what any call takes. */
static flux1_status set_up_least(rig *r)
{
    TRY(make(r, 0, ACT_LINEAR, shape_rows(1, 0, LEAST, LEAST)));
    TRY(make(r, 1, ACT_LINEAR, shape_rows(1, 0, LEAST, LEAST)));
    return prepare(r, WEIGHT_LINEAR, LEAST, LEAST, 0, &r->w);
}

static flux1_status set_up_attention(rig *r)
{
    for (int i = 0; i < 3; i++)
        TRY(make(r, i, ACT_HEADS, shape_rows(1, 0, TOKENS, HEADS * HEAD)));
    return make(r, 3, ACT_LINEAR, shape_rows(1, 0, TOKENS, HEADS * HEAD));
}
static flux1_status attention(rig *r)
{
    const attention_args a = {.heads = HEADS, .scale = 0.0884f, .int8 = true}; /* as for products' weights */
    return ops_attention(r->o, r->a[0], r->a[1], r->a[2], &a, r->a[3]);
}

/* Many channels of a small plane and few of a large one, with as many FLOPs: a decoder has both. */
static flux1_status set_up_conv(rig *r)
{
    TRY(make(r, 0, ACT_PLANE, shape_plane(1, SIDE, SIDE, CHANNELS)));
    TRY(make(r, 1, ACT_PLANE, shape_plane(1, SIDE, SIDE, CHANNELS)));
    TRY(make(r, 2, ACT_PLANE, shape_plane(1, SIDE / 4, SIDE / 4, 4 * CHANNELS)));
    TRY(make(r, 3, ACT_PLANE, shape_plane(1, SIDE / 4, SIDE / 4, 4 * CHANNELS)));
    TRY(prepare(r, WEIGHT_CONV, CHANNELS, CHANNELS, 3, &r->w));
    return prepare(r, WEIGHT_CONV, 4 * CHANNELS, 4 * CHANNELS, 3, &r->other);
}
static flux1_status conv(rig *r)
{
    TRY(ops_conv(r->o, r->a[0], (act){0}, (act){0}, r->w, 1, (act){0}, r->a[1]));
    return ops_conv(r->o, r->a[2], (act){0}, (act){0}, r->other, 1, (act){0}, r->a[3]);
}

static flux1_status set_up_rows(rig *r)
{
    TRY(make(r, 0, ACT_RESIDUAL, shape_rows(1, 0, 2 * ROWS, WIDTH)));
    TRY(make(r, 1, ACT_PARTIAL, shape_rows(1, 0, 2 * ROWS, WIDTH)));
    return make(r, 2, ACT_LINEAR, shape_rows(1, 0, 2 * ROWS, WIDTH));
}
static flux1_status add(rig *r) { return ops_add(r->o, r->a[0], 1, (act){0}, r->a[1], r->a[0]); }
static flux1_status layer_norm(rig *r)
{
    return ops_layer_norm(r->o, r->a[0], NULL, (act){0}, (act){0}, 1e-6f, r->a[2]);
}
static flux1_status cast(rig *r) { return ops_cast(r->o, r->a[1], r->a[2]); }

static flux1_status set_up_rope(rig *r)
{
    TRY(make(r, 0, ACT_HEADS, shape_rows(1, 0, 2 * ROWS, WIDTH)));
    return make(r, 1, ACT_ROPE, shape_rows(1, 0, 2 * ROWS, HEAD));
}
static flux1_status head_norm_rope(rig *r)
{
    return ops_head_norm_rope(r->o, r->a[0], WIDTH / HEAD, NULL, 1e-6f, r->a[1]);
}

static flux1_status set_up_merge(rig *r)
{
    TRY(make(r, 0, ACT_PARTIAL, shape_rows(1, 0, TOKENS, HEADS * HEAD)));
    TRY(make(r, 1, ACT_PARTIAL, shape_rows(1, 0, TOKENS, HEADS * HEAD)));
    TRY(make(r, 2, ACT_STATS, shape_rows(1, 0, TOKENS, HEADS)));
    return make(r, 3, ACT_STATS, shape_rows(1, 0, TOKENS, HEADS));
}
static flux1_status merge(rig *r) { return ops_attention_merge(r->o, HEADS, r->a[0], r->a[2], r->a[1], r->a[3]); }

static flux1_status set_up_plane(rig *r)
{
    TRY(make(r, 0, ACT_PLANE, shape_plane(1, 2 * SIDE, 2 * SIDE, CHANNELS)));
    TRY(make(r, 1, ACT_PLANE, shape_plane(1, SIDE, SIDE, CHANNELS)));
    TRY(make(r, 2, ACT_STATS, shape_rows(1, 0, GROUPS, 3)));
    return prepare(r, WEIGHT_VECTOR, CHANNELS, 1, 0, &r->w);
}
static flux1_status group_stats(rig *r) { return ops_group_stats(r->o, r->a[0], GROUPS, r->a[2]); }
static flux1_status group_apply(rig *r)
{
    return ops_group_apply(r->o, r->a[0], r->a[2], GROUPS, r->w, 1e-6f, true, r->a[0]);
}
static flux1_status upsample(rig *r) { return ops_upsample(r->o, r->a[1], r->a[0]); }

/* `also`: operations that are taken to go at the same rate. */
typedef struct trial {
    const char *operation;
    flux1_status (*set_up)(rig *r), (*call)(rig *r);
    const char *also[4];
} trial;

static const trial TRIALS[] = {
    {"attention", set_up_attention, attention, {0}},
    {"conv", set_up_conv, conv, {0}},
    {"add", set_up_rows, add, {"euler"}},
    {"layer_norm", set_up_rows, layer_norm, {"rms_norm"}},
    {"cast", set_up_rows, cast, {"pack", "unpack", "copy_rows", "activate"}},
    {"head_norm_rope", set_up_rope, head_norm_rope, {0}},
    {"attention_merge", set_up_merge, merge, {0}},
    {"group_stats", set_up_plane, group_stats, {"finite"}},
    {"group_apply", set_up_plane, group_apply, {0}},
    {"upsample", set_up_plane, upsample, {0}},
};

/* ---- one trial ---- */

typedef struct work {
    double flops, bytes, weights;
} work;

static void hear(void *user, const ops_event *e)
{
    work *sum = user;
    if (e->kind != EVENT_COMPUTE)
        return;
    sum->flops += e->flops;
    sum->weights += (double)e->bytes_weights;
    sum->bytes += (double)(e->bytes_in + e->bytes_out + e->bytes_weights);
}

/* The operands, and the call once. The block stays begun. */
static flux1_status open_rig(rig *r, ops *o, const trial *t, flux1_error *err)
{
    r->o = o;
    TRY(store_synthetic(DTYPE_BF16, !ops_counts_only(o), &r->weights, err));
    TRY(ops_block_create(o, "trial", &r->b));
    TRY(t->set_up(r));
    TRY(ops_block_begin(o, r->b));
    return t->call(r);
}

static void close_rig(rig *r)
{
    if (r->o && r->b && r->b->held)
        (void)ops_block_end(r->o, r->b);
    if (r->o)
        ops_destroy(r->o);
    store_close(r->weights);
}

static flux1_status dry_trial(const ops_config *config, const trial *t, work *w, size_t *arena_bytes)
{
    rig r = {0};
    ops *o;
    ops_config dry = *config;
    dry.event = hear;
    dry.event_user = w;
    TRY(ops_dry_create(&dry, ops_cpu_device.sizing, &o));
    flux1_status st = open_rig(&r, o, t, config->err);
    *arena_bytes = ops_dry_count(o)->arena_peak;
    close_rig(&r);
    return st;
}

/* How long a call took. */
typedef struct took {
    double seconds;
    bool alone;   /* nobody else had the cores meanwhile */
    double share; /* of the cores' time, that this process computed */
} took;

static long interruptions(void)
{
    struct rusage used = {0};
    getrusage(RUSAGE_SELF, &used);
    return used.ru_nivcsw;
}

double machine_processor_share(double processor_seconds, double seconds, int threads, int processors)
{
    const int at_once = threads < processors ? threads : processors;
    return seconds > 0 ? processor_seconds / (seconds * at_once) : 1;
}

/* Where others had the cores meanwhile, what it would have taken without them: processor time of a core. That is too
 * little for a call that some threads wait in, but the clock's time would say nothing at all. */
static flux1_status time_call(rig *r, const trial *t, int threads, took *out)
{
    const long before = interruptions();
    const double begin = now(), processor = now_cpu();
    TRY(t->call(r));
    const double seconds = now() - begin,
                 share = machine_processor_share(now_cpu() - processor, seconds, threads, cpu_available());
    const double each = share * seconds;
    const bool alone = interruptions() == before;
    *out = (took){alone || each > seconds ? seconds : each, alone, share};
    return FLUX1_OK;
}

/* The fastest of the calls made in a twentieth of a second, two unless they are slow; one that was alone before all
 * others. */
static flux1_status time_trial(const ops_config *config, const trial *t, size_t arena_bytes, took *best)
{
    rig r = {0};
    ops *o;
    flux1_status st;
    double begin = now();
    *best = (took){.seconds = 1e9};
    TRY(ops_cpu_device.create(config, &o));
    st = ops_reserve(o, arena_bytes);
    if (st == FLUX1_OK)
        st = open_rig(&r, o, t, config->err);
    r.o = o;
    for (int i = 0; st == FLUX1_OK && (i == 0 || now() - begin < (i == 1 ? 1 : 0.05)); i++) {
        took one = {0};
        st = time_call(&r, t, config->threads, &one);
        if (one.alone != best->alone ? one.alone : one.seconds < best->seconds)
            *best = one;
    }
    close_rig(&r);
    return st;
}

/* The row of this operation, a new one if there is none: there is one for each of machine_operations. */
static machine_rate *rate_of(machine *m, const char *operation)
{
    for (int i = 0; i < m->rates; i++)
        if (strcmp(m->rate[i].operation, operation) == 0)
            return &m->rate[i];
    assert(m->rates < MACHINE_RATES);
    machine_rate *r = &m->rate[m->rates++];
    *r = (machine_rate){0};
    snprintf(r->operation, sizeof r->operation, "%s", operation);
    return r;
}

static bool is_known(const machine_rate *r, int type) { return r->flops[type] > 0 || r->bytes > 0; }

/* What the file says stays. */
static void set_rate(machine *m, const char *operation, int type, const work *w, double seconds)
{
    machine_rate *r = rate_of(m, operation);
    if (is_known(r, type))
        return;
    if (w->flops > 0)
        r->flops[type] = w->flops / seconds;
    else
        r->bytes = w->bytes / seconds;
}

/* Of the cores' time in a call with much arithmetic, which all threads share evenly: with less, others had them. */
#define LEAST_SHARE 0.6

static flux1_status run_trial(const ops_config *config, const trial *t, machine *m, work *w, double *seconds)
{
    size_t arena_bytes;
    took best;
    TRY(dry_trial(config, t, w, &arena_bytes));
    TRY(time_trial(config, t, arena_bytes, &best));
    *seconds = best.seconds;
    m->disturbed |= w->flops > 0 && best.share < LEAST_SHARE;
    return FLUX1_OK;
}

static flux1_status try_operation(const ops_config *config, int type, const trial *t, machine *m)
{
    work w = {0};
    double seconds;
    if (is_known(rate_of(m, t->operation), type))
        return FLUX1_OK;
    TRY(run_trial(config, t, m, &w, &seconds));
    set_rate(m, t->operation, type, &w, seconds);
    for (int k = 0; k < 4 && t->also[k]; k++)
        set_rate(m, t->also[k], type, &w, seconds);
    return FLUX1_OK;
}

/* A product of few rows takes as long for its weight as one of many: from both, FLOP/s and the weight's bytes/s. A
 * machine that was disturbed may have no such solution; then the product of many rows tells all. */
static flux1_status try_products(const ops_config *config, int type, machine *m)
{
    static const trial many = {"product", set_up_product, product, {0}}, few = {"product", set_up_few, product, {0}};
    work most = {0}, least = {0};
    double seconds, seconds_few;
    machine_rate *r = rate_of(m, machine_product(config->int8));
    if (is_known(r, type))
        return FLUX1_OK;
    TRY(run_trial(config, &many, m, &most, &seconds));
    TRY(run_trial(config, &few, m, &least, &seconds_few));
    double rate = (most.flops - least.flops) / (seconds - seconds_few), rest = seconds_few - least.flops / rate;
    bool solved = seconds > seconds_few && rest > 0;
    r->flops[type] = solved ? rate : most.flops / seconds;
    r->weights = solved ? least.weights / rest : 0;
    return FLUX1_OK;
}

/* Threads are woken and waited for. */
static flux1_status try_launch(const ops_config *config, int type, machine *m)
{
    static const trial least = {"product", set_up_least, product, {0}};
    work w = {0};
    double seconds;
    const machine_rate *r = rate_of(m, "product");
    if (m->launch > 0 || !r)
        return FLUX1_OK;
    const bool disturbed = m->disturbed; /* threads that wait for each other are not */
    TRY(run_trial(config, &least, m, &w, &seconds));
    m->disturbed = disturbed;
    const double rest = seconds - (r->flops[type] > 0 ? w.flops / r->flops[type] : 0);
    m->launch = rest > 0 ? rest : 0;
    return FLUX1_OK;
}

/* Operations without a trial go at the product's and at the sum's rate. The processor's own kernels run, so that what
 * they use (VNNI, AMX) is in the rates. */
static flux1_status run_trials(const ops_config *wanted, int type, machine *m)
{
    ops_config plain = *wanted, *config = &plain;
    plain.int8 = INT8_NONE;
    TRY(try_products(config, type, m));
    if (wanted->int8)
        TRY(try_products(wanted, type, m));
    if (int8_attends(ops_cpu_sizing.attends(wanted), HEAD)) {
        const trial in_int8 = {machine_attention(wanted->int8), set_up_attention, attention, {0}};
        TRY(try_operation(wanted, type, &in_int8, m));
    }
    TRY(try_launch(config, type, m));
    for (size_t i = 0; i < sizeof TRIALS / sizeof *TRIALS; i++)
        TRY(try_operation(config, type, &TRIALS[i], m));
    const machine_rate *products = rate_of(m, "product"), *sum = rate_of(m, "add");
    if (!(m->peak[type] > 0) && products)
        m->peak[type] = products->flops[type];
    if (!(m->memory_rate > 0) && sum)
        m->memory_rate = sum->bytes;
    return m->peak[type] > 0 && m->memory_rate > 0
               ? FLUX1_OK
               : error_set(config->err, FLUX1_ERR_FORMAT,
                           "machine %s: the rate of \"product\" should be flops_per_second, that of \"add\" "
                           "bytes_per_second",
                           m->name);
}

/* ---- exchanges between threads ---- */

enum { LARGE = 8 << 20, SMALL = 64, TURNS = 16 };

typedef struct exchange_trial {
    double seconds[EXCHANGES][2]; /* of a small one, of a large one */
} exchange_trial;

static flux1_status exchange_once(comm *c, machine_exchange_kind kind, void *send, void *recv, size_t bytes)
{
    switch (kind) {
    case EXCHANGE_GATHER: return c->fn->all_gather(c, send, recv, bytes);
    case EXCHANGE_SCATTER: return c->fn->reduce_scatter(c, send, recv, bytes / sizeof(float));
    default: break;
    }
    TRY(c->fn->shift_begin(c, send, recv, bytes, 1));
    return c->fn->shift_end(c);
}

static flux1_status exchange_body(void *arg, mesh *m)
{
    exchange_trial *t = arg;
    void *send, *recv;
    TRY(ops_exchange(m->o, 2 * LARGE, &send));
    TRY(ops_exchange(m->o, 2 * LARGE, &recv));
    memset(send, 0, 2 * LARGE);
    memset(recv, 0, 2 * LARGE);
    for (machine_exchange_kind k = 0; k < EXCHANGES; k++)
        for (int size = 0; size < 2; size++) {
            double best = 1e9;
            for (int i = 0; i < TURNS; i++) {
                double begin = now();
                TRY(exchange_once(m->tp_comm, k, send, recv, size ? LARGE : SMALL));
                best = now() - begin < best ? now() - begin : best;
            }
            if (m->rank == 0)
                t->seconds[k][size] = best;
        }
    return FLUX1_OK;
}

/* Two ranks, which are threads. */
static flux1_status measure_exchanges(const ops_config *config, machine *m)
{
    const mesh_config two = {.shape = {1, 2}, .sp = 1, .tp = 2, .tp_axis = 1};
    const mesh_device d = {.kind = &ops_cpu_device, .device = config->device, .config = *config};
    const size_t arena_bytes[2] = {5 * (size_t)LARGE, 5 * (size_t)LARGE};
    exchange_trial t = {0};
    mesh_session *s;
    TRY(mesh_open(&two, &d, &s, config->err));
    flux1_status st = mesh_reserve(s, arena_bytes, config->err);
    if (st == FLUX1_OK)
        st = mesh_run(s, exchange_body, &t, config->err);
    mesh_close(s);
    for (machine_exchange_kind k = 0; st == FLUX1_OK && k < EXCHANGES; k++) {
        double small = t.seconds[k][0], more = t.seconds[k][1] - small;
        if (!(m->exchange[k].rate > 0)) /* otherwise the file's */
            m->exchange[k] = (machine_exchange){.seconds = small, .rate = LARGE / (more > 1e-6 ? more : 1e-6)};
    }
    return st;
}

flux1_status machine_measure(flux1_context *c, machine_dtype type, machine *m)
{
    ops_config config = c->device.config;
    flux1_status st;
    ops_device *device;
    TRY(ops_cpu_device.open(0, &device, &c->error));
    config.err = &c->error;
    config.device = device;
    config.arithmetic = type.exact ? DTYPE_BF16 : DTYPE_F32;
    config.fp8 = FP8_NO;
    config.int8 = type.int8;
    st = run_trials(&config, type.exact, m);
    config.int8 = INT8_NONE;
    if (st == FLUX1_OK)
        st = machine_exchanges(m) ? FLUX1_OK : measure_exchanges(&config, m);
    ops_device_close(device);
    if (!(m->memory > 0))
        m->memory = (double)c->max_memory;
    return st;
}
