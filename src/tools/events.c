#include "tools/events.h"

#include "base/json_write.h"

#include <stdlib.h>

static const char *const KIND[] = {[EVENT_COMPUTE] = "compute",
                                   [EVENT_COLLECTIVE] = "collective",
                                   [EVENT_WEIGHTS] = "weights",
                                   [EVENT_MEMORY] = "memory",
                                   [EVENT_ORDER] = "order"};

flux1_status events_begin(events_file *f, const char *path, flux1_error *err)
{
    *f = (events_file){.err = err};
    return file_begin(path, &f->file, err);
}

static void write_line(events_file *f, const char *line)
{
    if (f->status == FLUX1_OK && (fputs(line, f->file.stream) < 0 || fputc('\n', f->file.stream) == EOF))
        f->status = error_io(f->err, f->file.path, "write");
}

flux1_status events_header(events_file *f, const char *line)
{
    write_line(f, line);
    return f->status;
}

static void put_count(json_writer *w, const char *key, size_t bytes)
{
    if (bytes)
        json_put_unsigned(w, key, bytes);
}

/* What means nothing for this event is left out. */
static void describe_work(json_writer *w, const ops_event *e)
{
    if (e->batch || e->m || e->n) {
        if (e->batch)
            json_put_integer(w, "batch", e->batch);
        json_put_integer(w, "m", e->m);
        json_put_integer(w, "n", e->n);
    }
    if (e->k)
        json_put_integer(w, "k", e->k);
    if (e->heads)
        json_put_integer(w, "heads", e->heads);
    if (e->flops > 0)
        json_put_real(w, "flops", e->flops);
    put_count(w, "bytes_in", e->bytes_in);
    put_count(w, "bytes_out", e->bytes_out);
    put_count(w, "bytes_weights", e->bytes_weights);
}

static void write_event(void *user, const ops_event *e)
{
    events_file *f = user;
    bool in_step = f->stage_steps && f->plan.before.operations > f->operations; /* the body has told of its opening */
    json_writer w = {.style = JSON_LINE};
    char *line = NULL;
    if (f->status != FLUX1_OK)
        return;
    json_begin_object(&w, NULL);
    json_put_string(&w, "stage", in_step ? f->stage_steps : f->stage);
    json_put_integer(&w, "rank", f->rank);
    json_put_string(&w, "event", KIND[e->kind]);
    json_put_string(&w, "operation", e->operation);
    if (e->block)
        json_put_string(&w, "block", e->block);
    describe_work(&w, e);
    if (e->kind == EVENT_COLLECTIVE) {
        json_put_unsigned(&w, "bytes_moved", e->bytes_moved);
        json_put_integer(&w, "ranks", e->ranks);
        json_put_string(&w, "axis", e->axis);
    }
    if (e->overlaps)
        json_put_bool(&w, "overlaps", true);
    json_put_unsigned(&w, "arena", e->arena);
    json_end_object(&w);
    f->status = json_take(&w, "an event", &line, f->err);
    if (f->status == FLUX1_OK)
        write_line(f, line);
    free(line);
}

flux1_status events_stage(events_file *f, const char *stage, const char *stage_steps, const flux1_context *c,
                          const mesh_device *d, mesh_body *body, void *job, ticker *t)
{
    flux1_status st = f->status;
    mesh_device heard = *d;
    ops_count count;
    heard.config.event = write_event;
    heard.config.event_user = f;
    f->stage = stage;
    f->stage_steps = stage_steps;
    t->recording = &f->plan;
    const mesh_config *shape = context_mesh(c, d);
    for (int r = 0; st == FLUX1_OK && r < mesh_ranks(shape); r++) {
        f->rank = r;
        f->operations = f->plan.before.operations;
        st = mesh_dry_run(shape, &heard, r, body, job, &count, f->err);
        st = st == FLUX1_OK ? f->status : st;
    }
    t->recording = NULL;
    t->next = 0;
    stage_plan_free(&f->plan);
    return st;
}

flux1_status events_commit(events_file *f)
{
    flux1_status st = file_commit(&f->file, f->err);
    *f = (events_file){0};
    return st;
}

void events_abandon(events_file *f)
{
    file_abandon(&f->file);
    *f = (events_file){0};
}
