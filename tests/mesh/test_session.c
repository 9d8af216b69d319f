/* A session outlives the failures of its ranks: whatever call fails on whatever rank, every rank returns, the message
 * is the failing rank's own, and the next body runs with right sums on arenas as they were. TEST_DEVICE: another device
 * than ref and cpu; the emulated GPU, with ranks that share it and with one each. TEST_PROCESSES: the ranks are spread
 * over the processes that mpirun has started, and each body is an order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#ifdef TEST_DEVICE
#include "ops/cuda_emulator/install.h"
#endif
#include "mesh/mesh.h"
#include "mesh/runner.h"
#include "support/processes_run.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RANKS_MAX 4
#define ARENA ((size_t)1 << 20)

static const char *const SHAPES[] = {"1x1", "2x1", "1x2", "2x2", "4x1"};
#define SHAPE_COUNT (sizeof SHAPES / sizeof SHAPES[0])

/* own: a device for each rank, joined by links */
typedef struct kind_of_place {
    const char *device;
    bool own;
} kind_of_place;
#ifdef TEST_DEVICE
static const kind_of_place DEVICES[] = {{TEST_DEVICE, false}, {TEST_DEVICE, true}};
#elif defined(TEST_PROCESSES)
static const kind_of_place DEVICES[] = {{"cpu", false}};
#else
static const kind_of_place DEVICES[] = {{"ref", false}, {"cpu", false}};
#endif
#define DEVICE_COUNT (sizeof DEVICES / sizeof DEVICES[0])

typedef struct place {
    mesh_config shape;
    mesh_device device;
    ops_device *own[RANKS_MAX];
    atomic_int cancel;
    mesh_session *session;
    flux1_error err;
} place;

static void place_open(const kind_of_place *k, const char *shape, place *p)
{
    const size_t bytes[RANKS_MAX] = {ARENA, ARENA, ARENA, ARENA};
    int ordinal;
    *p = (place){0};
    assert_int_equal(mesh_parse(shape, NULL, NULL, &p->shape, &p->err), FLUX1_OK);
    if (ops_device_find(k->device, &p->device.kind, &ordinal, &p->err) != FLUX1_OK ||
        p->device.kind->open(ordinal, &p->device.device, &p->err) != FLUX1_OK)
        fail_msg("%s", p->err.message);
    for (int r = 0; k->own && r < mesh_ranks(&p->shape); r++) {
        assert_int_equal(p->device.kind->open(r, &p->own[r], &p->err), FLUX1_OK);
        p->device.own = p->own;
    }
    p->device.processes = test_processes;
    p->device.config = (ops_config){.arithmetic = DTYPE_F32, .threads = 2, .cancel = &p->cancel};
    if (mesh_open(&p->shape, &p->device, &p->session, &p->err) != FLUX1_OK ||
        mesh_reserve(p->session, bytes, &p->err) != FLUX1_OK)
        fail_msg("%s", p->err.message);
    if (!test_processes)
        assert_int_equal(p->session->ranks, mesh_ranks(&p->shape));
}

static void place_close(place *p)
{
    mesh_close(p->session);
    for (int r = 0; r < RANKS_MAX; r++)
        ops_device_close(p->own[r]);
    ops_device_close(p->device.device);
}

/* ---- a body of collectives ---- */

typedef struct job {
    block *kept[RANKS_MAX]; /* left on the backends by the first body */
    size_t mark[RANKS_MAX];
    int failing, at; /* this rank fails before its call `at`; −1: none */
    int calls[RANKS_MAX];
    int rounds;
    atomic_int done;  /* rounds, by rank 0 */
    atomic_bool over; /* mesh_run has returned */
} job;

static flux1_status next_call(job *j, mesh *m)
{
    if (m->rank == j->failing && j->calls[m->rank] == j->at)
        return error_set(m->err, FLUX1_ERR_IO, "rank %d fails at call %d", m->rank, j->at);
    j->calls[m->rank]++;
    return FLUX1_OK;
}

static flux1_status keep_body(void *arg, mesh *m)
{
    job *j = arg;
    act kept;
    TRY(ops_block_create(m->o, "kept", &j->kept[m->rank]));
    TRY(ops_create(m->o, ACT_PARTIAL, shape_rows(1, 0, 3, 5), &kept));
    j->mark[m->rank] = ops_mark(m->o);
    return FLUX1_OK;
}

