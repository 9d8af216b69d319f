/* What ring attention hides: attention of FLUX.1's width (24 heads of 128) over the ranks of a mesh Nx1, one rank a
 * process, made three ways:
 *
 *   ring        as the mesh makes it: the next keys and values travel while these are used
 *   ring, then  the same ring, each exchange waited for where it begins
 *   gather      keys and values of all ranks are gathered, then one attention over all of them
 *
 * beside the compute and the exchange alone. The ways take turns, each turn from another one on, so that what else the
 * machine does falls on all alike. Printed: medians of the leading rank's milliseconds, and of its processor's; how
 * long it waited for exchanges; the share of the exchange that was hidden (1 − waited / exchange alone); and the way's
 * time for the 57 blocks of a step.
 *
 * usage: mpirun … bench_ring [THREADS [bf16|f32]]    threads of each process (1); bench/network.sh */
#include "base/clock.h"
#include "mesh/mesh.h"
#include "mesh/processes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { HEADS = 24, DIM = 128, WIDTH = HEADS * DIM, BLOCKS = 57, TURNS_MAX = 7 };

static const struct {
    int64_t rows[2]; /* prompt, image */
    int turns;
} sizes[] = {{{256, 1024}, 7}, {{512, 4096}, 3}};
enum { SIZES = sizeof sizes / sizeof *sizes };

typedef enum way { WAY_COMPUTE, WAY_EXCHANGE, WAY_RING, WAY_RING_THEN, WAY_GATHER, WAYS } way;
static const char *const NAMES[WAYS] = {"compute alone", "exchange alone", "ring", "ring, then", "gather"};

/* Of the processor, by all threads of this process. */
static double used(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const char *why)
{
    fprintf(stderr, "%s\n", why);
    _exit(1);
}

/* ---- a communicator that is timed, and does what the way asks for ---- */

typedef struct watched {
    comm head;
    comm *under;
    way way;
    double waited;
} watched;

static flux1_status watched_begin(comm *c, const void *send, void *recv, size_t bytes, int distance)
{
    watched *w = (watched *)c;
    double begin = clock_seconds();
    if (w->way != WAY_COMPUTE)
        TRY(w->under->fn->shift_begin(w->under, send, recv, bytes, distance));
    if (w->way == WAY_RING_THEN)
        TRY(w->under->fn->shift_end(w->under));
    w->waited += clock_seconds() - begin;
    return FLUX1_OK;
}

static flux1_status watched_end(comm *c)
{
    watched *w = (watched *)c;
    double begin = clock_seconds();
    if (w->way != WAY_COMPUTE && w->way != WAY_RING_THEN)
        TRY(w->under->fn->shift_end(w->under));
    w->waited += clock_seconds() - begin;
    return FLUX1_OK;
}

static flux1_status watched_gather(comm *c, const void *send, void *recv, size_t bytes)
{
    watched *w = (watched *)c;
    double begin = clock_seconds();
    TRY(w->under->fn->all_gather(w->under, send, recv, bytes));
    w->waited += clock_seconds() - begin;
    return FLUX1_OK;
}

static const comm_table watched_table = {
    .name = "watched", .all_gather = watched_gather, .shift_begin = watched_begin, .shift_end = watched_end};

/* ---- the ways ---- */

typedef struct job {
    const int64_t *rows;
    int turns;
    size_t moved; /* bytes that a rank sends in one ring */
    double seconds[WAYS][TURNS_MAX], waited[WAYS][TURNS_MAX], used[WAYS][TURNS_MAX];
} job;

typedef struct operands {
    act q, k, v, out;
} operands;

static const attention_args ARGS = {.heads = HEADS, .scale = 0.088388348f}; /* 1 / √128 */

static flux1_status operand(mesh *m, const int64_t *rows, act_role role, uint32_t seed, act *out)
{
    const int64_t text = mesh_span(m, rows[PART_TEXT]).count, image = mesh_span(m, rows[PART_IMAGE]).count;
    tensor host;
    TRY(ops_create(m->o, role, shape_rows(1, text, image, WIDTH), out));
    TRY(tensor_create(DTYPE_F32, 3, (int64_t[]){1, text + image, WIDTH}, &host, m->err));
    for (int64_t i = 0; i < (text + image) * WIDTH; i++)
        ((float *)host.data)[i] = (float)((seed = seed * 1664525u + 1013904223u) >> 8) / (1 << 23) - 1;
    flux1_status st = ops_upload(m->o, &host, *out);
    tensor_free(&host);
    return st;
}

