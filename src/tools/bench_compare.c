/* flux1 bench --compare: two reports row by row, and which differences are above the noise of their runs. */
#include "flux1_tools.h"
#include "pipeline/context.h"

#include "base/json.h"
#include "base/json_write.h"
#include "base/utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    ROWS_MOST = 10000, /* of one file: each row is looked for in the other's */
    RUNS_ENOUGH = 8    /* from here on the distances from the median say how far runs scatter */
};

/* Differences below this share are not told, whatever the noise. */
#define LEAST_DIFFERENCE 0.01

/* Seconds: no run takes more than 30 years, and no clock tells less than a picosecond from 0. So ratios are finite. */
#define TIME_MOST 1e9
#define TIME_LEAST 1e-12

typedef struct row {
    const char *stage, *kernel, *shape, *type; /* kernel … type: "" in the rows of stages */
    double seconds, min, max, mad;
} row;

typedef struct side {
    const char *path;
    json_value *json;
    row *rows;
    size_t count;
    int64_t runs;
} side;

/* ---- reading ---- */

/* Names of a row's members, in each of the lists that a report may have. */
typedef struct list_kind {
    const char *list, *stage, *seconds, *min, *max, *mad;
} list_kind;

static const list_kind lists[] = {
    {"stages", "stage", "seconds", "seconds_min", "seconds_max", "seconds_mad"},
    {"kernels", "stage", "seconds", "seconds_min", "seconds_max", "seconds_mad"},
    {"events", "event", "mean_seconds", "min_seconds", "max_seconds", "deviation_seconds"},
};
enum { LISTS = sizeof lists / sizeof *lists };

static bool is_printable(const char *text)
{
    bool control = false;
    for (size_t n; !control && (n = utf8_next(text, &control)) > 0;)
        text += n;
    return !control;
}

static flux1_status take_time(const json_value *object, const char *path, const char *key, double *out,
                              flux1_error *err)
{
    *out = 0;
    TRY(json_require(object, path, key, err));
    TRY(json_get_real(object, path, key, out, err));
    return *out >= 0 && *out <= TIME_MOST
               ? FLUX1_OK
               : error_set(err, FLUX1_ERR_FORMAT, "%s: \"%s\" is %g, it should be from 0 to %g seconds", path, key,
                           *out, TIME_MOST);
}

/* A mean may be rounded. */
static flux1_status check_order(const row *r, const char *path, const list_kind *k, flux1_error *err)
{
    const double rounding = 1e-9 * r->max;
    if (r->min <= r->max && r->seconds >= r->min - rounding && r->seconds <= r->max + rounding)
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_FORMAT, "%s: %s: \"%s\" is %g, it should be from \"%s\", %g, to \"%s\", %g", path,
                     r->stage, k->seconds, r->seconds, k->min, r->min, k->max, r->max);
}

/* Names are printed: control characters would reach the terminal. */
static flux1_status take_name(const json_value *object, const char *path, const char *key, const char **out,
                              flux1_error *err)
{
    TRY(json_get_string(object, path, key, out, err));
    return is_printable(*out)
               ? FLUX1_OK
               : error_set(err, FLUX1_ERR_FORMAT, "%s: a row's \"%s\" has control characters", path, key);
}

static flux1_status take_row(const json_value *object, const char *path, const list_kind *k, row *out, flux1_error *err)
{
    *out = (row){.stage = "", .kernel = "", .shape = "", .type = ""};
    if (!json_is_object(object))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"%s\" has something that is not an object", path, k->list);
    TRY(json_require(object, path, k->stage, err));
    TRY(take_name(object, path, k->stage, &out->stage, err));
    TRY(take_name(object, path, "kernel", &out->kernel, err));
    TRY(take_name(object, path, "shape", &out->shape, err));
    TRY(take_name(object, path, "type", &out->type, err));
    if (!json_object_get(object, k->seconds))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: %s was planned, not timed (its repeats were 0)", path, out->stage);
    TRY(take_time(object, path, k->seconds, &out->seconds, err));
    TRY(take_time(object, path, k->min, &out->min, err));
    TRY(take_time(object, path, k->max, &out->max, err));
    TRY(take_time(object, path, k->mad, &out->mad, err));
    return check_order(out, path, k, err);
}

static const row *find(const side *s, const row *r)
{
    for (size_t i = 0; i < s->count; i++)
        if (!strcmp(s->rows[i].stage, r->stage) && !strcmp(s->rows[i].kernel, r->kernel) &&
            !strcmp(s->rows[i].shape, r->shape) && !strcmp(s->rows[i].type, r->type))
            return &s->rows[i];
    return NULL;
}