static flux1_status put(mesh *m, float value, int64_t rows, act *out)
{
    tensor host = {.type = DTYPE_F32, .dims = 2, .shape = {rows, 1}, .data = (float[RANKS_MAX]){0}};
    for (int64_t i = 0; i < rows; i++)
        ((float *)host.data)[i] = value + 10 * (float)i;
    TRY(ops_create(m->o, ACT_PARTIAL, shape_rows(1, 0, rows, 1), out));
    return ops_upload(m->o, &host, *out);
}

/* The rows that arrived in exchange memory. */
static flux1_status expect(mesh *m, const void *bytes, const float *want, int64_t rows, const char *what)
{
    float got[RANKS_MAX];
    tensor host = {.type = DTYPE_F32, .dims = 2, .shape = {rows, 1}, .data = got};
    act in;
    TRY(ops_create(m->o, ACT_PARTIAL, shape_rows(1, 0, rows, 1), &in));
    TRY(ops_unpack(m->o, bytes, in, 0, rows));
    TRY(ops_download(m->o, in, &host));
    for (int64_t i = 0; i < rows; i++)
        if (got[i] != want[i])
            return error_set(m->err, FLUX1_ERR_INTERNAL, "rank %d: %s row %d is %g, not %g", m->rank, what, (int)i,
                             (double)got[i], (double)want[i]);
    return FLUX1_OK;
}

/* Rank r of c sends r + 1 (+ 10·row). */
static flux1_status gather(job *j, mesh *m, comm *c)
{
    act mine;
    void *send, *recv;
    float want[RANKS_MAX];
    TRY(put(m, (float)c->rank + 1, 1, &mine));
    TRY(ops_exchange(m->o, sizeof(float), &send));
    TRY(ops_exchange(m->o, sizeof(float) * (size_t)c->size, &recv));
    TRY(ops_pack(m->o, mine, 0, 1, send));
    TRY(next_call(j, m));
    TRY(c->fn->all_gather(c, send, recv, sizeof(float)));
    for (int r = 0; r < c->size; r++)
        want[r] = (float)r + 1;
    return expect(m, recv, want, c->size, "gathered");
}

static flux1_status reduce(job *j, mesh *m, comm *c)
{
    act mine;
    void *send, *recv;
    float n = (float)c->size, want = n * (n + 1) / 2 + 10 * n * (float)c->rank;
    TRY(put(m, (float)c->rank + 1, c->size, &mine));
    TRY(ops_exchange(m->o, sizeof(float) * (size_t)c->size, &send));
    TRY(ops_exchange(m->o, sizeof(float) * (size_t)(1 + c->away), &recv));
    TRY(ops_pack(m->o, mine, 0, c->size, send));
    TRY(next_call(j, m));
    TRY(c->fn->reduce_scatter(c, send, recv, 1));
    return expect(m, recv, &want, 1, "sum");
}

static flux1_status shift(job *j, mesh *m, comm *c)
{
    act mine;
    void *send, *recv;
    float want = (float)((c->rank + 1) % c->size) + 1;
    TRY(put(m, (float)c->rank + 1, 1, &mine));
    TRY(ops_exchange(m->o, sizeof(float), &send));
    TRY(ops_exchange(m->o, sizeof(float), &recv));
    TRY(ops_pack(m->o, mine, 0, 1, send));
    TRY(next_call(j, m));
    TRY(c->fn->shift_begin(c, send, recv, sizeof(float), 1));
    TRY(next_call(j, m));
    TRY(c->fn->shift_end(c));
    return expect(m, recv, &want, 1, "shifted");
}

static flux1_status collectives(job *j, mesh *m)
{
    comm *comms[] = {m->sp_comm, m->tp_comm, m->all};
    TRY(next_call(j, m));
    TRY(ops_block_begin(m->o, j->kept[m->rank]));
    for (int i = 0; i < 3; i++) {
        if (comms[i]->size < m->ranks && comms[i]->size == 1) /* the forms never ask it either */
            continue;
        TRY(gather(j, m, comms[i]));
        TRY(reduce(j, m, comms[i]));
        TRY(shift(j, m, comms[i]));
    }
    TRY(ops_block_end(m->o, j->kept[m->rank]));
    return next_call(j, m);
}

