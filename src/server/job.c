#include "server/job.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct {
    const char *name;
    bool ended;
} states[] = {
#define JOB_STATE_ROW(id, name, ended) {name, ended},
    JOB_STATE_MAP(JOB_STATE_ROW)
#undef JOB_STATE_ROW
};

const char *job_state_name(job_state state) { return states[state].name; }
bool job_state_ended(job_state state) { return states[state].ended; }

double job_now(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int job_finished(const job *j) { return j->made + (j->unkept ? 1 : 0); }

job *job_create(job_request *request)
{
    job *j = calloc(1, sizeof *j);
    if (!j) {
        request_free(request);
        return NULL;
    }
    j->request = *request;
    *request = (job_request){0};
    j->references = 1;
    j->created = job_now();
    j->steps = j->request.steps;
    j->seconds_left = -1;
    j->preview_format = FLUX1_FORMAT_JPEG;
    j->token = flux1_cancel_token_create();
    j->pictures = calloc((size_t)j->request.count, sizeof *j->pictures);
    if (j->token && j->pictures && random_name(j->id))
        return j;
    job_free(j);
    return NULL;
}

void job_free(job *j)
{
    request_free(&j->request);
    remarks_free(&j->notes);
    flux1_cancel_token_destroy(j->token);
    free(j->pictures);
    flux1_bytes_free(j->preview.bytes);
    flux1_bytes_free(j->unkept);
    free(j);
}

/* ---- JSON ---- */

/* Milliseconds are enough. */
static void put_time(json_writer *w, const char *key, double seconds)
{
    if (seconds > 0)
        json_put_real(w, key, round(seconds * 1000) / 1000);
    else
        json_put_null(w, key);
}

void job_put_picture(json_writer *w, const char *key, const job_picture *p)
{
    char text[PICTURE_NAME + 16];
    json_begin_object(w, key);
    snprintf(text, sizeof text, "/api/files/%s", p->name);
    json_put_string(w, "url", text);
    snprintf(text, sizeof text, "%" PRIu64, p->seed);
    json_put_string(w, "seed", text);
    json_put_integer(w, "width", p->width);
    json_put_integer(w, "height", p->height);
    json_put_unsigned(w, "bytes", p->bytes);
    json_put_string(w, "format", format_name(p->format));
    json_end_object(w);
}

static void put_progress(json_writer *w, const job *j)
{
    json_put_string(w, "stage", j->stage);
    json_put_integer(w, "step", j->step);
    json_put_integer(w, "steps", j->steps);
    json_put_integer(w, "image", j->image);
    json_put_integer(w, "images", j->request.count);
    json_put_real(w, "fraction", round(j->fraction * 1e4) / 1e4);
    json_put_real(w, "seconds", round(j->seconds * 1000) / 1000);
    if (j->seconds_left >= 0)
        json_put_real(w, "seconds_left", round(j->seconds_left * 1000) / 1000);
    else
        json_put_null(w, "seconds_left");
}

static void put_outcome(json_writer *w, const job *j, int pictures)
{
    request_put(w, "request", &j->request);
    json_begin_array(w, "pictures");
    for (int i = 0; i < pictures; i++)
        job_put_picture(w, NULL, &j->pictures[i]);
    json_end_array(w);
    remarks_put(w, "notes", &j->notes);
}

void job_put_outcome(json_writer *w, const job *j) { put_outcome(w, j, j->stored); }

/* What clients are told. */
static job_state told_state(const job *j)
{
    if (!job_state_ended(j->state) || j->kept)
        return j->state;
    return j->started > 0 ? JOB_RUNNING : JOB_QUEUED;
}

/* told: to clients; else for the history. */
static void put(json_writer *w, const char *key, const job *j, bool told, int position, bool whole)
{
    const job_state state = told ? told_state(j) : j->state;
    const bool ended = job_state_ended(state);
    json_begin_object(w, key);
    json_put_string(w, "id", j->id);
    json_put_string(w, "state", job_state_name(state));
    put_time(w, "created", j->created);
    put_time(w, "started", j->started);
    put_time(w, "finished", ended ? j->finished : 0);
    json_put_integer(w, "position", position);
    put_progress(w, j);
    if (whole)
        put_outcome(w, j, told ? j->stored : j->made);
    if (!ended || j->error.kind == FAULT_NONE)
        json_put_null(w, "error");
    else
        fault_put(w, "error", &j->error);
    json_end_object(w);
}

void job_put(json_writer *w, const char *key, const job *j, int position, bool whole)
{
    put(w, key, j, true, position, whole);
}

static char *text_of(const job *j, bool told, int position)
{
    json_writer w = {.style = JSON_LINE};
    char *text = NULL;
    put(&w, NULL, j, told, position, true);
    json_take(&w, "a job", &text, NULL);
    return text;
}

char *job_text(const job *j, int position) { return text_of(j, true, position); }
char *job_text_for_history(const job *j, int position) { return text_of(j, false, position); }

flux1_status job_text_interrupted(const char *stored, char **out, flux1_error *err)
{
    json_writer w = {.style = JSON_LINE};
    json_value *root = NULL;
    fault why = {0};
    const char *key;
    const json_value *v;
    *out = NULL;
    TRY(json_parse(stored, strlen(stored), "a stored job", &root, err));
    fault_set(&why, FAULT_UNAVAILABLE, NULL, "the server ended while this job was queued or running");
    json_begin_object(&w, NULL);
    for (size_t i = 0; (v = json_object_at(root, i, &key)); i++)
        if (strcmp(key, "state") == 0)
            json_put_string(&w, key, job_state_name(JOB_INTERRUPTED));
        else if (strcmp(key, "position") == 0)
            json_put_integer(&w, key, 0);
        else if (strcmp(key, "stage") == 0 || strcmp(key, "seconds_left") == 0)
            json_put_null(&w, key);
        else if (strcmp(key, "finished") == 0)
            put_time(&w, key, job_now());
        else if (strcmp(key, "error") == 0)
            fault_put(&w, key, &why);
        else
            json_put_value(&w, key, v);
    json_end_object(&w);
    json_free(root);
    return json_take(&w, "a job", out, err);
}
