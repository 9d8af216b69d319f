#include "mesh/trace.h"

#include "base/file.h"
#include "base/json_write.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- exchange ---- */

exchange_time trace_exchange(const profile *p, int64_t step)
{
    exchange_time sum = {0};
    for (int r = 0; r < profile_ranks(p); r++) {
        size_t count;
        const span *s = profile_spans(p, r, &count);
        for (size_t i = 0; i < count; i++) {
            if (s[i].kind != SPAN_EXCHANGE || (step >= 0 && s[i].step != step))
                continue;
            bool ring = !strcmp(s[i].name, "shift");
            sum.seconds += s[i].exposed + s[i].hidden;
            sum.hidden += s[i].hidden;
            sum.ring_seconds += ring ? s[i].exposed + s[i].hidden : 0;
            sum.ring_hidden += ring ? s[i].hidden : 0;
        }
    }
    return sum;
}

int64_t trace_steps(const profile *p)
{
    int64_t steps = 0;
    for (int r = 0; r < profile_ranks(p); r++) {
        size_t count;
        const span *s = profile_spans(p, r, &count);
        for (size_t i = 0; i < count; i++)
            steps = s[i].step >= steps ? s[i].step + 1 : steps;
    }
    return steps;
}

static double percent(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

/* Appends to a text of at most `size` bytes; what does not fit is cut off. */
static void append(char *out, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void append(char *out, size_t size, const char *format, ...)
{
    size_t used = strlen(out);
    va_list list;
    va_start(list, format);
    vsnprintf(out + used, size - used, format, list);
    va_end(list);
}

void trace_sentence(const profile *p, char *out, size_t size)
{
    exchange_time all = trace_exchange(p, -1);
    int64_t steps = trace_steps(p);
    size_t dropped = 0;
    for (int r = 0; r < profile_ranks(p); r++)
        dropped += profile_dropped(p, r);
    out[0] = '\0';
    if (all.seconds > 0)
        append(out, size, "exchange %.1f ms of all ranks, of which %.1f %% hidden behind compute", 1e3 * all.seconds,
               percent(all.hidden, all.seconds));
    else
        append(out, size, "no exchange");
    if (all.ring_seconds > 0)
        append(out, size, " (ring %.1f %%)", percent(all.ring_hidden, all.ring_seconds));
    for (int64_t k = 0; all.seconds > 0 && k < steps; k++) {
        exchange_time one = trace_exchange(p, k);
        append(out, size, "%s%.1f", k ? ", " : "; by step ", percent(one.hidden, one.seconds));
    }
    if (dropped)
        append(out, size, "; %zu spans did not fit into the profile", dropped);
}

/* ---- the file ---- */

enum { TRACK_COMPUTE, TRACK_EXCHANGE };

typedef struct trace {
    file_writer file;
    flux1_error *err;
    double origin; /* the first span's begin */
    bool any;      /* an event has been written */
} trace;

static flux1_status write_event(trace *t, json_writer *w)
{
    char *text = NULL;
    TRY(json_take(w, "an event of the trace", &text, t->err));
    bool ok = fputs(t->any ? ",\n" : "\n", t->file.stream) >= 0 && fputs(text, t->file.stream) >= 0;
    free(text);
    t->any = true;
    return ok ? FLUX1_OK : error_io(t->err, t->file.path, "write");
}

/* A name for a rank (track < 0) or one of its tracks. */
static flux1_status write_name(trace *t, int rank, int track, const char *name)
{
    json_writer w = {.style = JSON_LINE};
    json_begin_object(&w, NULL);
    json_put_string(&w, "name", track < 0 ? "process_name" : "thread_name");
    json_put_string(&w, "ph", "M");
    json_put_integer(&w, "pid", rank);
    if (track >= 0)
        json_put_integer(&w, "tid", track);
    json_begin_object(&w, "args");
    json_put_string(&w, "name", name);
    json_end_object(&w);
    json_end_object(&w);
    return write_event(t, &w);
}

static flux1_status write_names(trace *t, const mesh_config *c, int rank)
{
    char name[64];
    mesh m;
    mesh_set_rank(&m, c, rank);
    snprintf(name, sizeof name, "rank %d (sp %d, tp %d)", rank, m.sp_rank, m.tp_rank);
    TRY(write_name(t, rank, -1, name));
    TRY(write_name(t, rank, TRACK_COMPUTE, "compute"));
    return write_name(t, rank, TRACK_EXCHANGE, "exchange");
}

static double microseconds(double seconds) { return round(seconds * 1e9) / 1e3; }

/* Whole nanoseconds, so that a span ends where the next one may begin. */
static int64_t since(const trace *t, double seconds) { return llround((seconds - t->origin) * 1e9); }

static void put_count(json_writer *w, const char *key, uint64_t value)
{
    if (value)
        json_put_unsigned(w, key, value);
}

static void put_args(json_writer *w, const span *s)
{
    json_begin_object(w, "args");
    if (s->step >= 0)
        json_put_integer(w, "step", s->step + 1);
    if (s->block[0])
        json_put_string(w, "block", s->block);
    put_count(w, "batch", (uint64_t)s->batch);
    put_count(w, "m", (uint64_t)s->m);
    put_count(w, "n", (uint64_t)s->n);
    put_count(w, "k", (uint64_t)s->k);
    put_count(w, "heads", (uint64_t)s->heads);
    if (s->flops > 0)
        json_put_real(w, "flops", s->flops);
    put_count(w, "bytes_in", s->bytes_in);
    put_count(w, "bytes_out", s->bytes_out);
    put_count(w, "bytes_weights", s->bytes_weights);
    put_count(w, "bytes_moved", s->bytes_moved);
    if (s->kind == SPAN_EXCHANGE) {
        json_put_integer(w, "ranks", s->ranks);
        json_put_real(w, "exposed_us", microseconds(s->exposed));
        json_put_real(w, "hidden_us", microseconds(s->hidden));
    }
    json_end_object(w);
}

static flux1_status write_span(trace *t, int rank, const span *s)
{
    static const char *const category[] = {"stage", "step", "call", "exchange"};
    json_writer w = {.style = JSON_LINE};
    char name[SPAN_NAME + 24];
    int64_t begin = since(t, s->begin);
    snprintf(name, sizeof name, "%s", s->name);
    if (s->kind == SPAN_STEP)
        snprintf(name, sizeof name, "%s %" PRId64, s->name, s->step + 1);
    json_begin_object(&w, NULL);
    json_put_string(&w, "name", name);
    json_put_string(&w, "cat", category[s->kind]);
    json_put_string(&w, "ph", "X");
    json_put_real(&w, "ts", (double)begin / 1e3);
    json_put_real(&w, "dur", (double)(since(t, s->end) - begin) / 1e3);
    json_put_integer(&w, "pid", rank);
    json_put_integer(&w, "tid", s->kind == SPAN_EXCHANGE ? TRACK_EXCHANGE : TRACK_COMPUTE);
    put_args(&w, s);
    json_end_object(&w);
    return write_event(t, &w);
}

static double origin_of(const profile *p)
{
    double first = INFINITY;
    for (int r = 0; r < profile_ranks(p); r++) {
        size_t count;
        const span *s = profile_spans(p, r, &count);
        for (size_t i = 0; i < count; i++)
            first = s[i].begin < first ? s[i].begin : first;
    }
    return isfinite(first) ? first : 0;
}

static flux1_status write_all(trace *t, const profile *p, const mesh_config *c)
{
    if (fputs("{\"displayTimeUnit\": \"ms\", \"traceEvents\": [", t->file.stream) < 0)
        return error_io(t->err, t->file.path, "write");
    for (int r = 0; r < profile_ranks(p); r++) {
        size_t count;
        const span *s = profile_spans(p, r, &count);
        TRY(write_names(t, c, r));
        for (size_t i = 0; i < count; i++)
            TRY(write_span(t, r, &s[i]));
    }
    return fputs("\n]}\n", t->file.stream) < 0 ? error_io(t->err, t->file.path, "write") : FLUX1_OK;
}

flux1_status trace_write(const profile *p, const mesh_config *c, const char *path, flux1_error *err)
{
    trace t = {.err = err, .origin = origin_of(p)};
    TRY(file_begin(path, &t.file, err));
    flux1_status st = write_all(&t, p, c);
    if (st == FLUX1_OK)
        return file_commit(&t.file, err);
    file_abandon(&t.file);
    return st;
}