/* The work of a stage, `rounds` times. A failing round leaves its activations and its bracket behind, as models do. */
static flux1_status rounds_body(void *arg, mesh *m)
{
    job *j = arg;
    size_t mark = ops_mark(m->o);
    if (mark != j->mark[m->rank])
        return error_set(m->err, FLUX1_ERR_INTERNAL, "rank %d: the arena is at %zu, not at %zu", m->rank, mark,
                         j->mark[m->rank]);
    j->calls[m->rank] = 0;
    for (int i = 0; i < j->rounds; i++) {
        TRY(collectives(j, m));
        ops_release(m->o, mark);
        if (m->rank == 0)
            atomic_fetch_add(&j->done, 1);
    }
    return FLUX1_OK;
}

static void succeeds(place *p, job *j)
{
    j->failing = -1;
    j->rounds = 2;
    if (run_order(p->session, rounds_body, j, &p->err) != FLUX1_OK)
        fail_msg("%s", p->err.message);
}

typedef void scenario(place *p, job *j, const char *where);

static void on_every_mesh(scenario *run)
{
    for (size_t d = 0; d < DEVICE_COUNT; d++)
        for (size_t s = 0; s < SHAPE_COUNT; s++) {
            char where[64];
            place p;
            job j = {.failing = -1};
            assert_int_equal(mesh_parse(SHAPES[s], NULL, NULL, &p.shape, NULL), FLUX1_OK);
            if (!enough_ranks(&p.shape))
                continue;
            snprintf(where, sizeof where, "%s%s %s", DEVICES[d].device, DEVICES[d].own ? ", linked" : "", SHAPES[s]);
            place_open(&DEVICES[d], SHAPES[s], &p);
            assert_int_equal(run_order(p.session, keep_body, &j, &p.err), FLUX1_OK);
            run(&p, &j, where);
            place_close(&p);
        }
}

/* ---- the rules ---- */

/* Another process's message begins with its name. */
static bool ends_with(const char *message, const char *want)
{
    size_t n = strlen(message), m = strlen(want);
    return test_processes ? n >= m && strcmp(message + n - m, want) == 0 : strcmp(message, want) == 0;
}

static void fails_everywhere(place *p, job *j, const char *where)
{
    succeeds(p, j);
    const int ranks = mesh_ranks(&p->shape), comms = ranks == 1 ? 3 : 1 + (p->shape.sp > 1) + (p->shape.tp > 1),
              calls = 2 * (2 + 4 * comms); /* rounds · (at both ends, and per communicator 1 + 1 + 2) */
    if (!test_processes)
        assert_int_equal(j->calls[0], calls);
    for (int r = 0; r < ranks; r++)
        for (int n = 0; n < calls; n++) {
            char want[64];
            snprintf(want, sizeof want, "rank %d fails at call %d", r, n);
            j->failing = r;
            j->at = n;
            if (run_order(p->session, rounds_body, j, &p->err) != FLUX1_ERR_IO || !ends_with(p->err.message, want))
                fail_msg("%s: \"%s\", not \"%s\"", where, p->err.message, want);
            succeeds(p, j);
        }
}

static void a_session_survives_a_failure_at_any_call_of_any_rank(void **state)
{
    (void)state;
    on_every_mesh(fails_everywhere);
}

static void *cancel_soon(void *arg)
{
    void **at = arg;
    place *p = at[0];
    job *j = at[1];
    while (atomic_load(&j->done) < 3 && !atomic_load(&j->over))
        usleep(100);
    atomic_store(&p->cancel, 1);
    return NULL;
}

static void cancelled_midway(place *p, job *j, const char *where)
{
    for (int i = 0; i < 5; i++) {
        pthread_t other;
        j->rounds = 1 << 30;
        atomic_store(&j->done, 0);
        atomic_store(&j->over, false);
        assert_int_equal(pthread_create(&other, NULL, cancel_soon, (void *[]){p, j}), 0);
        flux1_status st = run_order(p->session, rounds_body, j, &p->err);
        atomic_store(&j->over, true);
        pthread_join(other, NULL);
        if (st != FLUX1_ERR_CANCELLED)
            fail_msg("%s: %s", where, p->err.message);
        atomic_store(&p->cancel, 0);
        succeeds(p, j);
    }
}

