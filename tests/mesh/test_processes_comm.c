/* What ranks of several processes exchange is what ranks of one process exchange, to the bit: any size, several ranks a
 * process, also unevenly; and it arrives while a rank computes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "mesh/mesh.h"
#include "support/processes_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RANKS_MAX = 8, RECORD = 3 << 20 };

static const char *const SHAPES[] = {"1x2", "2x1", "3x1", "2x2", "1x5", "2x3", "4x2"};
static const size_t BYTES[] = {0, 1, 3, 1000, 65537}, COUNTS[] = {0, 1, 5, 4099};
static const int DISTANCES[] = {1, -1, 2};

/* What a rank has received, one thing after the other. */
typedef struct record {
    unsigned char *bytes[RANKS_MAX];
    size_t size[RANKS_MAX];
} record;

/* Of very different size, so that another order of summation gives another sum. */
static float value(int rank, size_t i)
{
    uint32_t x = (uint32_t)(rank * 7919 + 13) * 2654435761u ^ (uint32_t)i * 2246822519u;
    x ^= x >> 15;
    x *= 2246822519u;
    return ((float)(x >> 8) / (1 << 24) - 0.5f) * (float)(1 << (x & 15));
}

static void note(record *r, int rank, const void *bytes, size_t size)
{
    assert_true(r->size[rank] + size <= RECORD);
    if (size)
        memcpy(r->bytes[rank] + r->size[rank], bytes, size);
    r->size[rank] += size;
}

typedef struct memory {
    float *send, *recv;
} memory;

static void prepare(memory *x, const mesh *m, size_t send, size_t recv, int turn)
{
    for (size_t i = 0; i < send; i++)
        x->send[i] = value(m->rank + 100 * turn, i);
    memset(x->recv, 0xff, recv * sizeof(float) + 64);
}

static flux1_status everything(record *r, mesh *m, comm *c, memory *x)
{
    const size_t n = (size_t)c->size;
    int turn = 0;
    for (size_t i = 0; i < sizeof BYTES / sizeof *BYTES; i++, turn++) {
        prepare(x, m, BYTES[i] / 4 + 1, n * BYTES[i] / 4 + 1, turn);
        TRY(c->fn->all_gather(c, x->send, x->recv, BYTES[i]));
        note(r, m->rank, x->recv, n * BYTES[i] + 16); /* and nothing beyond */
    }
    for (size_t i = 0; i < sizeof COUNTS / sizeof *COUNTS; i++, turn++) {
        size_t room = (size_t)(1 + c->away) * COUNTS[i];
        prepare(x, m, n * COUNTS[i], room, turn);
        TRY(c->fn->reduce_scatter(c, x->send, x->recv, COUNTS[i]));
        note(r, m->rank, x->recv, COUNTS[i] * sizeof(float));
        note(r, m->rank, x->recv + room, 16);
    }
    for (size_t i = 0; i < sizeof DISTANCES / sizeof *DISTANCES * 2; i++, turn++) {
        size_t bytes = i % 2 ? 5003 : 40000;
        prepare(x, m, bytes / 4 + 1, bytes / 4 + 1, turn);
        TRY(c->fn->shift_begin(c, x->send, x->recv, bytes, DISTANCES[i / 2]));
        TRY(c->fn->shift_end(c));
        note(r, m->rank, x->recv, bytes + 16);
    }
    return FLUX1_OK;
}

static flux1_status everything_body(void *arg, mesh *m)
{
    comm *comms[] = {m->sp_comm, m->tp_comm, m->all};
    memory x = {malloc(RECORD), malloc(RECORD)};
    assert_true(x.send && x.recv);
    flux1_status st = FLUX1_OK;
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 3 && st == FLUX1_OK; i++)
            if (comms[i]->size > 1 || m->ranks == 1)
                st = everything(arg, m, comms[i], &x);
    free(x.send);
    free(x.recv);
    return st;
}

typedef struct place {
    mesh_config shape;
    mesh_device device;
    mesh_session *session;
    flux1_error err;
} place;

static void place_open(const char *shape, processes *over, place *p)
{
    *p = (place){0};
    assert_int_equal(mesh_parse(shape, NULL, NULL, &p->shape, &p->err), FLUX1_OK);
    assert_int_equal(ops_cpu_device.open(0, &p->device.device, &p->err), FLUX1_OK);
    p->device.kind = p->device.device->kind;
    p->device.config = (ops_config){.arithmetic = DTYPE_F32, .threads = 1};
    p->device.processes = over;
    if (mesh_open(&p->shape, &p->device, &p->session, &p->err) != FLUX1_OK)
        fail_msg("%s", p->err.message);
}

static void place_close(place *p)
{
    mesh_close(p->session);
    ops_device_close(p->device.device);
}

static void record_on(const char *shape, processes *over, record *r)
{
    place p;
    place_open(shape, over, &p);
    for (int i = 0; i < mesh_ranks(&p.shape); i++) {
        r->size[i] = 0;
        r->bytes[i] = malloc(RECORD);
        assert_non_null(r->bytes[i]);
    }
    if ((over ? run_order : mesh_run)(p.session, everything_body, r, &p.err) != FLUX1_OK)
        fail_msg("%s: %s", shape, p.err.message);
    place_close(&p);
}

