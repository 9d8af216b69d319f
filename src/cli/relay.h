/* What the processes that --launch starts tell flux1, which has started mpirun: it goes through mpirun, which passes
 * their standard error on, as lines that nobody sees. */
#ifndef FLUX1_CLI_RELAY_H
#define FLUX1_CLI_RELAY_H

#include <stdbool.h>
#include <stddef.h>

typedef struct relay {
    int from;     /* mpirun's standard error; −1: it has ended */
    bool started; /* the first process runs */
    bool ended;   /* a process has failed and told why, or the first one has told it: `status` is flux1's */
    bool silent;  /* nothing more is passed on: all has been said */
    bool inside;  /* a line of ours, of which `line` is what has come */
    char line[32];
    size_t length;
    int status;
} relay;

/* By a process: it runs; it ends, after it has said why if `spoken`. */
void relay_tell_start(void);
void relay_tell_end(int status, bool spoken);

/* Passes on what comes within `milliseconds`, to standard error. */
void relay_pass(relay *r, int milliseconds);

#endif