static void a_session_survives_a_cancel(void **state)
{
    (void)state;
    on_every_mesh(cancelled_midway);
}

/* Rank 1 fails with FLUX1_ERR_COMM, then the others with another status: neither the rank nor the status decides. */
static flux1_status two_fail_body(void *arg, mesh *m)
{
    (void)arg;
    if (m->rank == 1)
        return error_set(m->err, FLUX1_ERR_COMM, "rank 1 has lost its network");
    char byte[RANKS_MAX] = {0};
    act a;
    void *send, *recv;
    TRY(ops_create(m->o, ACT_PARTIAL, shape_rows(1, 0, 1, 1), &a));
    TRY(ops_exchange(m->o, sizeof byte, &send));
    TRY(ops_exchange(m->o, sizeof byte, &recv));
    if (m->all->fn->all_gather(m->all, send, recv, 1) != FLUX1_OK)
        return error_set(m->err, FLUX1_ERR_IO, "rank %d finds that its files are gone too", m->rank);
    return FLUX1_OK;
}

static void the_first(place *p, job *j, const char *where)
{
    (void)j;
    if (mesh_ranks(&p->shape) == 1)
        return;
    if (run_order(p->session, two_fail_body, NULL, &p->err) != FLUX1_ERR_COMM ||
        !ends_with(p->err.message, "rank 1 has lost its network"))
        fail_msg("%s: \"%s\"", where, p->err.message);
}

static void the_first_failure_is_told(void **state)
{
    (void)state;
    on_every_mesh(the_first);
}

enum { MARK = 0x5A };

typedef struct taken {
    size_t bytes;
    void *at[RANKS_MAX];
    unsigned char found[RANKS_MAX]; /* there, before it was written */
} taken;

static flux1_status take_body(void *arg, mesh *m)
{
    taken *t = arg;
    TRY(ops_exchange(m->o, t->bytes, &t->at[m->rank]));
    unsigned char *last = (unsigned char *)t->at[m->rank] + t->bytes - 1;
    t->found[m->rank] = *last;
    *last = MARK;
    return FLUX1_OK;
}

/* The arena of place_open has ARENA bytes and something on it: half of it is kept, and what was written there. */
static void reserved_again(place *p, job *j, const char *where)
{
    const int ranks = mesh_ranks(&p->shape);
    size_t bytes[RANKS_MAX] = {ARENA / 2, ARENA / 2, ARENA / 2, ARENA / 2};
    taken first = {.bytes = ARENA / 2}, again = first;
    for (int i = 0; i < 2; i++)
        if (mesh_reserve(p->session, bytes, &p->err) != FLUX1_OK ||
            run_order(p->session, take_body, i ? &again : &first, &p->err) != FLUX1_OK)
            fail_msg("%s: %s", where, p->err.message);
    for (int r = 0; r < ranks; r++) {
        assert_ptr_equal(first.at[r], again.at[r]);
        assert_int_equal(again.found[r], again.at[r] ? MARK : 0); /* NULL: a rank of another process */
        bytes[r] = (size_t)(2 + r) * ARENA;
        j->mark[r] = 0;
    }
    if (mesh_reserve(p->session, bytes, &p->err) != FLUX1_OK)
        fail_msg("%s: %s", where, p->err.message);
    succeeds(p, j); /* with the block that was left */
}

__attribute__((unused)) static void an_arena_that_is_large_enough_is_kept(void **state)
{
    (void)state;
    on_every_mesh(reserved_again);
}

/* ---- steps ---- */

enum { STEPS = 7 };

typedef struct loop {
    act value[RANKS_MAX];
    act factor[RANKS_MAX]; /* a table: step + 1 */
    int made[RANKS_MAX];   /* steps whose calls were made */
    int ticks[RANKS_MAX];  /* of all steps */
    int bad_rank, bad_slot;
    int64_t step;
    uint64_t recording;
    bool in_parts; /* even steps are one part, odd steps another */
} loop;

static flux1_status loop_open_body(void *arg, mesh *m)
{
    loop *l = arg;
    float factors[STEPS];
    const tensor host = {.type = DTYPE_F32, .dims = 2, .shape = {STEPS, 1}, .data = factors};
    for (int i = 0; i < STEPS; i++)
        factors[i] = (float)i + 1;
    TRY(put(m, 1, 1, &l->value[m->rank]));
    TRY(ops_create(m->o, ACT_TABLE, shape_rows(1, 0, STEPS, 1), &l->factor[m->rank]));
    return ops_upload(m->o, &host, l->factor[m->rank]);
}

