/* Several processes for one mesh: this program as one of those that mpirun or srun has started, and --launch, which
 * starts mpirun. */
#ifndef FLUX1_CLI_LAUNCH_H
#define FLUX1_CLI_LAUNCH_H

#include "cli/cli.h"

/* Whether the options ask for mpirun, or what mpirun has started does not fit them. Then *status is the exit status:
 * after an error, or after mpirun has ended. argv: the program's. */
bool launch_run(const options *opt, int argc, char **argv, int *status);

/* A process that is not the first: carries out the first one's orders until there are none. Prints nothing, unless it
 * loses the others. */
int launch_follow(const options *opt);

/* A process of several that ends after a failure: tells the flux1 that has started mpirun, if one has. */
void launch_tell_end(int status);

#endif
