/* Whether a launcher has started this program as one of several, from the environment alone. */
#include "mesh/processes.h"

#include <stdlib.h>

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static bool several(const char *name) { return variable(name) && strtol(variable(name), NULL, 10) > 1; }

bool processes_launched(void)
{
    if (several("OMPI_COMM_WORLD_SIZE") || (variable("PMI_RANK") && several("PMI_SIZE")))
        return true;
    /* Slurm's variables alone are also those of a shell within an allocation */
    return variable("PMIX_RANK") && several(variable("SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS");
}