static flux1_status take_list(side *s, const list_kind *k, flux1_error *err)
{
    const json_value *list = json_object_get(s->json, k->list);
    if (list && !json_is_array(list) && !json_is_null(list))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"%s\" is not a list", s->path, k->list);
    for (size_t i = 0; i < json_array_size(list); i++) {
        row r;
        if (s->count == ROWS_MOST)
            return error_set(err, FLUX1_ERR_LIMIT, "%s: more than %d rows", s->path, ROWS_MOST);
        TRY(take_row(json_array_get(list, i), s->path, k, &r, err));
        if (find(s, &r))
            return error_set(err, FLUX1_ERR_FORMAT, "%s: a row of %s is there twice", s->path, r.stage);
        if (strcmp(r.kernel, "other") != 0) /* what is left of a stage: not timed itself */
            s->rows[s->count++] = r;
    }
    return FLUX1_OK;
}

static flux1_status side_open(side *s, const char *path, flux1_error *err)
{
    s->path = path;
    TRY(json_parse_file(path, &s->json, err));
    if (!(s->rows = calloc(ROWS_MOST, sizeof *s->rows)))
        return error_oom(err, ROWS_MOST * sizeof *s->rows, "the rows of a report");
    for (int i = 0; i < LISTS; i++)
        TRY(take_list(s, &lists[i], err));
    if (s->count == 0)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: no stages and no events: not a report of flux1 bench --json",
                         path);
    s->runs = 0;
    TRY(json_get_int(s->json, path, "repeats", 0, INT32_MAX, &s->runs, err));
    return json_get_int(s->json, path, "runs", 0, INT32_MAX, &s->runs, err);
}

static void side_close(side *s)
{
    free(s->rows);
    json_free(s->json);
}

/* ---- comparing ---- */

static bool is_equal(const json_value *a, const json_value *b)
{
    if (json_is_string(a) && json_is_string(b))
        return !strcmp(json_string_value(a), json_string_value(b));
    if (json_is_number(a) && json_is_number(b))
        return json_number_value(a) == json_number_value(b);
    return !a && !b;
}

/* What a report says of itself, where that is a number or a text that may be printed. */
static void put_setting(json_writer *w, const char *key, const json_value *v)
{
    if (json_is_number(v) || (json_is_string(v) && is_printable(json_string_value(v))))
        json_put_value(w, key, v);
    else if (v)
        json_put_string(w, key, "?");
    else
        json_put_null(w, key);
}

static void put_setups(json_writer *w, const side *a, const side *b)
{
    static const char *const settings[] = {"version",
                                           "cpu",
                                           "isa",
                                           "model",
                                           "weights",
                                           "dtype",
                                           "threads",
                                           "ranks",
                                           "sp",
                                           "tp",
                                           "steps",
                                           "width",
                                           "height",
                                           "max_sequence_length",
                                           "clip_tokens",
                                           "capture",
                                           "device_weights",
                                           "encoder_device",
                                           "max_memory",
                                           "max_device_memory"};
    json_begin_array(w, "setups_differ");
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        const json_value *x = json_object_get(a->json, settings[i]), *y = json_object_get(b->json, settings[i]);
        if (is_equal(x, y))
            continue;
        json_begin_object(w, NULL);
        json_put_string(w, "what", settings[i]);
        put_setting(w, "a", x);
        put_setting(w, "b", y);
        json_end_object(w);
    }
    json_end_array(w);
}

/* A few runs may scatter less by chance than they do: their ranges must not touch either. */
static const char *verdict(const row *a, const row *b, int64_t runs)
{
    const double difference = fabs(b->seconds - a->seconds);
    const bool apart = a->max < b->min || b->max < a->min;
    if (runs < 2 || a->min == a->max || b->min == b->max)
        return "not known: one run";
    if (difference <= LEAST_DIFFERENCE * a->seconds || difference <= 3 * (a->mad + b->mad) ||
        (runs < RUNS_ENOUGH && !apart))
        return "within noise";
    return b->seconds < a->seconds ? "b is faster" : "b is slower";
}

static void put_name(json_writer *w, const row *r)
{
    json_put_string(w, "stage", r->stage);
    json_put_string(w, "kernel", r->kernel);
    json_put_string(w, "shape", r->shape);
    json_put_string(w, "type", r->type);
}