static void every_exchange_is_that_of_one_process(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof SHAPES / sizeof *SHAPES; s++) {
        record want = {0}, got = {0};
        mesh_config c;
        int first, count;
        assert_int_equal(mesh_parse(SHAPES[s], NULL, NULL, &c, NULL), FLUX1_OK);
        if (!enough_ranks(&c))
            continue;
        record_on(SHAPES[s], NULL, &want);
        record_on(SHAPES[s], test_processes, &got);
        processes_ranks(test_processes, processes_index(test_processes), mesh_ranks(&c), &first, &count);
        assert_true(count > 0);
        for (int r = first; r < first + count; r++) {
            assert_true(got.size[r] > 100000);
            assert_int_equal(got.size[r], want.size[r]);
            if (memcmp(got.bytes[r], want.bytes[r], want.size[r]) != 0)
                fail_msg("%s: rank %d has received something else", SHAPES[s], r);
        }
        for (int r = 0; r < mesh_ranks(&c); r++) {
            free(want.bytes[r]);
            free(got.bytes[r]);
        }
    }
}

typedef struct elsewhere {
    int of[RANKS_MAX][3]; /* ranks of other processes in each of a rank's communicators */
} elsewhere;

static flux1_status elsewhere_body(void *arg, mesh *m)
{
    comm *comms[] = {m->sp_comm, m->tp_comm, m->all};
    elsewhere *e = arg;
    for (int i = 0; i < 3; i++)
        e->of[m->rank][i] = comms[i]->away;
    return FLUX1_OK;
}

/* A plan has room for what the others send: it knows how many they are. */
static void a_dry_run_knows_which_ranks_are_elsewhere(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof SHAPES / sizeof *SHAPES; s++) {
        place p;
        elsewhere real = {0}, planned = {0};
        ops_count count;
        mesh_config c;
        int first, here;
        assert_int_equal(mesh_parse(SHAPES[s], NULL, NULL, &c, NULL), FLUX1_OK);
        if (!enough_ranks(&c))
            continue;
        place_open(SHAPES[s], test_processes, &p);
        assert_int_equal(run_order(p.session, elsewhere_body, &real, &p.err), FLUX1_OK);
        processes_ranks(test_processes, processes_index(test_processes), mesh_ranks(&c), &first, &here);
        for (int r = first; r < first + here; r++) {
            assert_int_equal(mesh_dry_run(&c, &p.device, r, elsewhere_body, &planned, &count, &p.err), FLUX1_OK);
            assert_memory_equal(planned.of[r], real.of[r], sizeof real.of[r]);
            assert_int_equal(real.of[r][2], mesh_ranks(&c) - here);
        }
        place_close(&p);
    }
}

/* A rank that computes for a while finds its neighbour's data there: it hardly waits for the shift's end. */
typedef struct overlap {
    double waited[RANKS_MAX];
} overlap;

enum { OVERLAP_BYTES = 8 << 20, OVERLAP_MILLISECONDS = 300 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static flux1_status overlap_body(void *arg, mesh *m)
{
    overlap *o = arg;
    char *send = calloc(1, OVERLAP_BYTES), *recv = malloc(OVERLAP_BYTES);
    assert_true(send && recv);
    volatile double sum = 0;
    double begin = now(), first = 0, last = 0, posted = clock_seconds();
    flux1_status st = m->all->fn->shift_begin(m->all, send, recv, OVERLAP_BYTES, 1);
    while (now() - begin < 1e-3 * OVERLAP_MILLISECONDS)
        sum = sum + 1;
    begin = now();
    if (st == FLUX1_OK)
        st = m->all->fn->shift_end(m->all);
    o->waited[m->rank] = now() - begin;
    if (st == FLUX1_OK && m->ranks > 1) { /* a profile tells when it moved */
        m->all->fn->shift_moved(m->all, &first, &last);
        if (!(posted <= first && first < last && last <= clock_seconds()))
            fail_msg("moved from %g s to %g s after it was begun", first - posted, last - posted);
    }
    free(send);
    free(recv);
    return st;
}

static void a_shift_moves_while_ranks_compute(void **state)
{
    (void)state;
    const int n = processes_count(test_processes);
    char shape[16];
    place p;
    overlap o = {0};
    double best = 1;
    snprintf(shape, sizeof shape, "%dx1", n);
    place_open(shape, test_processes, &p);
    for (int i = 0; i < 5; i++) { /* the machine has other work too */
        assert_int_equal(run_order(p.session, overlap_body, &o, &p.err), FLUX1_OK);
        double waited = o.waited[processes_index(test_processes)];
        best = waited < best ? waited : best;
    }
    place_close(&p);
    if (best > 0.1)
        fail_msg("a shift took %g s after %d ms of computing", best, OVERLAP_MILLISECONDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_exchange_is_that_of_one_process),
        cmocka_unit_test(a_dry_run_knows_which_ranks_are_elsewhere),
        cmocka_unit_test(a_shift_moves_while_ranks_compute),
    };
    test_processes = processes_start("1");
    processes_exit(test_processes, cmocka_run_group_tests(tests, NULL, NULL));
}
