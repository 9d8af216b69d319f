/* The models that requests may name: the engine's, and the pipelines of one folder (--models), by their folders' names.
 * One of the folder's is opened when a job wants it; the one before is closed when no job has it any more. One whose
 * files a job could not read is opened anew for the next request. */
#ifndef FLUX1_SERVER_MODELS_H
#define FLUX1_SERVER_MODELS_H

#include "server/errands.h"
#include "server/job_request.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct server server;

typedef struct lora_paths {
    char **path;
    size_t count, room;
} lora_paths;

typedef struct served_model {
    const flux1_model *model;
    flux1_model *own; /* the same, where it is to be closed; NULL: the engine's */
    const char *name; /* by which requests name it */
    flux1_model_info info;
    job_request defaults; /* a request that says nothing */
    int users;
    atomic_bool unreadable; /* as models_note has it */
    bool looks;             /* adapters are being examined for it (looks.c), whose are the next three */
    errand look;
    lora_paths to_examine;
    size_t next_path;
    struct served_model *next;
    char folder[]; /* its name in the folder */
} served_model;

#define MODEL_NAME_ROOM 256

typedef struct models {
    pthread_mutex_t mutex;
    served_model *engine;         /* as long as the server */
    served_model *opened;         /* the folder's, and the engine's anew; the first was wanted last */
    char chosen[MODEL_NAME_ROOM]; /* by AUTOMATIC1111's options; "": the engine's */
} models;

flux1_status models_open(server *s, flux1_error *err); /* with engine and settings */
void models_close(server *s);                          /* before the adapters */

/* Opens it, or finds it open; NULL or "": the engine's. models_return ends its use. FAULT_INVALID of that param, with
 * the names that there are; FAULT_UNAVAILABLE: it cannot be read now. */
served_model *models_take(server *s, const char *name, const char *param, fault *f);
/* The same for what is told of it: the engine's may be unreadable. */
served_model *models_take_facts(server *s, const char *name, const char *param, fault *f);
/* Whether models_take_facts need not open it now. */
bool models_is_open(server *s, const char *name);
void models_hold(server *s, served_model *m); /* one more user; it has users */
void models_return(server *s, served_model *m);

/* What a job that used it came to. A file that became shorter may be whole again by the next request, but what is open
 * stays as it is: FLUX1_ERR_IO. Any thread may call. */
void models_note(served_model *m, flux1_status status);
bool models_is_unreadable(const served_model *m); /* it is for no new job, and jobs that wait get it opened anew */

/* For a new job, a request of the model's defaults that names it: models_take and request_begin, if the queue has room
 * (queue_has_room: a model is not opened in vain). NULL: f says why. */
served_model *models_begin(server *s, const char *name, const char *param, job_request *r, fault *f);

/* There is one of that name, which is *whole; it is not opened. */
bool models_know(const server *s, const char *name, const char *param, char whole[MODEL_NAME_ROOM], fault *f);

typedef void models_visit(void *user, const char *name);
/* The engine's first. False: the folder cannot be listed now, which the operator is told. */
bool models_list(const server *s, models_visit *visit, void *user);

/* For requests of AUTOMATIC1111's clients that name none. */
void models_choose(server *s, const char *name);
void models_chosen(server *s, char name[MODEL_NAME_ROOM]);

#endif
