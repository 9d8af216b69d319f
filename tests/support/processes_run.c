#include "support/processes_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

process_info processes_self(const char *version)
{
    process_info info = {.pid = (int)getpid(), .memory = 1 << 30};
    const char *host = getenv("FLUX1_TEST_HOST");
    snprintf(info.version, sizeof info.version, "%s", version);
    if (host)
        snprintf(info.host, sizeof info.host, "%s", host);
    else
        gethostname(info.host, sizeof info.host - 1);
    return info;
}

processes *processes_start(const char *version)
{
    flux1_error err = {0};
    process_info mine = processes_self(version);
    processes *p;
    if (processes_open(&mine, &p, &err) != FLUX1_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    if (processes_index(p) > 0 && !freopen("/dev/null", "w", stdout))
        exit(1);
    return p;
}

void processes_begin(processes *p)
{
    flux1_error err = {0};
    const void *bytes;
    size_t size;
    flux1_status st =
        processes_index(p) == 0 ? processes_order(p, "", 0, &err) : processes_next(p, &bytes, &size, &err);
    if (st != FLUX1_OK) {
        fprintf(stderr, "process %d: %s\n", processes_index(p), err.message);
        exit(1);
    }
}

processes *test_processes;

flux1_status run_order(mesh_session *s, mesh_body *body, void *arg, flux1_error *err)
{
    if (test_processes)
        processes_begin(test_processes);
    return mesh_run(s, body, arg, err);
}

bool enough_ranks(const mesh_config *c) { return !test_processes || mesh_ranks(c) >= processes_count(test_processes); }

void processes_exit(processes *p, int failed)
{
    if (failed) {
        fprintf(stderr, "process %d: %d tests failed\n", processes_index(p), failed);
        fflush(NULL);
        _exit(1);
    }
    if (processes_index(p) > 0) {
        const void *bytes;
        size_t size;
        flux1_error err = {0};
        if (processes_next(p, &bytes, &size, &err) != FLUX1_OK || bytes) {
            fprintf(stderr, "process %d: not the end: %s\n", processes_index(p), err.message);
            _exit(1);
        }
    }
    processes_close(p);
    exit(0);
}
