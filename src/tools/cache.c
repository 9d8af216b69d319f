/* What the folder of prepared weights holds. */
#include "base/json_write.h"
#include "flux1_tools.h"
#include "pipeline/context.h"
#include "weights/prepared.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct cache_job {
    const char *folder;
    flux1_cache_action action;
    json_writer w;
    prepared_file *file;
    size_t count;
    size_t listed, in_use, stuck;
    uint64_t bytes; /* of those listed */
    flux1_status worst;
    const atomic_int *cancel;
    flux1_error *err;
} cache_job;

static bool is_cancelled(const cache_job *job) { return atomic_load_explicit(job->cancel, memory_order_relaxed) != 0; }

/* The members of an entry's description. */
static void put_description(json_writer *w, const char *text)
{
    json_value *v = NULL;
    const char *name;
    const json_value *member;
    if (text && json_parse(text, strlen(text), "an entry", &v, NULL) == FLUX1_OK && json_is_object(v))
        for (size_t i = 0; (member = json_object_at(v, i, &name)); i++)
            json_put_value(w, name, member);
    json_free(v);
}

/* Header and, to verify, all bytes; NULL in *description where not even the header can be read. */
static flux1_status look_at(cache_job *job, const prepared_file *f, char **description, flux1_error *problem)
{
    *description = NULL;
    if (f->unfinished)
        return error_set(problem, FLUX1_ERR_FORMAT, "%s/%s: being written, or left by a process that was killed",
                         job->folder, f->name);
    return prepared_check(job->folder, f->name, job->action == FLUX1_CACHE_VERIFY, job->cancel, description, problem);
}

/* "2026-11-25T23:45:35Z" */
static void put_time(json_writer *w, int64_t seconds)
{
    char text[32];
    struct tm parts;
    const time_t when = (time_t)seconds;
    bool good = gmtime_r(&when, &parts) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts) > 0;
    json_put_string(w, "used", good ? text : NULL);
}

/* What cannot be removed is counted, and the first reason is kept. */
static bool is_cleared(cache_job *job, const prepared_file *f)
{
    const prepared_removal how = prepared_remove(job->folder, f->name, job->stuck ? NULL : job->err);
    job->in_use += how == PREPARED_IN_USE;
    job->stuck += how == PREPARED_STUCK;
    return how == PREPARED_REMOVED;
}

static void put_file(cache_job *job, const prepared_file *f)
{
    flux1_error problem = {0};
    char *description;
    flux1_status st = look_at(job, f, &description, &problem);
    if (job->action == FLUX1_CACHE_CLEAR && !is_cleared(job, f)) {
        free(description);
        return;
    }
    json_begin_object(&job->w, NULL);
    json_put_string(&job->w, "file", f->name);
    json_put_unsigned(&job->w, "bytes", f->bytes);
    put_time(&job->w, f->used);
    put_description(&job->w, description);
    if (st != FLUX1_OK)
        json_put_string(&job->w, "problem", problem.message);
    json_end_object(&job->w);
    free(description);
    job->listed++;
    job->bytes += f->bytes;
    if (st != FLUX1_OK && !f->unfinished && job->worst == FLUX1_OK && job->action == FLUX1_CACHE_VERIFY)
        job->worst = error_set(job->err, st, "%s", problem.message);
}

static void put_files(cache_job *job)
{
    json_begin_array(&job->w, "files");
    for (size_t i = 0; i < job->count && !is_cancelled(job); i++)
        put_file(job, &job->file[i]);
    json_end_array(&job->w);
}

static void put_all(cache_job *job)
{
    json_begin_object(&job->w, NULL);
    json_put_string(&job->w, "folder", job->folder);
    if (job->action != FLUX1_CACHE_SIZE)
        put_files(job);
    for (size_t i = 0; job->action == FLUX1_CACHE_SIZE && i < job->count; i++) {
        job->listed += !job->file[i].stranger;
        job->bytes += job->file[i].bytes;
    }
    json_put_unsigned(&job->w, "entries", job->listed);
    json_put_unsigned(&job->w, "bytes", job->bytes);
    if (job->action == FLUX1_CACHE_CLEAR) {
        json_put_unsigned(&job->w, "in use", job->in_use);
        json_put_unsigned(&job->w, "not removed", job->stuck);
    }
    json_end_object(&job->w);
}

flux1_status flux1_cache_json(flux1_context *c, const char *folder, flux1_cache_action action, char **json)
{
    TRY(context_begin(c));
    TRY(context_needs(c, json, "json"));
    *json = NULL;
    if ((int)action < FLUX1_CACHE_LIST || action > FLUX1_CACHE_SIZE)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "cache action %d: it should be one of flux1_cache_action",
                         (int)action);
    if (!folder)
        folder = getenv("FLUX1_CACHE_DIR");
    if (!folder || !*folder)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "no cache folder: name one, or set FLUX1_CACHE_DIR in the environment");
    cache_job job = {
        .folder = folder, .action = action, .w = {.style = JSON_INDENTED}, .cancel = &c->cancel, .err = &c->error};
    TRY(prepared_files(folder, &job.file, &job.count, &c->error));
    put_all(&job);
    free(job.file);
    if (is_cancelled(&job)) {
        json_abandon(&job.w);
        return error_set(&c->error, FLUX1_ERR_CANCELLED, "cancelled");
    }
    flux1_error written = {0};
    flux1_status st = json_take(&job.w, "the cache's entries", json, &written);
    if (st != FLUX1_OK)
        return error_set(&c->error, st, "%s", written.message);
    if (job.stuck)
        return error_prefix(&c->error, "%zu of %zu entries are not removed", job.stuck, job.count);
    return job.worst;
}
