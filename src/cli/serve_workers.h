/* The devices of flux1 serve: that of --device, or several by --workers, each of which makes pictures of its own. */
#ifndef FLUX1_CLI_SERVE_WORKERS_H
#define FLUX1_CLI_SERVE_WORKERS_H

#include "cli/options.h"
#include "server/server.h"

/* All zero at first. */
typedef struct serve_workers {
    const char *device[SERVER_WORKERS]; /* in `text`; NULL: --device */
    uint64_t memory;                    /* of the host, each worker's share; 0: as --max-memory says */
    int count;                          /* at least 1 once they are read */
    char *text;
} serve_workers;

/* Prints an error and returns the exit status if the list is not one. */
int serve_workers_read(const options *opt, serve_workers *out);
void serve_workers_free(serve_workers *d);

/* To be called when the model is open: what it took is in no share. */
void serve_workers_share(serve_workers *d, const options *opt);

/* The options of the worker at `index`: its device, its share of the host's memory, and its share of the processor's
 * cores unless --threads says how many each has. */
options serve_worker_options(const options *opt, const serve_workers *d, int index);

#endif
