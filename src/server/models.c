#include "server/models.h"

#include "base/listing.h"
#include "server/failure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

/* ---- one ---- */

static job_request defaults_of(const server_settings *t, const flux1_model_info *m)
{
    return (job_request){.true_cfg_scale = 1,
                         .width = t->width ? t->width : m->default_width,
                         .height = t->height ? t->height : m->default_height,
                         .steps = t->steps ? t->steps : m->default_steps,
                         .guidance = m->guidance && t->guidance >= 0 ? t->guidance
                                     : m->guidance                   ? m->default_guidance
                                                                     : -1,
                         .count = 1,
                         .max_sequence_length =
                             t->max_sequence_length ? t->max_sequence_length : m->default_sequence_length,
                         .format = FLUX1_FORMAT_PNG};
}

/* folder NULL: the engine's model, which has its own name. The model is taken over where that is given. */
static flux1_status describe(const server *s, const flux1_model *model, flux1_model *own, const char *folder,
                             served_model **out, flux1_error *err)
{
    const size_t length = folder ? strlen(folder) : 0;
    served_model *m = calloc(1, sizeof *m + length + 1);
    *out = m;
    if (!m)
        return error_oom(err, sizeof *m, "a model");
    m->model = model;
    m->own = own;
    m->info.size = sizeof m->info;
    const flux1_status st = flux1_model_get_info(model, &m->info);
    if (st != FLUX1_OK)
        return error_set(err, st, "the model cannot be described");
    if (folder)
        memcpy(m->folder, folder, length);
    m->name = folder ? m->folder : m->info.name;
    m->defaults = defaults_of(&s->settings, &m->info);
    return FLUX1_OK;
}

static void close_one(server *s, served_model *m)
{
    if (!m)
        return;
    loras_forget(&s->loras, m->model);
    flux1_model_close(m->own);
    free(m);
}

flux1_status models_open(server *s, flux1_error *err)
{
    return describe(s, s->engine.model, NULL, NULL, &s->models.engine, err);
}

void models_close(server *s)
{
    while (s->models.opened) {
        served_model *m = s->models.opened;
        s->models.opened = m->next;
        close_one(s, m);
    }
    free(s->models.engine);
    s->models.engine = NULL;
}

/* ---- names ---- */

/* The name, or the part behind its last slash. */
static bool is_engines(const server *s, const char *name)
{
    const char *whole = s->models.engine->name, *slash = strrchr(whole, '/');
    return !name || !name[0] || strcasecmp(name, whole) == 0 || (slash && strcasecmp(name, slash + 1) == 0);
}

static bool is_pipeline(const char *folder, const char *name)
{
    char *path = path_join(folder, name), *index = path ? path_join(path, "model_index.json") : NULL;
    struct stat st;
    const bool is = index && stat(index, &st) == 0 && S_ISREG(st.st_mode);
    free(index);
    free(path);
    return is;
}

bool models_list(const server *s, models_visit *visit, void *user)
{
    const char *folder = s->settings.models;
    listing names;
    flux1_error err = {0};
    visit(user, s->models.engine->name);
    if (!folder)
        return true;
    if (listing_read(folder, &names, &err) != FLUX1_OK) {
        failure_tell(s, "no model of --models can be used: %s", err.message);
        return false;
    }
    for (size_t i = 0; i < names.count; i++)
        if (strlen(names.name[i]) < MODEL_NAME_ROOM && !is_engines(s, names.name[i]) &&
            is_pipeline(folder, names.name[i]))
            visit(user, names.name[i]);
    listing_free(&names);
    return true;
}

typedef struct finding {
    const char *name;
    char found[MODEL_NAME_ROOM]; /* as the folder has it */
    builder names;
} finding;

static void compare(void *user, const char *name)
{
    finding *look = user;
    if (strcasecmp(name, look->name) == 0 && !look->found[0])
        snprintf(look->found, sizeof look->found, "%s", name);
    if (look->names.length < 400)
        builder_format(&look->names, "%s%s", look->names.length ? ", " : "", name);
}

/* Its name out of the folder's listing, so that no name leads out of the folder. found "": the engine's. As models_take
 * of faults. */
static bool find(const server *s, const char *name, const char *param, char found[MODEL_NAME_ROOM], fault *f)
{
    finding look = {.name = name};
    found[0] = '\0';
    if (is_engines(s, name))
        return true;
    const bool listed = models_list(s, compare, &look);
    if (!look.found[0] && !listed)
        fault_set(f, FAULT_UNAVAILABLE, param, "the models of this server cannot be listed now");
    else if (!look.found[0])
        fault_set(f, FAULT_INVALID, param, "there is no model \"%.60s\" here; there is %s", name,
                  look.names.text ? look.names.text : s->models.engine->name);
    builder_free(&look.names);
    memcpy(found, look.found, sizeof look.found);
    return look.found[0] != '\0';
}

bool models_know(const server *s, const char *name, const char *param, char whole[MODEL_NAME_ROOM], fault *f)
{
    const bool known = find(s, name, param, whole, f);
    if (known && !whole[0])
        snprintf(whole, MODEL_NAME_ROOM, "%s", s->models.engine->name);
    return known;
}

/* ---- opening ---- */

/* With the mutex held: nobody has it, and another one was wanted since. */
static served_model *take_out_idle(models *l)
{
    served_model **at = l->opened ? &l->opened->next : &l->opened;
    while (*at && (*at)->users > 0)
        at = &(*at)->next;
    served_model *idle = *at;
    if (idle)
        *at = idle->next;
    return idle;
}

static void close_idle(server *s)
{
    for (served_model *m;;) {
        pthread_mutex_lock(&s->models.mutex);
        m = take_out_idle(&s->models);
        pthread_mutex_unlock(&s->models.mutex);
        if (!m)
            return;
        close_one(s, m);
    }
}

