/* How much of an exchange between processes is hidden behind compute, by who makes MPI move:
 *
 *   engine   the mesh's thread (src/mesh/engine.c), with its growing pauses
 *   tests    the computing thread, which calls MPI_Test between blocks of its work
 *   neither  nothing moves until the computing thread waits
 *
 * Each of the processes computes products of matrices for a while and sends `megabytes` around a ring meanwhile.
 * Printed, as medians of turns that are taken in alternation (so that what else the machine does falls on all alike):
 * the time of the compute alone, of the exchange alone, of both; how long the caller waited after its compute, and
 * which part of the exchange was hidden by that; and the processor time that this process used beyond its compute.
 *
 * usage: mpirun … bench_mesh MEGABYTES COMPUTE_MILLISECONDS [BLOCK_MICROSECONDS] */
#include "mesh/span.h"
#include "mesh/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { SIDE = 64, TURNS = 7 };

static processes *all;
static const wire_table *wire;
static char *out, *in;
static size_t bytes;
static double block_seconds = 1e-3;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double used(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static float a[SIDE][SIDE], b[SIDE][SIDE], c[SIDE][SIDE];

static void product(void)
{
    for (int i = 0; i < SIDE; i++)
        for (int k = 0; k < SIDE; k++)
            for (int j = 0; j < SIDE; j++)
                c[i][j] += a[i][k] * b[k][j];
}

static void die(const char *why)
{
    fprintf(stderr, "%s\n", why);
    _exit(1);
}

static void align(void)
{
    flux1_error err = {0};
    if (processes_agree(all, FLUX1_OK, NULL, &err) != FLUX1_OK)
        die(err.message);
}

/* ---- the three ways; `products` 0: the exchange alone ---- */

typedef void way(int products, int products_in_block);
static double computed; /* when the products were done */

static int right(void) { return (processes_index(all) + 1) % processes_count(all); }
static int left(void) { return (processes_index(all) + processes_count(all) - 1) % processes_count(all); }

static void by_engine(int products, int products_in_block)
{
    (void)products_in_block;
    exchange x = {0};
    flux1_error err = {0};
    engine *e = processes_engine(all);
    engine_receive(e, &x, right(), processes_tag(all, SPAN_ALL, right(), processes_index(all)), in, bytes);
    engine_send(e, &x, left(), processes_tag(all, SPAN_ALL, processes_index(all), left()), out, bytes);
    for (int i = 0; i < products; i++)
        product();
    computed = now();
    if (engine_wait(e, &x, &err) != FLUX1_OK)
        die(err.message);
}

static wire_request *requests[2];

static bool test_both(void)
{
    static bool done[2];
    char why[WIRE_WHY];
    for (int i = 0; i < 2; i++)
        if (!done[i] && !wire->test(requests[i], &done[i], why))
            die(why);
    bool both = done[0] && done[1];
    if (both)
        done[0] = done[1] = false;
    return both;
}

static void by_caller(int products, int products_in_block)
{
    char why[WIRE_WHY];
    bool over = false;
    if (!requests[0] && (!wire->create(false, right(), 7, in, bytes, &requests[0], why) ||
                         !wire->create(true, left(), 7, out, bytes, &requests[1], why)))
        die(why);
    if (!wire->start(requests[0], why) || !wire->start(requests[1], why))
        die(why);
    for (int i = 0; i < products; i++) {
        product();
        if (products_in_block && i % products_in_block == 0 && !over)
            over = test_both();
    }
    computed = now();
    while (!over && !(over = test_both()))
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

/* ---- measuring ---- */

static int by_number(const void *x, const void *y)
{
    double p = *(const double *)x, q = *(const double *)y;
    return (p > q) - (p < q);
}

typedef struct row {
    const char *name;
    way *run;
    bool tests;
    double alone[TURNS], wall[TURNS], wait[TURNS], cpu[TURNS];
} row;

static row rows[] = {
    {.name = "engine", .run = by_engine},
    {.name = "tests", .run = by_caller, .tests = true},
    {.name = "neither", .run = by_caller},
};
enum { ROWS = sizeof rows / sizeof *rows };

static double median(double x[TURNS])
{
    qsort(x, TURNS, sizeof *x, by_number);
    return x[TURNS / 2];
}

static void take_turn(int t, int products, int in_block, double *compute)
{
    align();
    double begin = now(), begin_used = used();
    for (int i = 0; i < products; i++)
        product();
    compute[t] = now() - begin;
    double compute_used = used() - begin_used;
    for (int r = 0; r < ROWS; r++) {
        align();
        begin = now();
        rows[r].run(0, 0);
        rows[r].alone[t] = now() - begin;
        align();
        begin = now();
        begin_used = used();
        rows[r].run(products, rows[r].tests ? in_block : 0);
        double end = now();
        rows[r].wall[t] = end - begin;
        rows[r].wait[t] = end - computed;
        rows[r].cpu[t] = used() - begin_used - compute_used;
    }
}

static void measure(int products, int in_block)
{
    double compute[TURNS];
    for (int t = 0; t < TURNS; t++)
        take_turn(t, products, in_block, compute);
    double alone_compute = median(compute);
    for (int r = 0; processes_index(all) == 0 && r < ROWS; r++) {
        double alone = median(rows[r].alone), wait = median(rows[r].wait);
        printf(
            "%-8s compute %7.1f ms  exchange %7.1f ms  together %7.1f ms  waited %7.1f ms  hidden %4.0f%%  processor "
            "%+.1f ms\n",
            rows[r].name, 1e3 * alone_compute, 1e3 * alone, 1e3 * median(rows[r].wall), 1e3 * wait,
            100 * (1 - wait / alone), 1e3 * median(rows[r].cpu));
    }
}

int main(int argc, char **argv)
{
    flux1_error err = {0};
    process_info mine = {.pid = (int)getpid(), .version = "bench"};
    if (argc < 3)
        die("usage: mpirun … bench_mesh MEGABYTES COMPUTE_MILLISECONDS [BLOCK_MICROSECONDS]");
    gethostname(mine.host, sizeof mine.host - 1);
    if (processes_open(&mine, &all, &err) != FLUX1_OK || wire_open(&wire, &err) != FLUX1_OK)
        die(err.message);
    if (!wire->several_threads())
        die("this MPI takes calls from one thread only");
    bytes = (size_t)(1e6 * strtod(argv[1], NULL));
    out = calloc(1, bytes + 1);
    in = calloc(1, bytes + 1);
    if (argc > 3)
        block_seconds = 1e-6 * strtod(argv[3], NULL);
    if (!out || !in)
        die("out of memory");
    int some = 200;
    product();
    double begin = now();
    for (int i = 0; i < some; i++)
        product();
    double each = (now() - begin) / some;
    int products = (int)(1e-3 * strtod(argv[2], NULL) / each), in_block = (int)(block_seconds / each) + 1;
    measure(products, in_block);
    fflush(stdout);
    const void *last;
    size_t size;
    if (processes_index(all) > 0)
        processes_next(all, &last, &size, &err);
    processes_close(all);
    return 0;
}
