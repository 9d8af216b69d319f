#include "server/loras.h"

#include "base/listing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENDING ".safetensors"
#define IDLE_MAX 8 /* files that stay open though no job has them */

flux1_status loras_open(loras *l, const char *folder, flux1_error *err)
{
    *l = (loras){.folder = folder};
    return pthread_mutex_init(&l->mutex, NULL) == 0 ? FLUX1_OK : error_oom(err, 0, "the adapters");
}

static void close_file(lora_file **at)
{
    lora_file *file = *at;
    *at = file->next;
    flux1_adapter_close(file->adapter);
    free(file);
}

static void drop_verdict(lora_verdict **at)
{
    lora_verdict *gone = *at;
    *at = gone->next;
    free(gone->why);
    free(gone);
}

void loras_close(loras *l)
{
    while (l->files)
        close_file(&l->files);
    while (l->verdicts)
        drop_verdict(&l->verdicts);
    pthread_mutex_destroy(&l->mutex);
}

/* Length of the name without its ending; 0: it is no file of adapters. */
static size_t stem(const char *name)
{
    const size_t n = strlen(name), ending = strlen(ENDING);
    return n > ending && strcmp(name + n - ending, ENDING) == 0 ? n - ending : 0;
}

void loras_list(const loras *l, loras_visit *visit, void *user)
{
    listing names;
    struct stat st;
    if (!l->folder || listing_read(l->folder, &names, NULL) != FLUX1_OK)
        return;
    for (size_t i = 0; i < names.count; i++) {
        const size_t n = stem(names.name[i]);
        char *path = n ? path_join(l->folder, names.name[i]) : NULL;
        if (path && stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
            names.name[i][n] = '\0';
            visit(user, names.name[i], path, (uint64_t)st.st_size);
        }
        free(path);
    }
    listing_free(&names);
}

/* ---- one by its name ---- */

typedef struct finding {
    const char *name;
    size_t length; /* without its ending */
    char *path;    /* found, malloc'd */
    builder names; /* of all */
} finding;

static void compare(void *user, const char *name, const char *path, uint64_t bytes)
{
    finding *look = user;
    (void)bytes;
    if (strlen(name) == look->length && memcmp(name, look->name, look->length) == 0 && !look->path)
        look->path = strdup(path);
    if (look->names.length < 400)
        builder_format(&look->names, "%s%s", look->names.length ? ", " : "", name);
}

/* The path of the file in the folder's listing that has this name, so that no name leads out of the folder. */
static bool locate(const loras *l, const char *name, char **path, fault *f)
{
    finding look = {.name = name, .length = stem(name) ? stem(name) : strlen(name)};
    if (!l->folder)
        return fault_set(f, FAULT_INVALID, "lora",
                         "\"lora\": \"%.100s\" cannot be used: this server has no folder of adapters (--loras DIR)",
                         name);
    loras_list(l, compare, &look);
    if (!look.path)
        fault_set(f, FAULT_INVALID, "lora", "\"lora\": there is no \"%.100s\"; there is %s", name,
                  look.names.text ? look.names.text : "none at all");
    builder_free(&look.names);
    *path = look.path;
    return look.path != NULL;
}

static file_identity identity_of(const char *path)
{
    file_identity identity = {.device = FILE_DEVICE_NONE};
    int descriptor = -1;
    if (file_open_regular(path, &descriptor, &identity, NULL) == FLUX1_OK)
        close(descriptor);
    return identity;
}

/* Closes what nobody uses beyond IDLE_MAX, the ones that were opened longest ago first. */
static void close_idle(loras *l)
{
    int idle = 0;
    for (lora_file **at = &l->files; *at;) {
        if ((*at)->users == 0 && ++idle > IDLE_MAX)
            close_file(at);
        else
            at = &(*at)->next;
    }
}

static bool open_file(loras *l, flux1_context *context, const flux1_model *model, const char *path, lora_file **out,
                      fault *f)
{
    lora_file *file = calloc(1, sizeof *file + strlen(path) + 1);
    if (!file)
        return fault_set(f, FAULT_SERVER, NULL, "out of memory for an adapter");
    memcpy(file->name, path, strlen(path));
    file->model = model;
    file->identity = identity_of(path);
    const flux1_status st = flux1_adapter_open(context, model, path, &file->adapter);
    if (st != FLUX1_OK) {
        const char *message = flux1_context_message(context);
        const size_t folder = strlen(l->folder); /* where it lies is the operator's business */
        const bool names = strncmp(message, l->folder, folder) == 0 && message[folder] == '/';
        free(file);
        return fault_set(f, st == FLUX1_ERR_MEMORY ? FAULT_SERVER : FAULT_INVALID, "lora", "%s",
                         message + (names ? folder + 1 : 0));
    }
    file->next = l->files;
    l->files = *out = file;
    return true;
}

