#include "tools/kernels.h"

#include "tools/spread.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KERNELS_MOST = 256 };

/* One operation; `of` has its name and, where it computes, its shape. */
typedef struct kernel {
    span of;
    int64_t calls; /* of one run */
    double flops, bytes;
    double *seconds;   /* [runs], of all ranks together */
    double *processor; /* [runs] */
    spread took;       /* of a rank, once all runs are done */
} kernel;

struct kernel_table {
    int ranks, runs, run, count;
    bool partial; /* some calls are missing */
    double *seconds;
    kernel kernel[KERNELS_MOST];
    size_t dropped;
    size_t begin[]; /* [ranks]: spans that were there before the run */
};

kernel_table *kernels_create(int ranks, int runs)
{
    kernel_table *t = calloc(1, sizeof *t + (size_t)ranks * sizeof t->begin[0]);
    if (!t)
        return NULL;
    t->seconds = calloc((size_t)2 * KERNELS_MOST * (size_t)runs, sizeof *t->seconds);
    t->ranks = ranks;
    t->runs = runs;
    for (int i = 0; t->seconds && i < KERNELS_MOST; i++) {
        t->kernel[i].seconds = t->seconds + (size_t)(2 * i) * (size_t)runs;
        t->kernel[i].processor = t->kernel[i].seconds + runs;
    }
    if (t->seconds)
        return t;
    free(t);
    return NULL;
}

void kernels_destroy(kernel_table *t)
{
    if (t)
        free(t->seconds);
    free(t);
}

static size_t dropped_of(const kernel_table *t, const profile *p)
{
    size_t n = 0;
    for (int r = 0; r < t->ranks; r++)
        n += profile_dropped(p, r);
    return n;
}

void kernels_begin(kernel_table *t, const profile *p)
{
    for (int r = 0; r < t->ranks; r++)
        profile_spans(p, r, &t->begin[r]);
    t->dropped = dropped_of(t, p);
    for (int i = 0; i < t->count; i++) {
        t->kernel[i].calls = 0;
        t->kernel[i].flops = t->kernel[i].bytes = 0;
    }
}

/* Same rows in the report. */
static bool is_same(const span *a, const span *b)
{
    return !strcmp(a->name, b->name) && a->int8 == b->int8 && a->batch == b->batch && a->m == b->m && a->n == b->n &&
           a->k == b->k && a->heads == b->heads;
}

static kernel *find(kernel_table *t, const span *s)
{
    span of = {.int8 = s->int8};
    memcpy(of.name, s->name, sizeof of.name);
    if (s->flops > 0)
        of.batch = s->batch, of.m = s->m, of.n = s->n, of.k = s->k, of.heads = s->heads;
    int i = 0;
    while (i < t->count && !is_same(&t->kernel[i].of, &of))
        i++;
    if (i == KERNELS_MOST)
        return NULL;
    if (i == t->count)
        t->kernel[t->count++].of = of;
    return &t->kernel[i];
}

static void add(kernel_table *t, const span *s)
{
    if (s->kind != SPAN_CALL && s->kind != SPAN_EXCHANGE)
        return;
    kernel *k = find(t, s);
    if (!k) {
        t->partial = true;
        return;
    }
    k->calls++;
    k->flops += s->flops;
    k->bytes += (double)(s->bytes_in + s->bytes_out + s->bytes_weights + s->bytes_moved);
    k->processor[t->run] += s->processor;
    k->seconds[t->run] += s->kind == SPAN_CALL ? s->end - s->begin : s->exposed;
}

void kernels_end(kernel_table *t, const profile *p)
{
    for (int r = 0; r < t->ranks; r++) {
        size_t count;
        const span *s = profile_spans(p, r, &count);
        for (size_t i = t->begin[r]; i < count; i++)
            add(t, &s[i]);
    }
    t->partial = t->partial || dropped_of(t, p) != t->dropped;
    t->run++;
}

static double peak_of(const kernel *k, const peaks *p) { return k->of.int8 ? p->int8 : p->exact; }