/* Each rank's value goes to the one before it. Left out on other devices, which record steps in their own way. */
static flux1_status pass_on(mesh *m, act value)
{
#ifndef TEST_DEVICE
    comm *c = m->all;
    const size_t mark = ops_mark(m->o);
    void *send, *recv;
    TRY(ops_exchange(m->o, sizeof(float), &send));
    TRY(ops_exchange(m->o, sizeof(float) * (size_t)c->size, &recv));
    TRY(ops_pack(m->o, value, 0, 1, send));
    TRY(c->fn->all_gather(c, send, recv, sizeof(float)));
    TRY(ops_unpack(m->o, (float *)recv + (c->rank + 1) % c->size, value, 0, 1));
    ops_release(m->o, mark);
#else
    (void)m, (void)value;
#endif
    return FLUX1_OK;
}

static flux1_status loop_calls(void *arg, mesh *m)
{
    loop *l = arg;
    const act value = l->value[m->rank];
    l->made[m->rank]++;
    TRY(ops_add(m->o, value, 1, l->factor[m->rank], value, value)); /* times step + 2 */
    TRY(mesh_tick(NULL, m));
    TRY(ops_finite(m->o, value, m->rank == l->bad_rank ? l->bad_slot : 0));
    return pass_on(m, value);
}

static flux1_status loop_parts(void *arg, mesh *m)
{
    bool silent;
    const loop *l = arg;
    TRY(mesh_part(m, l->step % 2 ? 4 : 1, loop_calls, arg, &silent));
    return silent ? mesh_tick(NULL, m) : FLUX1_OK;
}

static flux1_status loop_tick(void *arg, mesh *m)
{
    ((loop *)arg)->ticks[m->rank]++;
    return FLUX1_OK;
}

static flux1_status loop_body(void *arg, mesh *m)
{
    loop *l = arg;
    bool silent;
    int slot, made = l->made[m->rank], ticks = l->ticks[m->rank];
    const mesh_step_calls step = {
        .calls = l->in_parts ? loop_parts : loop_calls, .tick = loop_tick, .arg = l, .in_parts = l->in_parts};
    TRY(mesh_step(m, l->step, l->recording, &step, &silent));
#ifndef TEST_DEVICE /* lists of calls have the tick as well */
    if (silent)
        return error_set(m->err, FLUX1_ERR_INTERNAL, "rank %d is silent at step %d", m->rank, (int)l->step);
#endif
    if (l->ticks[m->rank] != ticks + !silent || (silent && l->made[m->rank] != made))
        return error_set(m->err, FLUX1_ERR_INTERNAL, "a step had %d ticks", l->ticks[m->rank] - ticks);
    TRY(mesh_step_wait(m, l->step, &slot));
    if (slot != (l->step == STEPS - 1 ? l->bad_slot : -1))
        return error_set(m->err, FLUX1_ERR_INTERNAL, "rank %d hears of slot %d at step %d", m->rank, slot,
                         (int)l->step);
    float got, want = 1;
    tensor host = {.type = DTYPE_F32, .dims = 2, .shape = {1, 1}, .data = &got};
    TRY(ops_download(m->o, l->value[m->rank], &host));
    for (int64_t i = 0; i <= l->step; i++)
        want *= (float)(i + 2);
    if (l->step < STEPS - 1 && got != want)
        return error_set(m->err, FLUX1_ERR_INTERNAL, "rank %d: %g after step %d", m->rank, (double)got, (int)l->step);
    return FLUX1_OK;
}

static flux1_status spoil_body(void *arg, mesh *m)
{
    loop *l = arg;
    float bad = m->rank == l->bad_rank ? __builtin_nanf("") : 0;
    tensor host = {.type = DTYPE_F32, .dims = 2, .shape = {1, 1}, .data = &bad};
    return ops_upload(m->o, &host, l->value[m->rank]);
}

