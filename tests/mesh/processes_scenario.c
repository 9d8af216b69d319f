/* One process of those that processes_end.sh ends badly. It writes its number to DIR/pid.<index> once it is at work,
 * and the sentence that ends it to DIR/said.<index>. usage: processes_scenario DIR exchange|idle|versions */
#include "support/processes_run.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BYTES = 4 << 20, LAST_BYTES = 300000 };

static const char *folder;

/* The file appears when it is complete. */
static void write_file(const char *name, int index, const char *text)
{
    char path[512], temporary[520];
    snprintf(path, sizeof path, "%s/%s.%d", folder, name, index);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    FILE *f = fopen(temporary, "w");
    if (!f || fprintf(f, "%s\n", text) < 0 || fclose(f) != 0 || rename(temporary, path) != 0)
        _exit(4);
}

static void at_work(processes *p)
{
    char text[32];
    snprintf(text, sizeof text, "%d", (int)getpid());
    write_file("pid", processes_index(p), text);
}

static _Noreturn void ends_with(processes *p, int index, const flux1_error *err)
{
    bool gone = p && processes_gone(p);
    write_file("said", index, err->message);
    processes_close(p);
    write_file("closed", index, gone ? "gone" : "");
    _exit(3);
}

static flux1_status exchange_body(void *arg, mesh *m)
{
    char *send = calloc(1, BYTES), *recv = calloc((size_t)m->ranks, BYTES);
    if (!send || !recv)
        return error_oom(m->err, BYTES, "the test");
    flux1_status st = FLUX1_OK;
    for (int i = 0; st == FLUX1_OK; i++) {
        st = m->all->fn->all_gather(m->all, send, recv, i % 3 ? BYTES : 1000);
        if (i == 3 && m->rank == m->ranks - 1)
            at_work(arg);
    }
    return st;
}

static void open_session(processes *p, mesh_device *d, mesh_session **s)
{
    mesh_config c;
    flux1_error err = {0};
    char shape[32];
    *d = (mesh_device){.config = {.arithmetic = DTYPE_F32, .threads = 1}, .processes = p};
    snprintf(shape, sizeof shape, "%dx1", processes_count(p));
    if (mesh_parse(shape, NULL, NULL, &c, &err) != FLUX1_OK || ops_cpu_device.open(0, &d->device, &err) != FLUX1_OK)
        ends_with(p, processes_index(p), &err);
    d->kind = d->device->kind;
    if (mesh_open(&c, d, s, &err) != FLUX1_OK)
        ends_with(p, processes_index(p), &err);
}

static void exchange_for_ever(processes *p)
{
    mesh_device d;
    mesh_session *s = NULL;
    flux1_error err = {0};
    open_session(p, &d, &s);
    if (processes_index(p) < processes_count(p) - 1)
        at_work(p);
    test_processes = p;
    run_order(s, exchange_body, p, &err);
    mesh_close(s);
    ends_with(p, processes_index(p), &err);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static flux1_status check_block(mesh *m, const unsigned char *bytes, int rank, int turn)
{
    for (int i = 1; i < LAST_BYTES; i++)
        if (bytes[i] != (unsigned char)(i * 7 + rank * 31 + turn))
            return error_set(m->err, FLUX1_ERR_INTERNAL, "byte %d from rank %d is wrong in turn %d", i, rank, turn);
    return FLUX1_OK;
}

/* Rank 0's first byte says whether there is another turn. */
static flux1_status last_body(void *arg, mesh *m)
{
    static unsigned char send[LAST_BYTES], recv[8][LAST_BYTES];
    double end = now() + *(const double *)arg;
    bool over = false;
    for (int turn = 0; !over; turn++) {
        for (int i = 1; i < LAST_BYTES; i++)
            send[i] = (unsigned char)(i * 7 + m->rank * 31 + turn);
        send[0] = now() < end;
        memset(recv, 0, sizeof recv);
        TRY(m->all->fn->all_gather(m->all, send, recv, LAST_BYTES));
        for (int r = 0; r < m->ranks; r++)
            TRY(check_block(m, recv[r], r, turn));
        over = !recv[0][0];
    }
    return FLUX1_OK;
}

static void exchange_for_a_time(processes *p, double seconds)
{
    mesh_session *s = NULL;
    flux1_error err = {0};
    mesh_device d;
    open_session(p, &d, &s);
    test_processes = p;
    at_work(p);
    if (run_order(s, last_body, &seconds, &err) != FLUX1_OK)
        ends_with(p, processes_index(p), &err);
    mesh_close(s);
    ops_device_close(d.device);
    processes_exit(p, 0);
}

/* The leader gives an order now and then, the others wait for it. */
static void idle_for_ever(processes *p)
{
    flux1_error err = {0};
    const void *bytes = "";
    size_t size;
    flux1_status st = FLUX1_OK;
    at_work(p);
    while (st == FLUX1_OK && bytes) {
        if (processes_index(p) == 0) {
            nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
            st = processes_order(p, "", 0, &err);
        } else {
            st = processes_next(p, &bytes, &size, &err);
        }
    }
    ends_with(p, processes_index(p), &err);
}

static void differ(int index)
{
    flux1_error err = {0};
    processes *p = NULL;
    process_info mine = processes_self(index == 0 ? "1.0 with layout 7" : "1.1 with layout 8");
    flux1_status st = processes_open(&mine, &p, &err);
    write_file("said", index, err.message);
    if (st == FLUX1_OK)
        processes_close(p);
    exit(st == FLUX1_ERR_COMM ? 0 : 5);
}

int main(int argc, char **argv)
{
    const char *number = getenv("OMPI_COMM_WORLD_RANK");
    if (argc < 3 || !number)
        return 2;
    signal(SIGTERM, SIG_IGN); /* mpirun's, when another process has died */
    folder = argv[1];
    if (strcmp(argv[2], "versions") == 0)
        differ(atoi(number));
    processes *p = processes_start("1");
    if (strcmp(argv[2], "exchange") == 0)
        exchange_for_ever(p);
    if (strcmp(argv[2], "last") == 0 && argc > 3)
        exchange_for_a_time(p, atof(argv[3]));
    idle_for_ever(p);
}