double kernels_at_peak(const kernel_table *t, const peaks *p)
{
    double seconds = 0;
    for (int i = 0; i < t->count; i++) {
        if (t->kernel[i].flops > 0 && peak_of(&t->kernel[i], p) <= 0)
            return 0;
        if (t->kernel[i].flops > 0)
            seconds += t->kernel[i].flops / peak_of(&t->kernel[i], p);
    }
    return t->partial ? 0 : seconds;
}

/* ---- the report ---- */

static int longest_first(const void *a, const void *b)
{
    const double x = ((const kernel *)a)->took.median, y = ((const kernel *)b)->took.median;
    return (x < y) - (x > y);
}

static void put_shape(json_writer *w, const span *s)
{
    char shape[120] = "", batch[32] = "", heads[32] = "";
    if (s->batch > 1)
        snprintf(batch, sizeof batch, "%" PRId64 " * ", s->batch);
    if (s->heads > 0)
        snprintf(heads, sizeof heads, " * %" PRId64, s->heads);
    if (s->m > 0)
        snprintf(shape, sizeof shape, "%s%" PRId64 "x%" PRId64 "x%" PRId64 "%s", batch, s->m, s->n, s->k, heads);
    json_put_string(w, "shape", shape);
}

static void put_real_or_null(json_writer *w, const char *key, double value)
{
    if (value > 0)
        json_put_real(w, key, value);
    else
        json_put_null(w, key);
}

/* The processor's time is of all threads of the process, so of one rank's calls where there is one rank. */
static void put_row(json_writer *w, const kernel_table *t, const kernel *k, const char *stage, double of_stage,
                    const peaks *p)
{
    const double peak = peak_of(k, p);
    const spread s = k->took;
    const double processor = t->ranks == 1 && k->processor ? spread_of(k->processor, t->run).median : 0;
    json_begin_object(w, NULL);
    json_put_string(w, "stage", stage);
    json_put_string(w, "kernel", k->of.name);
    put_shape(w, &k->of);
    json_put_string(w, "type", k->flops > 0 ? peaks_type(p, k->of.int8) : "");
    json_put_integer(w, "calls", k->calls);
    json_put_real(w, "seconds", s.median);
    json_put_real(w, "seconds_min", s.min);
    json_put_real(w, "seconds_max", s.max);
    json_put_real(w, "seconds_mad", s.mad);
    put_real_or_null(w, "processor_seconds", processor);
    json_put_real(w, "share_of_stage", of_stage > 0 ? s.median / of_stage : 0.0);
    put_real_or_null(w, "flops", k->flops);
    put_real_or_null(w, "flops_per_second", k->flops / s.median);
    put_real_or_null(w, "share_of_peak", peak > 0 ? k->flops / s.median / peak : 0);
    put_real_or_null(w, "processor_share_of_peak",
                     peak > 0 && processor > 0 ? k->flops * p->threads / processor / peak : 0);
    put_real_or_null(w, "bytes_per_second", k->bytes / s.median);
    json_end_object(w);
}

void kernels_put(kernel_table *t, json_writer *w, const char *stage, double seconds, const peaks *p)
{
    double known = 0;
    if (t->partial || t->run == 0)
        return;
    for (int i = 0; i < t->count; i++) {
        kernel *k = &t->kernel[i];
        for (int r = 0; r < t->run; r++)
            k->seconds[r] /= t->ranks;
        k->took = spread_of(k->seconds, t->run);
        known += k->took.median;
    }
    qsort(t->kernel, (size_t)t->count, sizeof t->kernel[0], longest_first);
    for (int i = 0; i < t->count; i++)
        put_row(w, t, &t->kernel[i], stage, seconds, p);
    const double rest = seconds > known ? seconds - known : 0;
    const kernel other = {.of = {.name = "other"}, .took = {.median = rest, .min = rest, .max = rest}};
    put_row(w, t, &other, stage, seconds, p);
}
