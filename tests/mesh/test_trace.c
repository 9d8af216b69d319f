/* Profiles: what counts as hidden, sums by step, a full buffer, the way to another process, and a trace of a mesh. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "mesh/comm_profile.h"
#include "mesh/trace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const ops_config CONFIG = {.arithmetic = DTYPE_F32, .threads = 1};

/* A profile whose ranks were all timed on one backend, one after the other, by `fill`. */
static profile *filled(int ranks, void (*fill)(ops *o, int rank))
{
    profile *p;
    ops *o;
    flux1_error err = {0};
    ops_config c = CONFIG;
    c.err = &err;
    assert_int_equal(ops_ref_create(&c, &o), FLUX1_OK);
    assert_int_equal(profile_create(ranks, 0, ranks, &p, &err), FLUX1_OK);
    for (int r = 0; r < ranks; r++) {
        profile_attach(p, r, o, &c, &ops_ref_sizing);
        fill(o, r);
        profile_detach(o);
    }
    ops_destroy(o);
    return p;
}

/* Posted at 1, waited for from 5 on. */
static void hidden_is_what_moved_between_posting_and_waiting(void **state)
{
    (void)state;
    assert_true(comm_hidden(1, 5, 1, 4) == 3);   /* it was there before anybody waited */
    assert_true(comm_hidden(1, 5, 2, 7) == 3);   /* 2 to 5; the rest is waited for */
    assert_true(comm_hidden(1, 5, 5.5, 7) == 0); /* moved while waited for */
    assert_true(comm_hidden(1, 5, 0, 0.5) == 0);
    assert_true(comm_hidden(1, 5, 0, 9) == 4);
}

static span exchange(const char *name, double exposed, double hidden)
{
    span s = {.begin = 10, .end = 20, .exposed = exposed, .hidden = hidden, .bytes_moved = 100, .ranks = 2};
    snprintf(s.name, sizeof s.name, "%s", name);
    return s;
}

/* Before and after the steps 1 s; step 1: 1 s of gathering, and a ring of 1 exposed and 3 hidden; step 2 as much on
 * rank 0, on rank 1 a ring of 4 hidden. */
static void fill_steps(ops *o, int rank)
{
    span gather = exchange("all_gather", 1, 0), ring = exchange("shift", 1, 3), other = exchange("shift", 0, 4);
    profile_open(o, SPAN_STAGE, "stage", -1);
    if (rank == 0)
        profile_exchange(o, &gather);
    for (int k = 0; k < 2; k++) {
        profile_open(o, SPAN_STEP, "step", k);
        profile_exchange(o, &gather);
        profile_exchange(o, k && rank ? &other : &ring);
        profile_close(o);
    }
    if (rank == 0)
        profile_exchange(o, &gather);
}

static void exchange_is_summed_by_step_over_ranks(void **state)
{
    (void)state;
    profile *p = filled(2, fill_steps);
    char text[512];
    exchange_time all = trace_exchange(p, -1), first = trace_exchange(p, 0), second = trace_exchange(p, 1);
    assert_int_equal(trace_steps(p), 2);
    assert_true(first.seconds == 10 && first.hidden == 6 && first.ring_seconds == 8 && first.ring_hidden == 6);
    assert_true(second.seconds == 10 && second.hidden == 7 && second.ring_seconds == 8 && second.ring_hidden == 7);
    assert_true(all.seconds == 22 && all.hidden == 13 && all.ring_seconds == 16 && all.ring_hidden == 13);
    trace_sentence(p, text, sizeof text);
    assert_string_equal(text,
                        "exchange 22000.0 ms of all ranks, of which 59.1 % hidden behind compute (ring 81.2 %); by "
                        "step 60.0, 70.0");
    trace_sentence(p, text, 20); /* cut off */
    assert_int_equal(strlen(text), 19);
    profile_destroy(p);
}

static void fill_too_many(ops *o, int rank)
{
    span s = exchange("shift", 0, 1);
    (void)rank;
    profile_open(o, SPAN_STAGE, "stage", -1);
    for (int i = 0; i < PROFILE_SPANS + 6; i++)
        profile_exchange(o, &s);
    profile_open(o, SPAN_STEP, "step", 3);
    profile_close(o);
}

