/* The keys of flux1 serve: --api-key, and the lines of --api-key-file. */
#ifndef FLUX1_CLI_SERVE_KEYS_H
#define FLUX1_CLI_SERVE_KEYS_H

#include "cli/options.h"

#define SERVE_KEYS_MAX 256

typedef struct serve_keys {
    const char *key[SERVE_KEYS_MAX];
    int count;
    char *file; /* what the file says, in which keys point */
} serve_keys;

/* Prints an error on failure; returns the exit status. */
int serve_keys_read(const options *opt, serve_keys *out);
void serve_keys_free(serve_keys *k);

#endif
