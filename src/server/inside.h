/* The server's parts, for its own files. */
#ifndef FLUX1_SERVER_INSIDE_H
#define FLUX1_SERVER_INSIDE_H

#include "server/connections.h"
#include "server/errands.h"
#include "server/listen.h"
#include "server/loras.h"
#include "server/models.h"
#include "server/next_text.h"
#include "server/queue.h"
#include "server/server.h"
#include "server/history.h"

#include <stdatomic.h>

struct MHD_Daemon;

#define STAGES 4 /* of flux1_stage */

/* What /metrics tells beside the queue's counts. Guarded by the queue's lock. */
typedef struct server_counts {
    uint64_t requests[6];   /* by the status' first digit */
    double seconds[STAGES]; /* of the workers */
    uint64_t steps;
    uint64_t refused;       /* 429 */
    uint64_t encoded_ahead; /* prompts, while another job ran */
    uint64_t together;      /* jobs that ran together with others */
} server_counts;

/* A thread that makes pictures, one job after the other or some together, on a context of its own. */
typedef struct worker {
    struct server *s;
    flux1_context *context;
    pthread_t thread;
    bool started;
    remarks *notes; /* of the running jobs, on this thread; NULL: none */
} worker;

struct server {
    server_settings settings;
    server_engine engine;
    models models;
    unsigned formats; /* bit f: flux1_format f can be written */
    atomic_int ready; /* engine, model and defaults are there */
    queue queue;
    errands errands;  /* its thread: requests that write, plan or open a model, and what they leave to do */
    errands readings; /* another one's: those that read a client's picture */
    errands lists;    /* a third one's: those that list jobs */
    history *history;
    loras loras;
    bool has_loras;
    server_counts counts;
    struct MHD_Daemon *daemon;
    connections connections;
    atomic_size_t bodies; /* bytes of all bodies that are held */
    int listener;         /* descriptor; -1: the daemon has it, or there is none */
    listen_file socket;   /* of a Unix socket */
    char address[256];
    atomic_int exchanges; /* requests that are being served */
    double began, opened; /* Unix seconds; and by clock_seconds, which no clock that is set changes */

    worker worker[SERVER_WORKERS];
    int working; /* of their threads; guarded by the queue's lock */
    pthread_t watcher;
    bool has_watcher;
    next_text next; /* the only worker's */

    pthread_mutex_t writing;  /* one picture at a time is encoded: the writer is one context */
    pthread_mutex_t reading;  /* one at a time is asked how it was made: that may be a stranger's, and take its time */
    pthread_mutex_t planning; /* one request at a time is planned */
    remarks *plan_notes;      /* of that one */
};

#endif
