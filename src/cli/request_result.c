#include "cli/request_state.h"

#include "base/clock.h"
#include "base/json_write.h"
#include "base/units.h"
#include "cli/answer.h"
#include "cli/console.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static void put_latents(json_writer *w, const request *r)
{
    int kept = 0;
    for (int i = 0; r->pictures && i < r->params.count; i++)
        if (r->pictures[i].latents && kept++ == 0)
            json_begin_array(w, "latents");
    for (int i = 0; kept && i < r->params.count; i++)
        if (r->pictures[i].latents)
            json_put_string(w, NULL, r->pictures[i].latents);
    if (kept)
        json_end_array(w);
}

/* Of equal pictures there is no PSNR. */
static void put_distance(json_writer *w, const step_distance *d)
{
    if (!d->known)
        return;
    json_begin_object(w, "from_full_run");
    json_put_real(w, "relative_l2", d->relative_l2);
    if (isfinite(d->psnr))
        json_put_real(w, "psnr_db", d->psnr);
    else
        json_put_null(w, "psnr_db");
    json_end_object(w);
}

/* Three decimals are enough for what was measured by the clock. */
static void put_seconds(json_writer *w, const char *key, double seconds)
{
    json_put_real(w, key, round(seconds * 1000) / 1000);
}

static void print_json(const request *r, double total)
{
    json_writer w = {.style = JSON_LINE};
    struct rusage used = {0};
    char *text = NULL;
    json_begin_object(&w, NULL);
    if (r->hooks.answer)
        answer_put(&w, r->hooks.answer);
    json_begin_array(&w, "images");
    for (int i = 0; r->pictures && i < r->params.count; i++) {
        const picture *p = &r->pictures[i];
        if (!p->written)
            continue;
        json_begin_object(&w, NULL);
        json_put_string(&w, "file", p->name);
        json_put_unsigned(&w, "seed", p->seed);
        json_put_integer(&w, "width", p->width);
        json_put_integer(&w, "height", p->height);
        if (r->params.step_cache > 0)
            json_put_integer(&w, "steps_reused", p->steps_reused);
        put_distance(&w, &p->distance);
        json_end_object(&w);
    }
    json_end_array(&w);
    put_latents(&w, r);
    json_begin_object(&w, "seconds");
    for (int s = 0; s < STAGES; s++)
        put_seconds(&w, progress_stage_keys[s],
                    r->progress.seconds[s] + (s == FLUX1_STAGE_LOAD ? r->s->load_seconds : 0));
    put_seconds(&w, "write", r->write_seconds);
    put_seconds(&w, "total", total);
    json_end_object(&w);
    if (console_warning(0))
        json_begin_array(&w, "warnings");
    for (size_t i = 0; console_warning(i); i++)
        json_put_string(&w, NULL, console_warning(i));
    if (console_warning(0))
        json_end_array(&w);
    getrusage(RUSAGE_SELF, &used);
    json_put_integer(&w, "peak_rss_bytes", (int64_t)used.ru_maxrss * 1024);
    json_end_object(&w);
    if (json_take(&w, "the result", &text, NULL) == FLUX1_OK)
        puts(text);
    free(text);
}

/* What the prompts of all requests so far took. */
static void tell_texts(const request *r)
{
    char bytes[BYTES_TEXT];
    flux1_context_info i = {.size = sizeof i};
    if (r->opt->values[OPT_VERBOSE].given && flux1_context_get_info(r->s->context, &i) == FLUX1_OK)
        print_note("prompts: %" PRIu64 " encoded, %" PRIu64 " found encoded in memory (%s)", i.texts_encoded,
                   i.texts_reused, format_bytes(bytes, sizeof bytes, (double)i.text_bytes));
}

void request_print_results(const request *r, int status)
{
    double total = clock_seconds() - r->began;
    if (r->hooks.answer || (status == EXIT_DONE && r->opt->values[OPT_JSON].given))
        print_json(r, total);
    if (status != EXIT_DONE)
        return;
    r->s->load_seconds = 0;
    if (r->hooks.latents) {
        print_note("done in %.1f s", total);
        return;
    }
    tell_texts(r);
    print_note("done in %.1f s, seed %" PRIu64 "%s", total, r->params.seed,
               r->opt->values[OPT_SEED].given ? "" : " (random; repeat it with --seed)");
}

void request_print_finished(const request *r)
{
    int written = 0;
    for (int i = 0; r->pictures && i < r->params.count; i++)
        written += r->pictures[i].written;
    if (written > 0 && r->opt->values[OPT_JSON].given && !r->hooks.answer)
        print_json(r, clock_seconds() - r->began);
    if (written > 0)
        print_note("%d of %d pictures were finished before that and are kept", written, r->params.count);
}
