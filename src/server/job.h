/* A job: a request on its way through the queue, and what has become of it. While it is queued or runs, all members but
 * those that say so are guarded by the queue's lock (queue.h). */
#ifndef FLUX1_SERVER_JOB_H
#define FLUX1_SERVER_JOB_H

#include "server/errands.h"
#include "server/job_request.h"
#include "server/random.h"

typedef struct served_model served_model;

/* state, its name, whether the job has ended */
#define JOB_STATE_MAP(X)            \
    X(QUEUED, "queued", false)      \
    X(RUNNING, "running", false)    \
    X(DONE, "done", true)           \
    X(FAILED, "failed", true)       \
    X(CANCELLED, "cancelled", true) \
    X(INTERRUPTED, "interrupted", true)

typedef enum job_state {
#define JOB_STATE_ENUM(id, name, ended) JOB_##id,
    JOB_STATE_MAP(JOB_STATE_ENUM)
#undef JOB_STATE_ENUM
} job_state;

const char *job_state_name(job_state state);
bool job_state_ended(job_state state);

#define PICTURE_NAME (RANDOM_NAME + 24)

typedef struct job_picture {
    char name[PICTURE_NAME]; /* of its file: ID-INDEX.png */
    uint64_t seed;
    int width, height;
    size_t bytes;
    size_t small_bytes; /* of its thumbnail; 0: there is none */
    flux1_format format;
} job_picture;

/* The last preview, whole: replaced, never changed. */
typedef struct job_preview {
    uint8_t *bytes; /* flux1_bytes_free; NULL: none yet */
    size_t count;
    int number; /* of all previews of the job, from 1 */
    int image, step;
    flux1_format format;
} job_preview;

typedef struct job {
    char id[RANDOM_NAME]; /* constant */
    job_request request;  /* constant */
    served_model *model;  /* until the job has ended; while it waits constant, and then its worker's (plan_again) */
    remarks notes;
    flux1_adapter_use adapters[REQUEST_LORAS_MAX]; /* the same: request.lora, opened */
    flux1_format preview_format;                   /* constant */
    int together;     /* the same, once it is planned: pictures of its kind that are best computed together; 1: none */
    int image_tokens; /* constant: of a picture, as the transformer computes them */
    bool overtaken;   /* by jobs that ran together with one before it */
    job_state state;
    bool kept; /* it has ended, and the history says so: clients are told of the end from then on */
    double created, started, finished; /* Unix seconds; 0: not yet */
    const char *stage;                 /* NULL: none */
    int step, steps, image;
    double fraction, seconds, seconds_left; /* seconds_left negative: unknown */
    job_picture *pictures;                  /* [request.count], of which `made` are there and constant */
    int made;
    int passed;      /* pictures that were skipped: the next one is number made + passed + 1 */
    bool drawn;      /* its pictures are being made now: it runs, and does not wait for others of its batch */
    int skip;        /* the number of one that a client wants no more; 0: none */
    int stored;      /* of these, how many the history names: clients are told of them alone */
    uint8_t *unkept; /* pictures[made], which is finished, where its file could not be written: flux1_bytes_free, NULL:
                        there is none; for answers that carry pictures */
    size_t unkept_bytes;
    job_preview preview;
    fault error; /* kind FAULT_NONE: none */
    flux1_cancel_token *token;
    bool cancelled;   /* a client wants it no more, whatever else may have ended it since */
    unsigned version; /* changes with everything that a client may want to know */
    int references;
    struct job *next; /* in the queue */
    errand burial;    /* of one that was cancelled while it waited */
} job;

/* Takes the request over (also on failure, NULL: memory or random numbers lack). One reference. */
job *job_create(job_request *request);
void job_free(job *j); /* not for others than queue.c: see job_release there */

double job_now(void); /* Unix seconds */

/* Of a job that has ended, the pictures that an answer can carry; not all of them may have a file. */
int job_finished(const job *j);

/* As clients are told of it: one that has ended and is not `kept` yet is still what it was before, and pictures that
 * are not `stored` yet are left out. whole: also request, pictures and notes. */
void job_put(json_writer *w, const char *key, const job *j, int position, bool whole);
void job_put_picture(json_writer *w, const char *key, const job_picture *p);

/* request, pictures and notes, into the object under way */
void job_put_outcome(json_writer *w, const job *j);

/* The whole job as a text (free it): for clients, as job_put; for the history, with its true
 * state and pictures. NULL: no memory. */
char *job_text(const job *j, int position);
char *job_text_for_history(const job *j, int position);

/* Of a stored text of a job that has not ended: the same (malloc'd), as one that a stopped server left.
 * FLUX1_ERR_FORMAT: it is no such text; FLUX1_ERR_MEMORY. */
flux1_status job_text_interrupted(const char *stored, char **out, flux1_error *err);

#endif