static void put_row(json_writer *w, const row *a, const row *b, int64_t runs)
{
    json_begin_object(w, NULL);
    put_name(w, a);
    json_put_real(w, "a_seconds", a->seconds);
    json_put_real(w, "b_seconds", b->seconds);
    json_put_real(w, "ratio", b->seconds / a->seconds);
    json_put_real(w, "ratio_min", b->min / a->max);
    json_put_real(w, "ratio_max", b->max / a->min);
    json_put_string(w, "verdict", verdict(a, b, runs));
    json_end_object(w);
}

/* Times of 0 are those of rows that most runs do not have, or that a clock is too coarse for: they have no ratio. */
static bool is_timed(const row *r) { return r->min >= TIME_LEAST && r->seconds >= TIME_LEAST; }

static void put_rows(json_writer *w, const side *a, const side *b)
{
    const int64_t runs = a->runs < b->runs ? a->runs : b->runs;
    json_begin_array(w, "rows");
    for (size_t i = 0; i < a->count; i++) {
        const row *other = find(b, &a->rows[i]);
        if (other && is_timed(&a->rows[i]) && is_timed(other))
            put_row(w, &a->rows[i], other, runs);
    }
    json_end_array(w);
}

/* The other rows that both reports have. */
static void put_not_compared(json_writer *w, const side *a, const side *b)
{
    json_begin_array(w, "not_compared");
    for (size_t i = 0; i < a->count; i++) {
        const row *one = &a->rows[i], *other = find(b, one);
        if (!other || (is_timed(one) && is_timed(other)))
            continue;
        json_begin_object(w, NULL);
        put_name(w, one);
        json_put_real(w, "a_seconds", one->seconds);
        json_put_real(w, "b_seconds", other->seconds);
        json_put_string(w, "why",
                        is_timed(other) ? "a has a time of 0"
                        : is_timed(one) ? "b has a time of 0"
                                        : "both have a time of 0");
        json_end_object(w);
    }
    json_end_array(w);
}

static void put_missing(json_writer *w, const char *key, const side *of, const side *in)
{
    json_begin_array(w, key);
    for (size_t i = 0; i < of->count; i++) {
        const row *r = &of->rows[i];
        if (find(in, r))
            continue;
        json_begin_object(w, NULL);
        put_name(w, r);
        json_put_real(w, "seconds", r->seconds);
        json_end_object(w);
    }
    json_end_array(w);
}

static void put_all(json_writer *w, const side *a, const side *b)
{
    json_begin_object(w, NULL);
    json_put_string(w, "a", a->path);
    json_put_string(w, "b", b->path);
    put_setups(w, a, b);
    put_rows(w, a, b);
    put_not_compared(w, a, b);
    put_missing(w, "only_in_a", a, b);
    put_missing(w, "only_in_b", b, a);
    json_end_object(w);
}

/* Stages of one run have nothing to do with the whole runs of another, nor have one stage's kernels with another's. */
static flux1_status check_common(const side *a, const side *b, flux1_error *err)
{
    for (size_t i = 0; i < a->count; i++)
        if (find(b, &a->rows[i]))
            return FLUX1_OK;
    return error_set(err, FLUX1_ERR_ARGUMENT,
                     "%s and %s have nothing in common that was timed; compare reports of the same stages, or two of "
                     "whole runs",
                     a->path, b->path);
}

static bool is_same_file(const char *a, const char *b)
{
    struct stat one, other;
    return stat(a, &one) == 0 && stat(b, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

flux1_status flux1_bench_compare_json(flux1_context *c, const char *a, const char *b, char **json)
{
    side one = {0}, other = {0};
    json_writer w = {.style = JSON_INDENTED};
    flux1_status st;
    TRY(context_begin(c));
    TRY(context_needs(c, json, "json"));
    *json = NULL;
    TRY(context_needs(c, a, "a"));
    TRY(context_needs(c, b, "b"));
    if (is_same_file(a, b))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "%s: both reports are this file; compare those of two runs, each in a file of its own", b);
    TRY_CLEANUP(side_open(&one, a, &c->error));
    TRY_CLEANUP(side_open(&other, b, &c->error));
    TRY_CLEANUP(check_common(&one, &other, &c->error));
    put_all(&w, &one, &other);
    st = json_take(&w, "the comparison", json, &c->error);
cleanup:
    json_abandon(&w);
    side_close(&one);
    side_close(&other);
    return st;
}