static void a_full_profile_counts_what_it_drops(void **state)
{
    (void)state;
    size_t count;
    char text[512];
    profile *p = filled(1, fill_too_many);
    profile_spans(p, 0, &count);
    assert_int_equal(count, PROFILE_SPANS);
    assert_int_equal(profile_dropped(p, 0), 8);
    trace_sentence(p, text, sizeof text);
    assert_non_null(strstr(text, "8 spans did not fit"));
    profile_destroy(p);
}

static void spans_go_to_another_process(void **state)
{
    (void)state;
    flux1_error err = {0};
    profile *from = filled(2, fill_steps), *to;
    size_t size = profile_packed_bytes(from, 1), count, more;
    char *bytes = malloc(size);
    assert_int_equal(profile_create(2, 0, 1, &to, &err), FLUX1_OK);
    profile_pack(from, 1, bytes);
    assert_int_equal(profile_unpack(to, 1, bytes, size, 0.5, &err), FLUX1_OK);
    const span *a = profile_spans(from, 1, &count), *b = profile_spans(to, 1, &more);
    assert_int_equal(count, more);
    for (size_t i = 0; i < count; i++) {
        assert_true(b[i].begin == a[i].begin + 0.5 && b[i].end == a[i].end + 0.5);
        assert_string_equal(a[i].name, b[i].name);
        assert_true(a[i].step == b[i].step && a[i].hidden == b[i].hidden);
    }
    assert_int_equal(profile_unpack(to, 1, bytes, size - 1, 0, &err), FLUX1_ERR_FORMAT);
    assert_int_equal(profile_unpack(to, 1, bytes, 3, 0, &err), FLUX1_ERR_FORMAT);
    memset(bytes + size - SPAN_BLOCK - SPAN_NAME, 'x', SPAN_NAME); /* a name without an end */
    assert_int_equal(profile_unpack(to, 1, bytes, size, 0, &err), FLUX1_ERR_FORMAT);
    profile_spans(to, 1, &more);
    assert_int_equal(count, more);
    free(bytes);
    profile_destroy(from);
    profile_destroy(to);
}

/* ---- a mesh ---- */

typedef struct job {
    int failing; /* rank, or −1 */
} job;

/* A gather over tp in a stage, a shift over sp in step 4. */
static flux1_status body(void *arg, mesh *m)
{
    const job *j = arg;
    ops *o = m->o;
    act x, full;
    void *send, *recv;
    profile_open(o, SPAN_STAGE, "gathering", -1);
    TRY(ops_create(o, ACT_LINEAR, shape_rows(1, 0, mesh_rows(m, 12).count, 8), &x));
    TRY(ops_create(o, ACT_LINEAR, shape_rows(1, 0, mesh_span(m, 12).count, 8), &full));
    TRY(ops_activate(o, ACTIVATION_SILU, x, (act){0}, x));
    TRY(mesh_gather(m, x, full));
    profile_open(o, SPAN_STEP, "step", 4);
    TRY(ops_exchange(o, 64, &send));
    TRY(ops_exchange(o, 64, &recv));
    TRY(m->sp_comm->fn->shift_begin(m->sp_comm, send, recv, 64, 1));
    TRY(ops_finite(o, full, 0));
    TRY(m->sp_comm->fn->shift_end(m->sp_comm));
    if (m->rank == j->failing)
        return error_set(m->err, FLUX1_ERR_IO, "as asked");
    profile_close(o);
    ops_release(o, 0);
    return FLUX1_OK;
}

static const json_value *member(const json_value *o, const char *key) { return json_object_get(o, key); }
static double number(const json_value *o, const char *key) { return json_number_value(member(o, key)); }

/* Spans of calls and exchanges follow one another; stages and steps enclose them. */
static void expect_order(const json_value *events, int rank, int track)
{
    double end = -1;
    const json_value *e;
    for (size_t i = 0; (e = json_array_get(events, i)); i++) {
        if (strcmp(json_string_value(member(e, "ph")), "X") != 0 || (int)number(e, "pid") != rank ||
            (int)number(e, "tid") != track)
            continue;
        const char *category = json_string_value(member(e, "cat"));
        if (!strcmp(category, "stage") || !strcmp(category, "step"))
            continue;
        assert_true(number(e, "dur") >= 0);
        if (number(e, "ts") < end - 1e-6)
            fail_msg("rank %d, track %d: %s begins before the last one ends", rank, track,
                     json_string_value(member(e, "name")));
        end = number(e, "ts") + number(e, "dur");
    }
    assert_true(end > 0);
}

