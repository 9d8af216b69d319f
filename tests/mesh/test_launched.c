/* Which environments are those of one process of several. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mesh/processes.h"

#include <stdlib.h>
#include <string.h>

static const char *const NAMES[] = {"OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "PMIX_RANK", "SLURM_NTASKS",
                                    "SLURM_STEP_NUM_TASKS"};

static const struct {
    const char *value[6]; /* of NAMES */
    bool launched;
    const char *what;
} CASES[] = {
    {{0}, false, "a shell"},
    {{"4"}, true, "mpirun -n 4"},
    {{"1", 0, 0, "0"}, false, "mpirun -n 1"},
    {{0, "0", "4"}, true, "srun --mpi=pmi2 -n 4, or another MPI's mpirun"},
    {{0, "0", "1"}, false, "srun --mpi=pmi2 -n 1"},
    {{0, 0, 0, "0", "4", "4"}, true, "srun --mpi=pmix -n 4"},
    {{0, 0, 0, "0", "4"}, true, "srun --mpi=pmix of a Slurm that tells the number of tasks only"},
    {{0, 0, 0, "0", "4", "1"}, false, "srun --mpi=pmix -n 1 within salloc -n 4"},
    {{0, 0, 0, "0", "1", "1"}, false, "srun --mpi=pmix -n 1"},
    {{0, 0, 0, 0, "4"}, false, "a shell within salloc -n 4"},
    {{0, 0, 0, 0, "4", "4"}, false, "srun -n 4 without PMI: copies that know nothing of each other"},
    {{"four"}, false, "a number that is none"},
    {{""}, false, "an empty variable"},
};

static void a_launchers_process_is_told_from_a_shells(void **state)
{
    (void)state;
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        for (int i = 0; i < 6; i++)
            if (CASES[c].value[i])
                setenv(NAMES[i], CASES[c].value[i], 1);
            else
                unsetenv(NAMES[i]);
        if (processes_launched() != CASES[c].launched)
            fail_msg("%s: %s", CASES[c].what, CASES[c].launched ? "not noticed" : "taken for several");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_launchers_process_is_told_from_a_shells)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
