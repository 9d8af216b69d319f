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
    char *why; /* it cannot, a sentence; "": it can */
    struct lora_verdict *next;
    char path[];
} lora_verdict;

typedef struct loras {
    const char *folder; /* NULL: there is none */
    pthread_mutex_t mutex;
    lora_file *files; /* opened: used, and some that were */
    lora_verdict *verdicts;
} loras;

flux1_status loras_open(loras *l, const char *folder, flux1_error *err);
void loras_close(loras *l); /* before the model */

/* Each file's name (without its ending), path and bytes. */
typedef void loras_visit(void *user, const char *name, const char *path, uint64_t bytes);
void loras_list(const loras *l, loras_visit *visit, void *user);

/* Why the model cannot have the adapters of a file of the folder, a sentence; "": it can. loras_known: as the file was
 * examined before; false: it was not, or has changed since. loras_examine opens it, which reads its header and no
 * weights, and remembers what it finds. context: as below. */
bool loras_known(loras *l, const flux1_model *model, const char *path, char why[FAULT_MESSAGE]);
void loras_examine(loras *l, flux1_context *context, const flux1_model *model, const char *path,
                   char why[FAULT_MESSAGE]);

/* Opens it, or finds it open; loras_return ends its use. context: for messages, not used by another thread meanwhile.
 * FAULT_INVALID with the names that there are. */
bool loras_take(loras *l, flux1_context *context, const flux1_model *model, const char *name, flux1_adapter **out,
                fault *f);
/* One more user of each of them, which have users. False: the folder is being used by another thread. */
bool loras_try_hold(loras *l, const flux1_adapter_use *uses, int count);
void loras_return(loras *l, flux1_adapter *adapter);
void loras_forget(loras *l, const flux1_model *model); /* closes and forgets what is its; nobody uses that */

#endif
