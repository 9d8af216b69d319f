/* The page, /health and /metrics. */
#include "base/clock.h"
#include "base/limits.h"
#include "server/page.h"
#include "server/routes.h"

#include <inttypes.h>

void page_get(exchange *x) { answer_page(x, page_html, page_html_size, page_policy); }

void health_get(exchange *x)
{
    json_writer w = {.style = JSON_LINE};
    fault f = {0};
    if (!atomic_load(&x->server->ready)) {
        fault_set(&f, FAULT_UNAVAILABLE, NULL, "Loading model");
        answer_fault(x, &f);
        return;
    }
    queue_lock(&x->server->queue);
    const bool stopping = x->server->queue.stopping;
    queue_unlock(&x->server->queue);
    if (stopping) {
        fault_set(&f, FAULT_UNAVAILABLE, NULL, "the server is stopping");
        answer_fault(x, &f);
        return;
    }
    json_begin_object(&w, NULL);
    json_put_string(&w, "status", "ok");
    json_end_object(&w);
    answer_json(x, 200, &w);
}

/* ---- metrics ---- */

static void metric(builder *b, const char *name, const char *kind, const char *help)
{
    builder_format(b, "# HELP flux1_%s %s\n# TYPE flux1_%s %s\n", name, help, name, kind);
}

static void metric_whole(builder *b, const char *name, const char *kind, const char *help, uint64_t value)
{
    metric(b, name, kind, help);
    builder_format(b, "flux1_%s %" PRIu64 "\n", name, value);
}

static void add_jobs(builder *b, const queue *q)
{
    metric_whole(b, "jobs_waiting", "gauge", "Jobs in the queue.", (uint64_t)q->waiting);
    metric_whole(b, "jobs_running", "gauge", "Jobs in work.", queue_running(q));
    metric_whole(b, "queue_limit", "gauge", "Jobs that may wait.", (uint64_t)q->limit);
    metric_whole(b, "pictures_total", "counter", "Pictures made.", q->pictures);
    metric(b, "jobs_total", "counter", "Jobs that have ended, by how.");
    for (int state = JOB_DONE; state <= JOB_INTERRUPTED; state++)
        builder_format(b, "flux1_jobs_total{state=\"%s\"} %" PRIu64 "\n", job_state_name((job_state)state),
                       q->ended[state]);
}

static void add_work(builder *b, const server_counts *counts)
{
    static const char *const stages[STAGES] = {"load", "text", "denoise", "decode"};
    char number[JSON_NUMBER_ROOM];
    metric(b, "requests_total", "counter", "HTTP requests, by the first digit of the answer's status.");
    for (int i = 1; i < 6; i++)
        builder_format(b, "flux1_requests_total{status=\"%dxx\"} %" PRIu64 "\n", i, counts->requests[i]);
    metric_whole(b, "requests_refused_total", "counter", "Requests for which the queue was full.", counts->refused);
    metric_whole(b, "prompts_encoded_ahead_total", "counter", "Prompts encoded while another job ran.",
                 counts->encoded_ahead);
    metric_whole(b, "jobs_together_total", "counter", "Jobs that ran together with others.", counts->together);
    metric_whole(b, "steps_total", "counter", "Denoising steps; of pictures that are computed together once.",
                 counts->steps);
    metric(b, "stage_seconds_total", "counter", "Seconds of work, by stage.");
    for (int i = 0; i < STAGES; i++)
        builder_format(b, "flux1_stage_seconds_total{stage=\"%s\"} %s\n", stages[i],
                       json_real_text(counts->seconds[i], number));
}

void metrics_get(exchange *x)
{
    server *s = x->server;
    builder b = {0};
    char *text = NULL;
    queue_lock(&s->queue);
    add_jobs(&b, &s->queue);
    add_work(&b, &s->counts);
    queue_unlock(&s->queue);
    metric_whole(&b, "resident_bytes", "gauge", "Memory of the process, mapped files' pages among it.",
                 limits_resident());
    metric_whole(&b, "uptime_seconds", "gauge", "Seconds since the start.", (uint64_t)(clock_seconds() - s->opened));
    metric_whole(&b, "ready", "gauge", "1: the model is open.", (uint64_t)atomic_load(&s->ready));
    builder_take(&b, "the metrics", &text, NULL);
    answer_text(x, 200, "text/plain; version=0.0.4; charset=utf-8", text);
}
