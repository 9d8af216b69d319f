/* Which process this is of how many that mpirun or srun has started, from the environment: 0 of 1 without a launcher.
 */
#ifndef FLUX1_CLI_LAUNCHER_H
#define FLUX1_CLI_LAUNCHER_H

int launcher_process(void);
int launcher_processes(void);

#endif