/* This rank's keys and values as they are exchanged. */
static flux1_status pack(mesh *m, const operands *x, size_t bytes, char *at)
{
    TRY(ops_pack(m->o, x->k, 0, act_rows(x->k), at));
    return ops_pack(m->o, x->v, 0, act_rows(x->v), at + bytes);
}

static flux1_status exchange_alone(mesh *m, const operands *x, size_t bytes)
{
    comm *c = m->sp_comm;
    void *here, *next;
    TRY(ops_exchange(m->o, 2 * bytes, &here));
    TRY(ops_exchange(m->o, 2 * bytes, &next));
    TRY(pack(m, x, bytes, here));
    for (int turn = 1; turn < c->size; turn++) {
        TRY(c->fn->shift_begin(c, here, next, 2 * bytes, 1));
        TRY(c->fn->shift_end(c));
    }
    return FLUX1_OK;
}

static flux1_status gathered(mesh *m, const operands *x, size_t bytes)
{
    ops *o = m->o;
    comm *c = m->sp_comm;
    const int64_t mine = act_rows(x->k);
    char *send, *recv;
    act k, v, sum, lse;
    TRY(ops_exchange(o, 2 * bytes, (void **)&send));
    TRY(ops_exchange(o, 2 * bytes * (size_t)c->size, (void **)&recv));
    TRY(pack(m, x, bytes, send));
    TRY(c->fn->all_gather(c, send, recv, 2 * bytes));
    TRY(ops_create(o, ACT_HEADS, shape_rows(1, 0, mine * c->size, WIDTH), &k));
    TRY(ops_create(o, ACT_HEADS, shape_rows(1, 0, mine * c->size, WIDTH), &v));
    for (int r = 0; r < c->size; r++) {
        TRY(ops_unpack(o, recv + 2 * bytes * (size_t)r, k, mine * r, mine));
        TRY(ops_unpack(o, recv + 2 * bytes * (size_t)r + bytes, v, mine * r, mine));
    }
    TRY(ops_create(o, ACT_PARTIAL, x->q.buffer->shape, &sum));
    act_shape stats = x->q.buffer->shape;
    stats.cols = HEADS;
    TRY(ops_create(o, ACT_STATS, stats, &lse));
    TRY(ops_attention_part(o, x->q, k, v, &ARGS, sum, lse));
    return ops_cast(o, sum, x->out);
}

static flux1_status one_way(mesh *m, job *j, way w, const operands *x, int turn)
{
    const size_t mark = ops_mark(m->o), bytes = ops_pack_bytes(m->o, x->k, act_rows(x->k));
    watched c = {.head = *m->sp_comm, .under = m->sp_comm, .way = w};
    mesh timed = *m;
    int all = 0;
    flux1_status st;
    c.head.fn = &watched_table;
    timed.sp_comm = &c.head;
    TRY(mesh_lowest(m, &all)); /* together */
    double begin = clock_seconds(), begin_used = used();
    if (w == WAY_EXCHANGE)
        st = exchange_alone(&timed, x, bytes);
    else if (w == WAY_GATHER)
        st = gathered(&timed, x, bytes);
    else
        st = mesh_attention(&timed, x->q, x->k, x->v, &ARGS, j->rows, x->out);
    j->seconds[w][turn] = clock_seconds() - begin;
    j->waited[w][turn] = c.waited;
    j->used[w][turn] = used() - begin_used;
    j->moved = 2 * bytes * (size_t)(m->sp - 1);
    ops_release(m->o, mark);
    return st;
}

static flux1_status body(void *arg, mesh *m)
{
    job *j = arg;
    operands x;
    TRY(operand(m, j->rows, ACT_HEADS, 1, &x.q));
    TRY(operand(m, j->rows, ACT_HEADS, 2, &x.k));
    TRY(operand(m, j->rows, ACT_HEADS, 3, &x.v));
    TRY(operand(m, j->rows, ACT_LINEAR, 4, &x.out));
    for (way w = 0; w < WAYS; w++) /* memory and transfers are set up */
        TRY(one_way(m, j, w, &x, 0));
    for (int t = 0; t < j->turns; t++)
        for (way w = 0; w < WAYS; w++)
            TRY(one_way(m, j, (w + (way)t) % WAYS, &x, t));
    ops_release(m->o, 0);
    return FLUX1_OK;
}

