/* flux1 serve: pictures over HTTP, on one open model. docs/serve.md describes the interfaces.
 *
 *     server_open     listens; /health answers 503 until
 *     server_begin    lends it the model: from here on requests are taken
 *     server_end      no more requests; those that run may finish
 *     server_close
 *
 * Where this build has no HTTP library, server_open is FLUX1_ERR_UNSUPPORTED. */
#ifndef FLUX1_SERVER_SERVER_H
#define FLUX1_SERVER_SERVER_H

#include "base/status.h"

#include <stdbool.h>
#include <stdio.h>

typedef struct server server;

enum { SERVER_WORKERS = 64 };

/* Texts must stay valid until server_close. */
typedef struct server_settings {
    const char *host;        /* address or name to listen on */
    int port;                /* 0: one that is free */
    const char *socket;      /* path of a Unix socket, in place of host and port; NULL: none */
    const char *const *keys; /* any of which a request must have; none: all requests are served */
    int key_count;
    const char *allow_host; /* names in the Host header that are fine, separated by commas; "*": all. NULL: none more */
    int queue;              /* jobs that may wait */
    int batch;              /* pictures that may be computed together; 0: as many as the library says */
    int64_t max_pixels;     /* of a picture; 0: as many as fit the memory */
    const char *jobs;       /* folder of history and pictures; NULL: a temporary one */
    uint64_t jobs_size;     /* bytes of all pictures and jobs' texts */
    const char *loras;      /* folder of adapters; NULL: none */
    const char *models;     /* folder of pipelines beside the engine's model; NULL: none */
    int width, height, steps; /* where a request says none; 0: the model's */
    float guidance;           /* the same; negative: the model's */
    int max_sequence_length;  /* the same; 0: the model's */
    flux1_tiling tiling;
    FILE *access_log; /* a JSON object a line; NULL: none */
    /* What the operator is to know, a sentence. Any thread calls it; NULL: nobody listens. */
    void (*tell)(const char *sentence);
} server_settings;

/* What it computes with, until server_end has returned. Of the contexts only the server uses any meanwhile; workers,
 * planner and encoder are made alike, but for the workers' devices, and log to the functions below: planner and encoder
 * with the server as user, worker i with server_worker(server, i). */
typedef struct server_engine {
    flux1_context *worker[SERVER_WORKERS]; /* make the pictures: a job each at a time, or several of one kind, on a
                                              device each */
    int workers;
    flux1_context *planner;  /* checks requests meanwhile: what fits worker 0 fits the others */
    flux1_context *writer;   /* encodes files */
    flux1_context *reader;   /* says what files tell of themselves */
    flux1_context *encoder;  /* encodes the next job's prompt meanwhile; NULL: that does not pay, or several workers */
    flux1_stage encode_from; /* the running job's stage from which on it does */
    const flux1_model *model;
    flux1_model_parts parts; /* what that was opened of, to do so again when its files could not be read */
} server_engine;

/* FLUX1_ERR_ARGUMENT, FLUX1_ERR_IO (the address is taken, …), FLUX1_ERR_UNSUPPORTED. *out is NULL then. */
flux1_status server_open(const server_settings *settings, server **out, flux1_error *err);
const char *server_address(const server *s); /* "http://127.0.0.1:8080", or "unix:PATH" */

flux1_status server_begin(server *s, const server_engine *engine, flux1_error *err);

/* As flux1_context_params.log of the planner, a worker and the encoder. */
void *server_worker(server *s, int index);
void server_log_planner(void *server, flux1_log_level level, const char *message);
void server_log_worker(void *worker, flux1_log_level level, const char *message);
void server_log_encoder(void *server, flux1_log_level level, const char *message);

/* The running jobs have `drain` seconds; then they are given up, as are those that wait. hurry (may be NULL) is asked
 * meanwhile: true ends the waiting. */
void server_end(server *s, double drain, bool (*hurry)(void));
void server_close(server *s); /* NULL is fine */

#endif
