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

typedef struct loras {
    const char *folder; /* NULL: there is none */
    pthread_mutex_t mutex;
    lora_file *files; /* opened: used, and some that were */
} loras;

flux1_status loras_open(loras *l, const char *folder, flux1_error *err);
void loras_close(loras *l); /* before the model */

/* Each file's name (without its ending), path and bytes. */
typedef void loras_visit(void *user, const char *name, const char *path, uint64_t bytes);
void loras_list(const loras *l, loras_visit *visit, void *user);

/* Opens it, or finds it open; loras_return ends its use. context: for messages, not used by another thread meanwhile.
 * FAULT_INVALID with the names that there are. */
bool loras_take(loras *l, flux1_context *context, const flux1_model *model, const char *name, flux1_adapter **out,
                fault *f);
/* One more user of each of them, which have users. False: the folder is being used by another thread. */
bool loras_try_hold(loras *l, const flux1_adapter_use *uses, int count);
void loras_return(loras *l, flux1_adapter *adapter);
void loras_forget(loras *l, const flux1_model *model); /* closes what was opened for it, and has no users */

#endif