static int count_named(const json_value *events, const char *name, int rank)
{
    int n = 0;
    const json_value *e;
    for (size_t i = 0; (e = json_array_get(events, i)); i++)
        n += !strcmp(json_string_value(member(e, "name")), name) && (int)number(e, "pid") == rank;
    return n;
}

static void run_on_mesh(const char *shape, job *j, const char *path)
{
    const size_t bytes[4] = {1 << 16, 1 << 16, 1 << 16, 1 << 16};
    mesh_config shape_of;
    mesh_device d = {.config = CONFIG};
    mesh_session *s;
    profile *p;
    flux1_error err = {0};
    assert_int_equal(mesh_parse(shape, NULL, NULL, &shape_of, &err), FLUX1_OK);
    assert_int_equal(ops_cpu_device.open(0, &d.device, &err), FLUX1_OK);
    d.kind = d.device->kind;
    assert_int_equal(mesh_open(&shape_of, &d, &s, &err), FLUX1_OK);
    assert_int_equal(mesh_reserve(s, bytes, &err), FLUX1_OK);
    assert_int_equal(profile_create(mesh_ranks(&shape_of), 0, mesh_ranks(&shape_of), &p, &err), FLUX1_OK);
    mesh_profile(s, p);
    flux1_status st = mesh_run(s, body, j, &err);
    assert_int_equal(st, j->failing >= 0 ? FLUX1_ERR_IO : FLUX1_OK);
    j->failing = -1;
    mesh_profile(s, NULL);
    assert_int_equal(mesh_run(s, body, j, &err), FLUX1_OK); /* and one that nobody times */
    assert_int_equal(trace_write(p, &shape_of, path, &err), FLUX1_OK);
    assert_int_equal(trace_write(p, &shape_of, "/nowhere/trace.json", &err), FLUX1_ERR_IO);
    profile_destroy(p);
    mesh_close(s);
    ops_device_close(d.device);
}

static json_value *read_trace(const char *path)
{
    char *text;
    size_t size;
    json_value *root;
    flux1_error err = {0};
    assert_int_equal(file_read(path, (size_t)1 << 24, &text, &size, &err), FLUX1_OK);
    if (json_parse(text, size, "trace", &root, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    free(text);
    unlink(path);
    return root;
}

static void a_mesh_s_trace_has_a_process_for_each_rank(void **state)
{
    (void)state;
    char path[64];
    snprintf(path, sizeof path, "/tmp/flux1_trace_%d.json", (int)getpid());
    run_on_mesh("2x2", &(job){-1}, path);
    json_value *root = read_trace(path);
    const json_value *events = member(root, "traceEvents");
    for (int r = 0; r < 4; r++) {
        expect_order(events, r, 0);
        expect_order(events, r, 1);
        static const char *const once[] = {"process_name", "gathering", "step 5", "activate",
                                           "all_gather",   "shift",     "finite"};
        for (size_t i = 0; i < sizeof once / sizeof once[0]; i++)
            assert_int_equal(count_named(events, once[i], r), 1);
        assert_int_equal(count_named(events, "thread_name", r), 2);
        assert_int_equal(count_named(events, "create", r), 0);
    }
    json_free(root);
}

/* The failed body's open spans end with it, and the communicators are the mesh's own again. */
static void a_failed_body_leaves_a_whole_profile(void **state)
{
    (void)state;
    char path[64];
    snprintf(path, sizeof path, "/tmp/flux1_trace_%d.json", (int)getpid());
    run_on_mesh("2x2", &(job){1}, path);
    json_value *root = read_trace(path);
    assert_int_equal(count_named(member(root, "traceEvents"), "gathering", 1), 1);
    json_free(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hidden_is_what_moved_between_posting_and_waiting),
        cmocka_unit_test(exchange_is_summed_by_step_over_ranks),
        cmocka_unit_test(a_full_profile_counts_what_it_drops),
        cmocka_unit_test(spans_go_to_another_process),
        cmocka_unit_test(a_mesh_s_trace_has_a_process_for_each_rank),
        cmocka_unit_test(a_failed_body_leaves_a_whole_profile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
