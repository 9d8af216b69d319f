/* flux1 generate --jsonl and --prompts: a request a line. */
#ifndef FLUX1_CLI_BATCH_H
#define FLUX1_CLI_BATCH_H

#include "cli/options.h"

/* Returns the exit status. */
int batch_run(const options *opt);

#endif
