#include "cli/launcher.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

/* Variables; a launcher is known by all of its. Slurm's alone are also those of a shell within an allocation. */
static const struct launcher {
    const char *process, *processes, *mark;
} launchers[] = {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", NULL},
                 {"PMI_RANK", "PMI_SIZE", NULL},
                 {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "PMIX_RANK"}};

/* A whole number that a launcher has set; −1 without one. */
static long variable(const char *name)
{
    const char *text = getenv(name);
    char *end;
    if (!text || *text < '0' || *text > '9')
        return -1;
    long n = strtol(text, &end, 10);
    return *end == '\0' && n < 1 << 20 ? n : -1;
}

static void read_environment(int *process, int *processes)
{
    *process = 0;
    *processes = 1;
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++) {
        long index = variable(launchers[i].process), count = variable(launchers[i].processes);
        bool marked = !launchers[i].mark || getenv(launchers[i].mark);
        if (marked && count > 1 && index >= 0 && index < count) {
            *process = (int)index;
            *processes = (int)count;
            return;
        }
    }
}

int launcher_process(void)
{
    int process, processes;
    read_environment(&process, &processes);
    return process;
}

int launcher_processes(void)
{
    int process, processes;
    read_environment(&process, &processes);
    return processes;
}
