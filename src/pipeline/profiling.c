#include "pipeline/profiling.h"

#include "mesh/trace.h"

flux1_status profiling_begin(flux1_context *c)
{
    int ranks = mesh_ranks(&c->mesh);
    return profile_create(ranks, 0, ranks, &c->profile, &c->error);
}

flux1_status profiling_write(flux1_context *c, const char *path)
{
    char sentence[900];
    TRY(trace_write(c->profile, &c->mesh, path, &c->error));
    trace_sentence(c->profile, sentence, sizeof sentence);
    context_log(c, FLUX1_LOG_INFO, "profile in %s: %s", path, sentence);
    return FLUX1_OK;
}

void profiling_end(flux1_context *c)
{
    profile_destroy(c->profile);
    c->profile = NULL;
}
