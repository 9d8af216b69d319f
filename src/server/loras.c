#include "server/loras.h"

#include "base/clock.h"
#include "base/listing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENDING ".safetensors"
#define IDLE_MAX 8       /* files that stay open though no job has them */
#define AGAIN_SECONDS 60 /* until a file that could not be read is examined once more */

flux1_status loras_open(loras *l, const char *folder, void (*tell)(const char *sentence), flux1_error *err)
{
    *l = (loras){.folder = folder, .tell = tell};
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

/* name: without its ending */
typedef void file_visit(void *user, const char *name, const char *path, const file_identity *identity);

/* Also a link that leads nowhere. */
static bool is_gone(int error) { return error == ENOENT || error == ENOTDIR || error == ELOOP; }

static void tell_operator(const loras *l, const char *what, const char *between, const char *why)
{
    char text[2 * FLUX1_MESSAGE_MAX];
    snprintf(text, sizeof text, "%s%s%s", what, between, why);
    if (l->tell)
        l->tell(text);
}

/* By the folder's metadata: no file is opened. False: there may be files that were not visited; *listed: the
 * folder can be listed, or else the operator is told. */
static bool list_files(const loras *l, file_visit *visit, void *user, bool *listed)
{
    listing names;
    struct stat st;
    flux1_error err = {0};
    *listed = !l->folder || listing_read(l->folder, &names, &err) == FLUX1_OK;
    if (!*listed)
        tell_operator(l, "no adapter of --loras can be used", ": ", err.message);
    if (!*listed || !l->folder)
        return *listed;
    bool whole = !names.cut;
    for (size_t i = 0; i < names.count; i++) {
        const size_t n = stem(names.name[i]);
        if (n == 0)
            continue;
        char *path = path_join(l->folder, names.name[i]);
        if (!path || stat(path, &st) != 0) {
            whole = whole && path && is_gone(errno);
        } else if (S_ISREG(st.st_mode)) {
            const file_identity identity = file_identity_of(&st);
            names.name[i][n] = '\0';
            visit(user, names.name[i], path, &identity);
        }
        free(path);
    }
    listing_free(&names);
    return whole;
}

/* ---- one by its name ---- */

typedef struct finding {
    const char *name;
    size_t length; /* without its ending */
    char *path;    /* found, malloc'd */
    builder names; /* of all */
} finding;

static void compare(void *user, const char *name, const char *path, const file_identity *identity)
{
    finding *look = user;
    (void)identity;
    if (strlen(name) == look->length && memcmp(name, look->name, look->length) == 0)
        look->path = strdup(path);
    if (look->names.length < 400)
        builder_format(&look->names, "%s%s", look->names.length ? ", " : "", name);
}

/* The path of the file in the folder's listing that has this name, so that no name leads out of the folder. */
static bool locate(const loras *l, const char *name, char **path, fault *f)
{
    finding look = {.name = name, .length = stem(name) ? stem(name) : strlen(name)};
    bool listed;
    if (!l->folder)
        return fault_set(f, FAULT_INVALID, "lora",
                         "\"lora\": \"%.100s\" cannot be used: this server has no folder of adapters (--loras DIR)",
                         name);
    list_files(l, compare, &look, &listed);
    if (!look.path && !listed)
        fault_set(f, FAULT_UNAVAILABLE, "lora", "the adapters of this server cannot be listed now");
    else if (!look.path)
        fault_set(f, FAULT_INVALID, "lora", "\"lora\": there is no \"%.100s\"; there is %s", name,
                  look.names.text ? look.names.text : "none at all");
    builder_free(&look.names);
    *path = look.path;
    return look.path != NULL;
}

/* By opening it, since a network file system tells the newest state then; may wait for the disk. */
static file_identity identity_of(const char *path)
{
    file_identity identity = {.device = FILE_DEVICE_NONE};
    struct stat st;
    int descriptor = -1;
    if (file_open_regular(path, &descriptor, &identity, NULL) == FLUX1_OK)
        close(descriptor);
    else if (stat(path, &st) == 0) /* as list_files sees it, so that what is found out is known to be this file's */
        identity = file_identity_of(&st);
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

const char *loras_without_folder(const loras *l, const char *sentence)
{
    size_t n = l->folder ? strlen(l->folder) : 0;
    while (n > 1 && l->folder[n - 1] == '/')
        n--;
    return n > 0 && strncmp(sentence, l->folder, n) == 0 && sentence[n] == '/' ? sentence + n + 1 : sentence;
}

/* Without the mutex, so that nobody waits for the disk: one thread at a time has the context. */
static bool open_file(const loras *l, flux1_context *context, const flux1_model *model, const char *path,
                      lora_file **out, fault *f)
{
    lora_file *file = calloc(1, sizeof *file + strlen(path) + 1);
    if (!file)
        return fault_set(f, FAULT_SERVER, NULL, "out of memory for an adapter");
    memcpy(file->name, path, strlen(path));
    file->model = model;
    file->identity = identity_of(path);
    const flux1_status st = flux1_adapter_open(context, model, path, &file->adapter);
    if (st != FLUX1_OK) {
        const char *message = loras_without_folder(l, flux1_context_message(context));
        free(file);
        if (strchr(message, '/')) /* of a path */
            return fault_set(f, fault_kind_of_file(st), "lora", "%s: %s", loras_without_folder(l, path),
                             flux1_status_text(st));
        return fault_set(f, fault_kind_of_file(st), "lora", "%s", message);
    }
    *out = file;
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

typedef struct survey {
    loras *l;
    const flux1_model *model;
    loras_tell *tell;
    void *user;
    unsigned number;
} survey;

static void tell_file(void *user, const char *name, const char *path, const file_identity *now)
{
    const survey *y = user;
    lora_facts facts = {.name = name, .path = path, .bytes = now->size};
    pthread_mutex_lock(&y->l->mutex);
    lora_verdict *v = *verdict_place(y->l, y->model, path);
    if (v && v->seen < y->number) /* or a later survey has been here */
        v->seen = y->number;
    facts.examined = v && file_identity_same(&v->identity, now);
    if (facts.examined) {
        facts.again = v->again > 0 && clock_seconds() >= v->again;
        snprintf(facts.why, sizeof facts.why, "%s", v->why);
    }
    pthread_mutex_unlock(&y->l->mutex);
    y->tell(y->user, &facts);
}

void loras_survey(loras *l, const flux1_model *model, loras_tell *tell, void *user)
{
    survey y = {.l = l, .model = model, .tell = tell, .user = user};
    bool listed;
    pthread_mutex_lock(&l->mutex);
    y.number = ++l->surveys;
    pthread_mutex_unlock(&l->mutex);
    const bool whole = list_files(l, tell_file, &y, &listed);
    pthread_mutex_lock(&l->mutex);
    for (lora_verdict **at = &l->verdicts; whole && *at;) {
        if ((*at)->model == model && (*at)->seen < y.number)
            drop_verdict(at);
        else
            at = &(*at)->next;
    }
    pthread_mutex_unlock(&l->mutex);
}

/* With the mutex held. Without memory it is found out again. */
static void remember(loras *l, const flux1_model *model, const char *path, const file_identity *then, const fault *f)
{
    lora_verdict **at = verdict_place(l, model, path), *v = calloc(1, sizeof *v + strlen(path) + 1);
    if (*at)
        drop_verdict(at);
    if (!v || !(v->why = strdup(f->message))) {
        free(v);
        return;
    }
    v->model = model;
    v->identity = *then;
    if (f->kind == FAULT_UNAVAILABLE || f->kind == FAULT_SERVER)
        v->again = clock_seconds() + AGAIN_SECONDS;
    v->seen = l->surveys;
    memcpy(v->path, path, strlen(path));
    v->next = l->verdicts;
    l->verdicts = v;
}

void loras_examine(loras *l, flux1_context *context, const flux1_model *model, const char *path)
{
    const file_identity then = identity_of(path);
    lora_file *file = NULL;
    fault f = {0};
    if (open_file(l, context, model, path, &file, &f))
        close_file(&file); /* those that jobs had stay open */
    pthread_mutex_lock(&l->mutex);
    remember(l, model, path, &then, &f);
    pthread_mutex_unlock(&l->mutex);
}

/* ---- their use ---- */

/* NULL: it is not open, or has changed since. */
static lora_file *use_open(loras *l, const flux1_model *model, const char *path, flux1_adapter **out)
{
    const file_identity now = identity_of(path);
    pthread_mutex_lock(&l->mutex);
    lora_file *file = l->files;
    while (file &&
           (file->model != model || strcmp(file->name, path) != 0 || !file_identity_same(&file->identity, &now)))
        file = file->next;
    if (file) {
        file->users++;
        *out = file->adapter;
    }
    pthread_mutex_unlock(&l->mutex);
    return file;
}

bool loras_take(loras *l, flux1_context *context, const flux1_model *model, const char *name, flux1_adapter **out,
                fault *f)
{
    char *path = NULL;
    if (!locate(l, name, &path, f))
        return false;
    lora_file *file = use_open(l, model, path, out), *opened = NULL;
    if (!file && open_file(l, context, model, path, &opened, f)) {
        opened->users = 1;
        *out = opened->adapter;
        pthread_mutex_lock(&l->mutex);
        opened->next = l->files;
        l->files = file = opened;
        pthread_mutex_unlock(&l->mutex);
    } else if (!file && f->kind != FAULT_INVALID)
        tell_operator(l, l->folder, "/", f->message);
    free(path);
    return file != NULL;
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
