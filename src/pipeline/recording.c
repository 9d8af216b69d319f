#include "pipeline/recording.h"

#include <stdlib.h>

const char *const recording_names[RECORDING_STAGES] = {
#define RECORDING_NAME(id, name) [RECORDING_##id] = name,
    RECORDING_MAP(RECORDING_NAME)
#undef RECORDING_NAME
};

void recording_free(recording *r)
{
    for (int i = 0; i < RECORDING_STAGES; i++)
        script_free(&r->stage[i]);
    free(r->path);
    free(r->sigmas);
    *r = (recording){0};
}