/* With the mutex held: where one of that name is, which can be read. */
static served_model **find_opened(models *l, const char *name)
{
    served_model **at = &l->opened;
    while (*at && (strcasecmp((*at)->name, name) != 0 || models_is_unreadable(*at)))
        at = &(*at)->next;
    return at;
}

/* One that is open becomes the first, with one more user. */
static served_model *take_opened(models *l, const char *name)
{
    pthread_mutex_lock(&l->mutex);
    served_model **at = find_opened(l, name), *m = *at;
    if (m) {
        *at = m->next;
        m->next = l->opened;
        l->opened = m;
        m->users++;
    }
    pthread_mutex_unlock(&l->mutex);
    return m;
}

static flux1_status open_files(server *s, const char *name, bool engines, flux1_model **out)
{
    if (engines)
        return flux1_model_open_parts(s->engine.planner, &s->engine.parts, out);
    char *path = path_join(s->settings.models, name);
    const flux1_status st = path ? flux1_model_open(s->engine.planner, path, out) : FLUX1_ERR_MEMORY;
    free(path);
    return st;
}

/* On the planner's context, which the caller has. The engine's was whole once, and a request need not name it: what is
 * wrong with its files is not the request's fault. */
static served_model *open_named(server *s, const char *name, const char *param, fault *f)
{
    const bool engines = is_engines(s, name);
    flux1_model *model = NULL;
    served_model *m = NULL;
    flux1_error err = {0};
    flux1_status st = open_files(s, name, engines, &model);
    if (st != FLUX1_OK) { /* where it lies is the operator's business */
        failure_tell(s, "the model \"%s\" cannot be opened: %s", name, flux1_context_message(s->engine.planner));
        fault_set(f, fault_kind_of_file(engines && st != FLUX1_ERR_MEMORY ? FLUX1_ERR_IO : st), engines ? NULL : param,
                  "the model \"%.60s\" cannot be opened: %s", name, flux1_status_text(st));
    } else if ((st = describe(s, model, model, name, &m, &err)) != FLUX1_OK)
        failure_fault(s, f, st, "a model cannot be described", err.message);
    if (st == FLUX1_OK)
        return m;
    flux1_model_close(model);
    free(m);
    return NULL;
}

static served_model *take_named(server *s, const char *name, const char *param, fault *f)
{
    served_model *m = take_opened(&s->models, name);
    if (m) { /* without waiting for a plan */
        close_idle(s);
        return m;
    }
    pthread_mutex_lock(&s->planning);
    if (!(m = take_opened(&s->models, name)) && (m = open_named(s, name, param, f))) {
        pthread_mutex_lock(&s->models.mutex);
        m->users = 1;
        m->next = s->models.opened;
        s->models.opened = m;
        pthread_mutex_unlock(&s->models.mutex);
    }
    pthread_mutex_unlock(&s->planning);
    close_idle(s);
    return m;
}

served_model *models_take_facts(server *s, const char *name, const char *param, fault *f)
{
    char folder[MODEL_NAME_ROOM];
    if (!find(s, name, param, folder, f))
        return NULL;
    return folder[0] ? take_named(s, folder, param, f) : s->models.engine;
}

served_model *models_take(server *s, const char *name, const char *param, fault *f)
{
    served_model *m = models_take_facts(s, name, param, f);
    return m == s->models.engine && models_is_unreadable(m) ? take_named(s, m->name, param, f) : m;
}

bool models_is_open(server *s, const char *name)
{
    if (is_engines(s, name))
        return true;
    pthread_mutex_lock(&s->models.mutex);
    const bool open = *find_opened(&s->models, name) != NULL;
    pthread_mutex_unlock(&s->models.mutex);
    return open;
}

void models_note(served_model *m, flux1_status status)
{
    if (status == FLUX1_ERR_IO)
        atomic_store(&m->unreadable, true);
}

bool models_is_unreadable(const served_model *m) { return atomic_load(&m->unreadable); }

void models_hold(server *s, served_model *m)
{
    pthread_mutex_lock(&s->models.mutex);
    m->users += m->own != NULL;
    pthread_mutex_unlock(&s->models.mutex);
}

void models_return(server *s, served_model *m)
{
    if (!m->own)
        return;
    pthread_mutex_lock(&s->models.mutex);
    m->users--;
    pthread_mutex_unlock(&s->models.mutex);
    close_idle(s);
}

served_model *models_begin(server *s, const char *name, const char *param, job_request *r, fault *f)
{
    served_model *m = queue_has_room(&s->queue, f) ? models_take(s, name, param, f) : NULL;
    if (!m || !request_begin(&m->defaults, r, f)) {
        if (m)
            models_return(s, m);
        return NULL;
    }
    if ((r->model = strdup(m->name)))
        return m;
    models_return(s, m);
    fault_set(f, FAULT_SERVER, NULL, "out of memory for a request");
    return NULL;
}

/* ---- the choice of AUTOMATIC1111's options ---- */

void models_choose(server *s, const char *name)
{
    pthread_mutex_lock(&s->models.mutex);
    snprintf(s->models.chosen, sizeof s->models.chosen, "%s", is_engines(s, name) ? "" : name);
    pthread_mutex_unlock(&s->models.mutex);
}

void models_chosen(server *s, char name[MODEL_NAME_ROOM])
{
    pthread_mutex_lock(&s->models.mutex);
    snprintf(name, MODEL_NAME_ROOM, "%s", s->models.chosen[0] ? s->models.chosen : s->models.engine->name);
    pthread_mutex_unlock(&s->models.mutex);
}
