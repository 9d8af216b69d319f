/* The adapters of one folder, by their names: a file NAME.safetensors is "NAME". The folder is read anew for each
 * request, so files may come and go while the server runs; a file that changed is opened again. Any thread may call. */
#ifndef FLUX1_SERVER_LORAS_H
#define FLUX1_SERVER_LORAS_H

#include "base/file.h"
#include "server/fault.h"

#include <pthread.h>

typedef struct lora_file {
    flux1_adapter *adapter;
    const flux1_model *model; /* for which it was opened */
    int users;                /* jobs that have it */
    file_identity identity;
    struct lora_file *next;
    char name[];
} lora_file;

/* Whether a model can have the adapters of a file, as it was found out. */
typedef struct lora_verdict {
    const flux1_model *model;
    file_identity identity;
    char *why;     /* it cannot, a sentence; "": it can */
    double again;  /* by clock_seconds, when it is worth another look: memory or the disk failed; 0: never */
    unsigned seen; /* the last survey that found the file */
    struct lora_verdict *next;
    char path[];
} lora_verdict;

typedef struct loras {
    const char *folder; /* NULL: there is none */
    pthread_mutex_t mutex;
    lora_file *files; /* opened: used, and some that were */
    lora_verdict *verdicts;
    unsigned surveys;                   /* begun */
    void (*tell)(const char *sentence); /* the operator; NULL: nobody */
} loras;

flux1_status loras_open(loras *l, const char *folder, void (*tell)(const char *sentence), flux1_error *err);
void loras_close(loras *l); /* before the model */

/* A file of the folder, and what is known of it. */
typedef struct lora_facts {
    const char *name, *path; /* name: without its ending */
    uint64_t bytes;
    bool examined;           /* for that model, as the file is now */
    bool again;              /* it could not be read, a minute ago or more: it is to be examined once more */
    char why[FAULT_MESSAGE]; /* the model cannot have its adapters, a sentence; "": it can, or nobody knows yet */
} lora_facts;

/* Each file, by name; no file is opened, only the folder's metadata is read. What was known of files that are gone is
 * forgotten. */
typedef void loras_tell(void *user, const lora_facts *facts);
void loras_survey(loras *l, const flux1_model *model, loras_tell *tell, void *user);

/* Opens the file for that model, which reads its header and no weights, and remembers what it finds. Others do not wait
 * meanwhile. context: as below. */
void loras_examine(loras *l, flux1_context *context, const flux1_model *model, const char *path);

/* A sentence about a file of the folder, without the folder: where that lies is the operator's business. */
const char *loras_without_folder(const loras *l, const char *sentence);

/* Opens it, or finds it open; loras_return ends its use. context: for messages, not used by another thread meanwhile.
 * FAULT_INVALID, where there is none with the names that there are; FAULT_UNAVAILABLE: it cannot be read now. Of all
 * others than FAULT_INVALID the operator is told. */
bool loras_take(loras *l, flux1_context *context, const flux1_model *model, const char *name, flux1_adapter **out,
                fault *f);
/* One more user of each of them, which have users. False: the folder is being used by another thread. */
bool loras_try_hold(loras *l, const flux1_adapter_use *uses, int count);
void loras_return(loras *l, flux1_adapter *adapter);
void loras_forget(loras *l, const flux1_model *model); /* closes and forgets what is its; nobody uses that */

#endif
