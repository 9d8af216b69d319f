/* Runners: what a session's bodies run through. The pipeline says mesh_open, mesh_reserve, mesh_run, mesh_close
 * (mesh.h); the first row of the registry that serves the device's kind is behind them. There is one today, `ranks`: a
 * thread and a backend for each rank of this process. A kind of device that is no table of eager calls gets its own
 * row, which may run the body on shapes once and hand what it recorded to another program. */
#ifndef FLUX1_MESH_RUNNER_H
#define FLUX1_MESH_RUNNER_H

#include "mesh/mesh.h"

typedef struct mesh_runner {
    const char *name;
    bool (*serves)(const ops_device_kind *kind); /* from what the kind can do */
    flux1_status (*open)(const mesh_config *c, const mesh_device *d, mesh_session **out, flux1_error *err);
    /* mesh_reserve, mesh_run, mesh_close; the session is not NULL */
    flux1_status (*reserve)(mesh_session *s, const size_t *arena_bytes, flux1_error *err);
    flux1_status (*run)(mesh_session *s, mesh_body *body, void *arg, flux1_error *err);
    void (*close)(mesh_session *s);
} mesh_runner;

/* What every runner's session begins with. */
struct mesh_session {
    const mesh_runner *fn;
    int ranks; /* of this process */
};

extern const mesh_runner mesh_ranks_runner;

#endif
