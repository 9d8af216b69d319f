/* The CPU backend: choice of instruction set, memory, order. */
#include "ops/cpu/cpu.h"

#include "ops/device.h"
#include "ops/layout.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const ops_table cpu_table_of_functions = {.name = "cpu",
#define ROW(ret, name, args, call) .name = cpu_##name,
                                                 OPS_PRIMITIVES(ROW)
#undef ROW
#define ROW(ret, name, args, call) .name = composite_##name,
                                                     OPS_COMPOSITES(ROW)
#undef ROW
};

/* ---- instruction sets, best first ---- */

static bool always(void) { return true; }
#if defined(__x86_64__)
/* clang's __builtin_cpu_supports does not know this one */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
static bool has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }
static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
static bool has_avx512bf16(void) { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
#endif

typedef struct instruction_set {
    bool (*present)(void);
    const cpu_kernels *f32, *bf16; /* by arithmetic */
    const char *name;
} instruction_set;

static const instruction_set sets[] = {
#if defined(__x86_64__)
    {has_avx512bf16, &cpu_kernels_avx512, &cpu_kernels_avx512bf16, "avx512bf16"},
    {has_avx512, &cpu_kernels_avx512, &cpu_kernels_avx512, "avx512"},
    {has_avx2, &cpu_kernels_avx2, &cpu_kernels_avx2, "avx2"},
#endif
    {always, &cpu_kernels_portable, &cpu_kernels_portable, "portable"},
};
enum { SETS = sizeof sets / sizeof *sets };

/* The best that the machine has, or the one that FLUX1_CPU_ISA names: for tests, and for a machine that lies. */
static flux1_status choose_set(const instruction_set **out, flux1_error *err)
{
    const char *wish = getenv("FLUX1_CPU_ISA");
    for (int i = 0; i < SETS; i++) {
        if (wish && *wish && strcmp(wish, sets[i].name))
            continue;
        if (sets[i].present()) {
            *out = &sets[i];
            return FLUX1_OK;
        }
        if (wish && *wish)
            return error_set(err, FLUX1_ERR_UNSUPPORTED,
                             "FLUX1_CPU_ISA asks for %s, which this machine does not have; unset it", wish);
    }
    return error_set(err, FLUX1_ERR_ARGUMENT,
                     "FLUX1_CPU_ISA is \"%s\"; it should be portable, avx2, avx512 or avx512bf16, or unset",
                     wish ? wish : "");
}

const char *ops_cpu_isa(void)
{
    const instruction_set *set;
    return choose_set(&set, NULL) == FLUX1_OK ? set->name : "none";
}

bool ops_cpu_multiplies_bf16(void)
{
    const instruction_set *set;
    return choose_set(&set, NULL) == FLUX1_OK && set->bf16->bf16;
}

/* ---- life ---- */

/* Of all workers. */
static size_t scratch_bytes(int threads)
{
    return size_round_up((size_t)(threads > 1 ? threads : 1) * GEMM_SCRATCH * sizeof(float), ARENA_ALIGN);
}

static size_t cpu_own_bytes(const ops_config *c)
{
    return scratch_bytes(c->threads) + STATS_PARTIALS * sizeof(moments);
}

flux1_status ops_cpu_create(const ops_config *c, ops **out)
{
    flux1_status st = FLUX1_OK;
    const instruction_set *set = NULL;
    TRY(choose_set(&set, c->err));
    cpu_ops *o = calloc(1, sizeof *o);
    if (!o)
        return error_oom(c->err, sizeof *o, "the CPU backend");
    o->head = (ops){.fn = &cpu_table_of_functions, .err = c->err, .cancel = c->cancel};
    o->bf16 = c->arithmetic == DTYPE_BF16;
    o->threads = c->threads > 1 ? c->threads : 1;
    o->kernels = o->bf16 ? set->bf16 : set->f32;
    o->last_block = &o->blocks;
    size_t bytes = scratch_bytes(o->threads);
    o->scratch = aligned_alloc(ARENA_ALIGN, bytes);
    o->partials = malloc(STATS_PARTIALS * sizeof *o->partials);
    if (!o->scratch || !o->partials) {
        st = error_oom(c->err, bytes, "the CPU backend's scratch memory");
        goto cleanup;
    }
    TRY_CLEANUP(pool_create(o->threads, &o->workers, c->err));
    *out = &o->head;
    return FLUX1_OK;
cleanup:
    cpu_destroy(&o->head);
    return st;
}

void cpu_destroy(ops *base)
{
    if (!base)
        return;
    cpu_ops *o = cpu_self(base);
    for (cpu_block *b = o->blocks, *next; b; b = next) {
        next = b->next;
        cpu_free_weights(b->weights);
        free(b->head.name);
        free(b);
    }
    pool_destroy(o->workers);
    arena_destroy(&o->memory);
    free(o->scratch);
    free(o->partials);
    free(o);
}

/* ---- memory ---- */

static size_t cpu_act_bytes(const ops_config *c, act_role role, const act_shape *s)
{
    size_t data = layout_bytes(c->arithmetic == DTYPE_BF16, role, s, ARENA_ALIGN), all;
    return size_add(data, size_round_up(sizeof(cpu_buffer), ARENA_ALIGN), &all) ? all : SIZE_MAX;
}

static size_t cpu_scratch(const ops_config *c, ops_work work, int64_t m, int64_t n, int64_t k, int64_t heads)
{
    (void)m, (void)n;
    return work == WORK_ATTENTION && heads > 0 ? (size_t)(c->threads > 1 ? c->threads : 1) * cpu_attention_scratch(k)
                                               : 0;
}

const ops_sizing ops_cpu_sizing = {
    .act_bytes = cpu_act_bytes, .scratch = cpu_scratch, .weight_bytes = cpu_weight_bytes, .own_bytes = cpu_own_bytes};

flux1_status cpu_reserve(ops *base, size_t bytes)
{
    cpu_ops *o = cpu_self(base);
    arena_release(&o->memory, 0);
    if (bytes <= o->memory.size)
        return FLUX1_OK;
    arena_destroy(&o->memory);
    return arena_create(bytes, &o->memory, base->err);
}

flux1_status cpu_create(ops *base, act_role role, act_shape shape, act *out)
{
    cpu_ops *o = cpu_self(base);
    void *head, *data;
    TRY(arena_alloc(&o->memory, sizeof(cpu_buffer), &head, base->err));
    TRY(arena_alloc(&o->memory, layout_bytes(o->bf16, role, &shape, ARENA_ALIGN), &data, base->err));
    cpu_buffer *f = head;
    *f = (cpu_buffer){.head = {.shape = shape, .role = role}, .data = data, .bf16 = layout_bf16(o->bf16, role)};
    *out = act_whole(&f->head);
    return FLUX1_OK;
}

size_t cpu_mark(ops *o) { return arena_mark(&cpu_self(o)->memory); }
void cpu_release(ops *o, size_t mark) { arena_release(&cpu_self(o)->memory, mark); }
flux1_status cpu_exchange(ops *o, size_t bytes, void **out)
{
    return arena_alloc(&cpu_self(o)->memory, bytes, out, o->err);
}

view cpu_view(act a)
{
    if (!act_present(a))
        return (view){0};
    const cpu_buffer *f = (const cpu_buffer *)a.buffer;
    const act_shape *s = &f->head.shape;
    size_t element = f->bf16 ? 2 : 4;
    int64_t all = s->rows[0] + s->rows[1], rows = act_rows(a);
    view v = {.ld = s->cols, .batch_stride = all * s->cols, .rows = rows, .cols = a.cols, .bf16 = f->bf16};
    /* an empty buffer has no memory, but an operand that is there must not look left out */
    static unsigned char nothing[4];
    v.data = f->data ? f->data + (size_t)(act_first_row(a) * s->cols + a.col) * element : nothing;
    return v;
}

table_rows cpu_table(const cpu_ops *o, act t, int64_t batch)
{
    if (!act_present(t))
        return (table_rows){0};
    view v = cpu_view(t);
    return (table_rows){(const float *)(const void *)v.data + o->head.step * batch * v.ld, v.ld};
}

static flux1_status host_view(ops *o, const tensor *host, act a, const char *operation, view *out)
{
    TRY(ops_host_fits(o, operation, host, a));
    *out = (view){
        .data = host->data, .ld = a.cols, .batch_stride = act_rows(a) * a.cols, .rows = act_rows(a), .cols = a.cols};
    return FLUX1_OK;
}

static void copy_views(cpu_ops *o, const view *in, int64_t first, const view *out, int64_t batch)
{
    rows_job j = {.in = *in, .out = *out, .first = first, .rows = batch * out->rows, .cols = out->cols};
    cpu_rows(o, o->kernels->copy, &j);
}

flux1_status cpu_upload(ops *o, const tensor *host, act out)
{
    view from, to = cpu_view(out);
    TRY(ops_begin(o, "upload", NULL));
    TRY(host_view(o, host, out, "upload", &from));
    copy_views(cpu_self(o), &from, 0, &to, act_batch(out));
    return FLUX1_OK;
}

flux1_status cpu_download(ops *o, act in, tensor *host)
{
    view from = cpu_view(in), to;
    TRY(ops_begin(o, "download", NULL));
    TRY(host_view(o, host, in, "download", &to));
    copy_views(cpu_self(o), &from, 0, &to, act_batch(in));
    return FLUX1_OK;
}

flux1_status cpu_copy_rows(ops *o, act in, int64_t first, act out)
{
    view from = cpu_view(in), to = cpu_view(out);
    TRY(ops_begin(o, "copy_rows", NULL));
    copy_views(cpu_self(o), &from, first, &to, act_batch(out));
    return FLUX1_OK;
}

flux1_status cpu_cast(ops *o, act in, act out) { return cpu_copy_rows(o, in, 0, out); }

size_t cpu_pack_bytes(ops *o, act a, int64_t rows)
{
    (void)o;
    return (size_t)(act_batch(a) * rows * a.cols) * (((const cpu_buffer *)a.buffer)->bf16 ? 2 : 4);
}

/* Rows of an act as they lie in exchange memory: dense, in the act's own type. */
static view packed(void *bytes, act a, int64_t rows)
{
    return (view){.data = bytes,
                  .ld = a.cols,
                  .batch_stride = rows * a.cols,
                  .rows = rows,
                  .cols = a.cols,
                  .bf16 = ((const cpu_buffer *)a.buffer)->bf16};
}

flux1_status cpu_pack(ops *o, act in, int64_t first, int64_t rows, void *bytes)
{
    TRY(ops_begin(o, "pack", NULL));
    view from = cpu_view(in), to = packed(bytes, in, rows);
    copy_views(cpu_self(o), &from, first, &to, act_batch(in));
    return FLUX1_OK;
}

flux1_status cpu_unpack(ops *o, const void *bytes, act out, int64_t first, int64_t rows)
{
    TRY(ops_begin(o, "unpack", NULL));
    view from = packed((void *)(uintptr_t)bytes, out, rows), to = cpu_view(out); /* only read */
    to.data += (size_t)(first * to.ld) * (to.bf16 ? 2 : 4);
    to.rows = rows;
    copy_views(cpu_self(o), &from, 0, &to, act_batch(out));
    return FLUX1_OK;
}

/* ---- order ---- */

flux1_status cpu_step_set(ops *o, int64_t step)
{
    o->step = step;
    return FLUX1_OK;
}

flux1_status cpu_step_replay(ops *o, uint64_t recording, bool *done)
{
    (void)recording;
    (void)o;
    *done = false; /* a call costs nothing beside its work here */
    return FLUX1_OK;
}

flux1_status cpu_step_record(ops *o)
{
    (void)o;
    return FLUX1_OK;
}

flux1_status cpu_sync(ops *o)
{
    (void)o; /* every operation is done when it returns */
    return FLUX1_OK;
}

void cpu_rows(cpu_ops *o, pool_fn *fn, rows_job *job)
{
    enum { ELEMENTS = 16384 };
    if (job->rows <= 0 || job->cols <= 0)
        return;
    job->chunk = i64_max(1, ELEMENTS / job->cols);
    int64_t count = i64_ceil_div(job->rows, job->chunk);
    if (count == 1)
        fn(job, 0, 0);
    else
        pool_run(o->workers, count, fn, job);
}

/* ---- the device ---- */

static flux1_status cpu_count(int *count, flux1_error *err)
{
    (void)err;
    *count = 1;
    return FLUX1_OK;
}

static flux1_status cpu_describe(int ordinal, ops_device_info *out, flux1_error *err)
{
    const instruction_set *set;
    if (ordinal)
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "device cpu:%d: there is one CPU device, cpu", ordinal);
    *out = (ops_device_info){.id = "cpu", .bf16 = true, .bf16_native = ops_cpu_multiplies_bf16()};
    snprintf(out->name, sizeof out->name, "%s", choose_set(&set, NULL) == FLUX1_OK ? set->name : "none");
    out->fact[out->facts++] = (ops_fact){.name = "cores", .number = cpu_physical_cores()};
    return FLUX1_OK;
}

static pthread_mutex_t device_lock = PTHREAD_MUTEX_INITIALIZER;
static ops_device *device; /* all contexts' */
static int device_users;

static flux1_status cpu_open(int ordinal, ops_device **out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    pthread_mutex_lock(&device_lock);
    if (!device) {
        ops_device *d = calloc(1, sizeof *d);
        st = d ? cpu_describe(ordinal, &d->info, err) : error_oom(err, sizeof *d, "the CPU device");
        if (st == FLUX1_OK) {
            d->kind = &ops_cpu_device;
            device = d;
        } else
            free(d);
    }
    device_users += st == FLUX1_OK;
    *out = device;
    pthread_mutex_unlock(&device_lock);
    return st;
}

static void cpu_close(ops_device *d)
{
    pthread_mutex_lock(&device_lock);
    if (--device_users == 0) {
        free(d);
        device = NULL;
    }
    pthread_mutex_unlock(&device_lock);
}

const ops_device_kind ops_cpu_device = {
    .name = "cpu",
    .syntax = "cpu",
    .count = cpu_count,
    .describe = cpu_describe,
    .open = cpu_open,
    .close = cpu_close,
    .create = ops_cpu_create,
    .sizing = &ops_cpu_sizing,
};
