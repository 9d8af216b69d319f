/* The registry of runners, and sessions through them. */
#include "mesh/runner.h"

static const mesh_runner *const runners[] = {&mesh_ranks_runner};

flux1_status mesh_open(const mesh_config *c, const mesh_device *d, mesh_session **out, flux1_error *err)
{
    for (size_t i = 0; i < sizeof runners / sizeof runners[0]; i++)
        if (runners[i]->serves(d->kind))
            return runners[i]->open(c, d, out, err);
    return error_set(err, FLUX1_ERR_UNSUPPORTED, "device %s: this build can count its work, not run it", d->kind->name);
}

void mesh_close(mesh_session *s)
{
    if (s)
        s->fn->close(s);
}

void mesh_profile(mesh_session *s, struct profile *p) { s->profile = p; }

flux1_status mesh_reserve(mesh_session *s, const size_t *arena_bytes, flux1_error *err)
{
    return s->fn->reserve(s, arena_bytes, err);
}

void mesh_weights_budget(mesh_session *s, const size_t *bytes) { s->fn->weights_budget(s, bytes); }

flux1_status mesh_run(mesh_session *s, mesh_body *body, void *arg, flux1_error *err)
{
    return s->fn->run(s, body, arg, err);
}
