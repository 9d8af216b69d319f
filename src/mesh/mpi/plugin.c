/* libflux1-mpi.so: the wire (mesh/wire.h) over MPI. Requests are persistent ones, so that a transfer that is repeated
 * is set up once. After init nothing here waits, except gather, which sleeps between its tests, and finalize. */
#include "mesh/wire.h"

#include <limits.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct wire_request {
    MPI_Request mpi;
};

static MPI_Comm ours = MPI_COMM_NULL; /* a copy of the world: nobody else's messages are in it */
static int level = MPI_THREAD_SINGLE;

static bool failed(int code, const char *call, char *why)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(code, text, &length);
    snprintf(why, WIRE_WHY, "%s: %s", call, text);
    return false;
}

/* Calls an MPI function; returns from the caller with the reason if it fails. */
#define CALL(function, ...)                       \
    do {                                          \
        int code_ = function(__VA_ARGS__);        \
        if (code_ != MPI_SUCCESS)                 \
            return failed(code_, #function, why); \
    } while (0)

static bool mpi_init(char *why)
{
    int already = 0;
    MPI_Initialized(&already);
    if (already) {
        snprintf(why, WIRE_WHY, "the program has started MPI itself; create the context first, without MPI_Init");
        return false;
    }
    int code = MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level);
    if (code != MPI_SUCCESS)
        return failed(code, "MPI_Init_thread", why);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (level < MPI_THREAD_FUNNELED) {
        snprintf(why, WIRE_WHY, "this MPI was built without threads");
        return false;
    }
    CALL(MPI_Comm_dup, MPI_COMM_WORLD, &ours);
    CALL(MPI_Comm_set_errhandler, ours, MPI_ERRORS_RETURN);
    return true;
}

static int mpi_count(void)
{
    int n = 1;
    MPI_Comm_size(ours, &n);
    return n;
}

static int mpi_index(void)
{
    int i = 0;
    MPI_Comm_rank(ours, &i);
    return i;
}

static int mpi_tag_max(void)
{
    int *value = NULL, found = 0;
    MPI_Comm_get_attr(ours, MPI_TAG_UB, &value, &found);
    return found ? *value : 32767; /* what the standard promises */
}

static bool mpi_several_threads(void) { return level >= MPI_THREAD_SERIALIZED; }

static const char *mpi_library(void)
{
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    MPI_Get_library_version(text, &length);
    text[strcspn(text, ",\n")] = '\0';
    return text;
}

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool mpi_gather(const void *mine, void *all, size_t bytes, int milliseconds, char *why)
{
    MPI_Request r;
    int done = 0;
    double end = seconds_now() + 1e-3 * milliseconds;
    CALL(MPI_Iallgather, mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, ours, &r);
    for (;;) {
        CALL(MPI_Test, &r, &done, MPI_STATUS_IGNORE);
        if (done)
            return true;
        if (seconds_now() > end)
            break;
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
    snprintf(why, WIRE_WHY, "not all processes have answered within %d s", milliseconds / 1000);
    return false;
}

static bool mpi_create(bool send, int peer, int tag, void *buffer, size_t bytes, wire_request **out, char *why)
{
    wire_request *r = bytes > INT_MAX ? NULL : malloc(sizeof *r);
    if (!r) {
        snprintf(why, WIRE_WHY, bytes > INT_MAX ? "a message is too long" : "out of memory for a request");
        return false;
    }
    int code = send ? MPI_Send_init(buffer, (int)bytes, MPI_BYTE, peer, tag, ours, &r->mpi)
                    : MPI_Recv_init(buffer, (int)bytes, MPI_BYTE, peer, tag, ours, &r->mpi);
    if (code != MPI_SUCCESS) {
        free(r);
        return failed(code, send ? "MPI_Send_init" : "MPI_Recv_init", why);
    }
    *out = r;
    return true;
}

static bool mpi_start(wire_request *r, char *why)
{
    CALL(MPI_Start, &r->mpi);
    return true;
}

static bool mpi_test(wire_request *r, bool *done, char *why)
{
    int flag = 0;
    CALL(MPI_Test, &r->mpi, &flag, MPI_STATUS_IGNORE);
    *done = flag != 0;
    return true;
}

static bool mpi_cancel(wire_request *r, char *why)
{
    CALL(MPI_Cancel, &r->mpi);
    CALL(MPI_Wait, &r->mpi, MPI_STATUS_IGNORE);
    return true;
}

static void mpi_destroy(wire_request *r)
{
    MPI_Request_free(&r->mpi);
    free(r);
}

static bool mpi_probe(int peer, bool *found, int *tag, size_t *bytes, char *why)
{
    int flag = 0, count = 0;
    MPI_Status status;
    CALL(MPI_Iprobe, peer, MPI_ANY_TAG, ours, &flag, &status);
    *found = flag != 0;
    if (!flag)
        return true;
    CALL(MPI_Get_count, &status, MPI_BYTE, &count);
    *tag = status.MPI_TAG;
    *bytes = (size_t)count;
    return true;
}

static bool mpi_finalize(char *why)
{
    if (ours != MPI_COMM_NULL)
        CALL(MPI_Comm_free, &ours);
    CALL(MPI_Finalize);
    return true;
}

__attribute__((visibility("default"))) extern const wire_table flux1_wire;
const wire_table flux1_wire = {
    .version = WIRE_VERSION,
    .init = mpi_init,
    .count = mpi_count,
    .index = mpi_index,
    .tag_max = mpi_tag_max,
    .several_threads = mpi_several_threads,
    .library = mpi_library,
    .gather = mpi_gather,
    .create = mpi_create,
    .start = mpi_start,
    .test = mpi_test,
    .cancel = mpi_cancel,
    .destroy = mpi_destroy,
    .probe = mpi_probe,
    .finalize = mpi_finalize,
};
