/* Runners: how a session's bodies are executed. mesh_open, mesh_reserve, mesh_run and mesh_close (mesh.h) call the
 * first row of the registry in runner.c that serves the device's kind. There is one row today, `ranks`: a thread and a
 * backend for each rank of this process. A kind of device that takes a whole program instead of single calls would get
 * a row of its own, which records the body once and executes the recording. */
#ifndef FLUX1_MESH_RUNNER_H
#define FLUX1_MESH_RUNNER_H

#include "mesh/mesh.h"

typedef struct mesh_runner {
    const char *name;
    bool (*serves)(const ops_device_kind *kind); /* from what the kind can do */
    flux1_status (*open)(const mesh_config *c, const mesh_device *d, mesh_session **out, flux1_error *err);
    /* mesh_reserve, mesh_weights_budget, mesh_run, mesh_close; the session is not NULL */
    flux1_status (*reserve)(mesh_session *s, const size_t *arena_bytes, flux1_error *err);
    void (*weights_budget)(mesh_session *s, const size_t *bytes);
    flux1_status (*run)(mesh_session *s, mesh_body *body, void *arg, flux1_error *err);
    void (*close)(mesh_session *s);
} mesh_runner;

/* Every runner's session begins with this. */
struct mesh_session {
    const mesh_runner *fn;
    int ranks;               /* in this process */
    struct profile *profile; /* of the bodies to come; NULL: none */
};

extern const mesh_runner mesh_ranks_runner;

#endif
