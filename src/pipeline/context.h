/* The context's insides: where a run happens, and what it says. */
#ifndef FLUX1_PIPELINE_CONTEXT_H
#define FLUX1_PIPELINE_CONTEXT_H

#include "mesh/mesh.h"
#include "pipeline/folder.h"

struct flux1_context {
    mesh_config mesh;
    mesh_device device;
    mesh_device text_device; /* of the encoders: `device`, or one of their own */
    bool has_text_device;
    uint64_t max_memory; /* bytes */
    void (*log)(void *user, flux1_log_level level, const char *message);
    void *log_user;
    atomic_int cancel;
    flux1_error error;
};

void context_log(flux1_context *c, flux1_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "f32", "bf16" or "fp8": what flux1_dtype came to. */
const char *context_dtype(const flux1_context *c);

/* Every public call begins here: the last message goes, a cancel that came before is forgotten. */
void context_begin(flux1_context *c);

#endif