/* Six steps that multiply 1, then one with a NaN on the last rank alone: all ranks hear of it. */
static void check_steps(place *p, bool in_parts, uint64_t recording, const char *where)
{
    loop l = {.bad_rank = mesh_ranks(&p->shape) - 1, .bad_slot = 3, .recording = recording, .in_parts = in_parts};
    assert_int_equal(run_order(p->session, loop_open_body, &l, &p->err), FLUX1_OK);
    for (l.step = 0; l.step < STEPS; l.step++) {
        if (l.step == STEPS - 1)
            assert_int_equal(run_order(p->session, spoil_body, &l, &p->err), FLUX1_OK);
        if (run_order(p->session, loop_body, &l, &p->err) != FLUX1_OK)
            fail_msg("%s: %s", where, p->err.message);
    }
    int made = 0;
    for (int r = 0; r < mesh_ranks(&p->shape); r++)
        made += l.made[r];
    if (strstr(where, "cpu")) /* each part once on each rank here, and then replayed */
        assert_int_equal(made, p->session->ranks * (in_parts ? 2 : 1));
}

static void steps_agree(place *p, job *j, const char *where)
{
    (void)j;
    check_steps(p, false, 1, where);
    check_steps(p, true, 2, where);
    check_steps(p, true, 5, where); /* whose part 1 is not part 4 of the one before */
}

static void all_ranks_hear_what_a_step_found(void **state)
{
    (void)state;
    on_every_mesh(steps_agree);
}

/* A kind of device may have no backend to call: a dry run's sizing is all that it needs to be planned. */
static void a_kind_that_nothing_runs_is_refused(void **state)
{
    (void)state;
    const ops_device_kind planned = {.name = "planned", .sizing = &ops_ref_sizing};
    const mesh_device d = {.kind = &planned, .config = {.arithmetic = DTYPE_F32, .threads = 1}};
    mesh_config c;
    mesh_session *s = NULL;
    flux1_error err = {0};
    assert_int_equal(mesh_parse("2x1", NULL, NULL, &c, &err), FLUX1_OK);
    assert_int_equal(mesh_open(&c, &d, &s, &err), FLUX1_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "device planned"));
    assert_null(s);
}

#ifndef TEST_DEVICE /* whose GPU has threads of its own */
/* Whether the thread blocks SIGUSR1: of /proc, "SigBlk:" and 16 hexadecimal digits. */
static bool takes_none(const char *thread)
{
    char path[300], line[256];
    unsigned long long blocked = 0;
    snprintf(path, sizeof path, "/proc/self/task/%s/status", thread);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        sscanf(line, "SigBlk: %llx", &blocked);
    if (f)
        fclose(f);
    return !f || blocked >> (SIGUSR1 - 1) & 1;
}

static void signals_are_left_to_the_programs_own_thread(void **state)
{
    (void)state;
    place p;
    char own[24];
    int others = 0;
    snprintf(own, sizeof own, "%d", (int)getpid());
    place_open(&DEVICES[DEVICE_COUNT - 1], "2x2", &p);
    assert_int_equal(run_order(p.session, keep_body, &(job){0}, &p.err),
                     FLUX1_OK); /* a thread begins with all blocked */
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.' || strcmp(e->d_name, own) == 0)
            continue;
        others++;
        if (!takes_none(e->d_name))
            fail_msg("a thread that the program does not know of takes its signals");
    }
    if (d)
        closedir(d);
    place_close(&p);
    assert_true(!d || others >= (test_processes ? 1 : 3));
}
#endif

int main(void)
{
#ifdef TEST_DEVICE
    cuda_emulator_devices(RANKS_MAX);
#endif
#ifdef TEST_PROCESSES
    test_processes = processes_start("1");
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_survives_a_failure_at_any_call_of_any_rank),
        cmocka_unit_test(a_session_survives_a_cancel),
        cmocka_unit_test(the_first_failure_is_told),
#ifndef TEST_DEVICE /* ops/cuda makes its arena anew */
        cmocka_unit_test(an_arena_that_is_large_enough_is_kept),
#endif
        cmocka_unit_test(all_ranks_hear_what_a_step_found),
        cmocka_unit_test(a_kind_that_nothing_runs_is_refused),
#ifndef TEST_DEVICE
        cmocka_unit_test(signals_are_left_to_the_programs_own_thread),
#endif
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (test_processes)
        processes_exit(test_processes, failed);
    return failed;
}