/* ---- which of them a model can have ---- */

/* Where that of a file and a model is, as the file was then; or the list's end. */
static lora_verdict **verdict_place(loras *l, const flux1_model *model, const char *path)
{
    lora_verdict **at = &l->verdicts;
    while (*at && ((*at)->model != model || strcmp((*at)->path, path) != 0))
        at = &(*at)->next;
    return at;
}

bool loras_known(loras *l, const flux1_model *model, const char *path, char why[FAULT_MESSAGE])
{
    const file_identity now = identity_of(path);
    pthread_mutex_lock(&l->mutex);
    const lora_verdict *v = *verdict_place(l, model, path);
    const bool known = v && file_identity_same(&v->identity, &now);
    if (known)
        snprintf(why, FAULT_MESSAGE, "%s", v->why);
    pthread_mutex_unlock(&l->mutex);
    return known;
}

/* Without memory it is found out again. */
static void remember(loras *l, const flux1_model *model, const char *path, const file_identity *then, const char *why)
{
    lora_verdict **at = verdict_place(l, model, path), *v = calloc(1, sizeof *v + strlen(path) + 1);
    if (*at)
        drop_verdict(at);
    if (!v || !(v->why = strdup(why))) {
        free(v);
        return;
    }
    v->model = model;
    v->identity = *then;
    memcpy(v->path, path, strlen(path));
    v->next = l->verdicts;
    l->verdicts = v;
}

void loras_examine(loras *l, flux1_context *context, const flux1_model *model, const char *path,
                   char why[FAULT_MESSAGE])
{
    const file_identity then = identity_of(path);
    lora_file *file;
    fault f = {0};
    pthread_mutex_lock(&l->mutex);
    if (open_file(l, context, model, path, &file, &f))
        close_file(&l->files); /* it is the first: those that jobs had stay open */
    if (f.kind != FAULT_SERVER)
        remember(l, model, path, &then, f.message);
    pthread_mutex_unlock(&l->mutex);
    snprintf(why, FAULT_MESSAGE, "%s", f.message);
}

/* ---- their use ---- */

bool loras_take(loras *l, flux1_context *context, const flux1_model *model, const char *name, flux1_adapter **out,
                fault *f)
{
    char *path = NULL;
    bool good = locate(l, name, &path, f);
    if (!good)
        return false;
    pthread_mutex_lock(&l->mutex);
    const file_identity now = identity_of(path);
    lora_file *file = l->files;
    while (file &&
           (file->model != model || strcmp(file->name, path) != 0 || !file_identity_same(&file->identity, &now)))
        file = file->next;
    good = file || open_file(l, context, model, path, &file, f);
    if (good) {
        file->users++;
        *out = file->adapter;
        close_idle(l);
    }
    pthread_mutex_unlock(&l->mutex);
    free(path);
    return good;
}

bool loras_try_hold(loras *l, const flux1_adapter_use *uses, int count)
{
    if (pthread_mutex_trylock(&l->mutex) != 0)
        return false;
    for (int i = 0; i < count; i++)
        for (lora_file *file = l->files; file; file = file->next)
            file->users += file->adapter == uses[i].adapter;
    pthread_mutex_unlock(&l->mutex);
    return true;
}

void loras_return(loras *l, flux1_adapter *adapter)
{
    pthread_mutex_lock(&l->mutex);
    for (lora_file *file = l->files; file; file = file->next)
        if (file->adapter == adapter)
            file->users--;
    close_idle(l);
    pthread_mutex_unlock(&l->mutex);
}

void loras_forget(loras *l, const flux1_model *model)
{
    pthread_mutex_lock(&l->mutex);
    for (lora_file **at = &l->files; *at;) {
        if ((*at)->model == model)
            close_file(at);
        else
            at = &(*at)->next;
    }
    for (lora_verdict **at = &l->verdicts; *at;) {
        if ((*at)->model == model)
            drop_verdict(at);
        else
            at = &(*at)->next;
    }
    pthread_mutex_unlock(&l->mutex);
}