/* ---- the report ---- */

static int by_number(const void *x, const void *y)
{
    double p = *(const double *)x, q = *(const double *)y;
    return (p > q) - (p < q);
}

static double median(double *x, int count)
{
    qsort(x, (size_t)count, sizeof *x, by_number);
    return x[count / 2];
}

static void print(job *j, int ranks, const char *type)
{
    const double exchange = median(j->seconds[WAY_EXCHANGE], j->turns);
    printf("%d + %d tokens over %d ranks, %s, %.1f MB from each, medians of %d turns\n", (int)j->rows[PART_TEXT],
           (int)j->rows[PART_IMAGE], ranks, type, 1e-6 * (double)j->moved, j->turns);
    for (way w = 0; w < WAYS; w++) {
        double seconds = median(j->seconds[w], j->turns), waited = median(j->waited[w], j->turns);
        printf("  %-14s %8.1f ms   processor %8.1f ms", NAMES[w], 1e3 * seconds, 1e3 * median(j->used[w], j->turns));
        if (w >= WAY_RING)
            printf("   waited %8.1f ms   hidden %4.0f %%   %d blocks %6.2f s", 1e3 * waited,
                   100 * fmax(0, 1 - waited / exchange), BLOCKS, BLOCKS * seconds);
        printf("\n");
    }
}

static flux1_status measure(processes *all, const mesh_config *c, const mesh_device *d, mesh_session *s, int size,
                            flux1_error *err)
{
    static job j;
    ops_count count;
    size_t peaks[MESH_RANKS_MAX] = {0}, got;
    const void *order;
    j = (job){.rows = sizes[size].rows, .turns = sizes[size].turns};
    for (int r = 0; r < mesh_ranks(c); r++) {
        TRY(mesh_dry_run(c, d, r, body, &j, &count, err));
        peaks[r] = count.arena_peak;
    }
    TRY(mesh_reserve(s, peaks, err));
    TRY(processes_index(all) == 0 ? processes_order(all, "", 0, err) : processes_next(all, &order, &got, err));
    TRY(mesh_run(s, body, &j, err));
    if (processes_index(all) == 0)
        print(&j, mesh_ranks(c), d->config.arithmetic == DTYPE_BF16 ? "bf16" : "f32");
    return FLUX1_OK;
}

int main(int argc, char **argv)
{
    flux1_error err = {0};
    process_info mine = {.pid = (int)getpid(), .version = "bench"};
    processes *all;
    mesh_config c;
    mesh_session *s;
    mesh_device d = {.config = {.threads = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 1,
                                .arithmetic = argc > 2 && !strcmp(argv[2], "f32") ? DTYPE_F32 : DTYPE_BF16}};
    char shape[32];
    gethostname(mine.host, sizeof mine.host - 1);
    if (d.config.threads < 1)
        die("usage: mpirun … bench_ring [THREADS [bf16|f32]]");
    if (processes_open(&mine, &all, &err) != FLUX1_OK)
        die(err.message);
    snprintf(shape, sizeof shape, "%dx1", processes_count(all));
    d.processes = all;
    if (processes_count(all) < 2)
        die("bench_ring takes several processes, one for each rank");
    if (ops_cpu_device.open(0, &d.device, &err) != FLUX1_OK || mesh_parse(shape, NULL, NULL, &c, &err) != FLUX1_OK)
        die(err.message);
    d.kind = d.device->kind;
    if (mesh_open(&c, &d, &s, &err) != FLUX1_OK)
        die(err.message);
    for (int i = 0; i < SIZES; i++)
        if (measure(all, &c, &d, s, i, &err) != FLUX1_OK)
            die(err.message);
    fflush(stdout);
    mesh_close(s);
    ops_device_close(d.device);
    const void *last;
    size_t size;
    if (processes_index(all) > 0)
        processes_next(all, &last, &size, &err);
    processes_close(all);
    return 0;
}
