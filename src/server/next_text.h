/* The prompt of the job that waits first, encoded on a thread and a context of its own while another job is denoised or
 * decoded (server_engine.encoder). Used by the only worker's thread: with several,
 * nobody knows which of them will take that job. */
#ifndef FLUX1_SERVER_NEXT_TEXT_H
#define FLUX1_SERVER_NEXT_TEXT_H

#include "server/remarks.h"

#include <pthread.h>

typedef struct server server;
typedef struct job job;

/* All zero at first. */
typedef struct next_text {
    job *job; /* whose text it is, with a reference; NULL: nothing was started */
    pthread_t thread;
    flux1_text *text, *negative_text;
    remarks notes; /* of the encoder's context */
} next_text;

/* Starts, if the running job has come far enough, nothing was started since the last next_text_take, and a job waits
 * whose prompt differs from the running one's (whose encoding the worker keeps). */
void next_text_start(server *s, const job *running, const flux1_progress *now);

/* Waits for what was started, if it is the job's, and gives it: free the texts. NULL: flux1_generate encodes. */
void next_text_take(server *s, job *j, flux1_text **text, flux1_text **negative_text);

/* Waits for what was started and was not taken, and throws it away. */
void next_text_drop(server *s);

#endif
