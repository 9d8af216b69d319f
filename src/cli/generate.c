/* flux1 generate: a prompt becomes pictures. */
#include "cli/generate.h"

#include "base/json_write.h"
#include "cli/console.h"
#include "cli/output.h"
#include "cli/progress.h"

#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

typedef struct run {
    session *s;
    const options *opt;
    request_company company;
    char *prompt;
    flux1_generate_params params;
    char **names; /* one a picture */
    flux1_image *images;
    progress progress;
    double began, write_seconds;
    bool preview_failed;
} run;

/* 32 bits are enough to choose from, and short enough to be typed again. */
static uint64_t random_seed(void)
{
    uint32_t seed = 0;
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    bool good = fd >= 0 && read(fd, &seed, sizeof seed) == (ssize_t)sizeof seed;
    if (fd >= 0)
        close(fd);
    if (!good) {
        struct timespec now = {0};
        clock_gettime(CLOCK_REALTIME, &now);
        seed = (uint32_t)now.tv_nsec ^ (uint32_t)now.tv_sec ^ (uint32_t)getpid() << 16;
    }
    return seed;
}

static int usage(const flux1_error *err)
{
    complain("%s", err->message);
    return err->status == FLUX1_ERR_ARGUMENT ? EXIT_USAGE : EXIT_FAILED;
}

/* Everything that can be refused before a model is opened. */
static int prepare(run *r)
{
    const option_value *v = r->opt->values;
    const char *output = v[OPT_OUTPUT].text;
    flux1_error err = {0};
    size_t bytes;
    int status = read_prompt(r->opt, &r->prompt, &bytes);
    if (status != EXIT_DONE)
        return status;
    if (v[OPT_PREVIEW_EVERY].given && !v[OPT_PREVIEW].given) {
        complain("--preview-every %s: needs --preview FILE as well", v[OPT_PREVIEW_EVERY].text);
        return EXIT_USAGE;
    }
    if (output && output_check_format(output, &err) != FLUX1_OK)
        return usage(&err);
    fill_request(r->opt, &r->params);
    r->params.prompt = r->prompt;
    r->params.seed = v[OPT_SEED].given ? v[OPT_SEED].seed : random_seed();
    if (r->params.seed > UINT64_MAX - (uint64_t)(r->params.count - 1)) {
        complain("--seed %" PRIu64 " --count %d: the last picture's seed would be beyond 18446744073709551615",
                 r->params.seed, r->params.count);
        return EXIT_USAGE;
    }
    if (v[OPT_PREVIEW].given)
        r->params.preview_every = v[OPT_PREVIEW_EVERY].given ? (int)v[OPT_PREVIEW_EVERY].whole : 1;
    return EXIT_DONE;
}

/* Names the files and makes sure that they can be written, before minutes of work go into them. */
static int prepare_files(run *r)
{
    const option_value *v = r->opt->values;
    flux1_error err = {0};
    if (!(r->names = calloc((size_t)r->params.count, sizeof *r->names))) {
        complain("out of memory for %d file names", r->params.count);
        return EXIT_FAILED;
    }
    for (int i = 0; i < r->params.count; i++) {
        r->names[i] = output_name(v[OPT_OUTPUT].text, r->prompt, r->params.seed + (uint64_t)i, i, r->params.count);
        if (!r->names[i]) {
            complain("out of memory for a file name");
            return EXIT_FAILED;
        }
    }
    const char *last = r->names[r->params.count - 1];
    if (output_check_writable(r->names[0], &err) != FLUX1_OK || output_check_writable(last, &err) != FLUX1_OK ||
        (v[OPT_DUMP].given && output_check_writable(v[OPT_DUMP].text, &err) != FLUX1_OK) ||
        (v[OPT_PREVIEW].given && output_check_writable(v[OPT_PREVIEW].text, &err) != FLUX1_OK))
        return usage(&err);
    return EXIT_DONE;
}

static int on_progress(void *user, const flux1_progress *now)
{
    run *r = user;
    progress_update(&r->progress, now);
    if (r->company.reached)
        r->company.reached(r->company.user, now);
    if (now->preview && r->s->writer && !r->preview_failed) {
        flux1_status st = flux1_image_write_png(r->s->writer, now->preview, r->s->model, &r->params,
                                                r->opt->values[OPT_PREVIEW].text);
        if (st != FLUX1_OK) {
            r->preview_failed = true; /* the picture itself may still come out */
            note("warning: no more previews: %s", flux1_context_message(r->s->writer));
        }
    }
    return was_interrupted();
}

static int open_once(session *s)
{
    const char *folder = model_folder(s->opt);
    if (!folder)
        return EXIT_USAGE;
    int status = open_context(s->opt, &s->context);
    if (status != EXIT_DONE)
        return status;
    watch_signals(s->context);
    double start = monotonic_seconds();
    flux1_status st = flux1_model_open(s->context, folder, &s->model);
    if (st != FLUX1_OK)
        return report(s->context, st);
    s->load_seconds = monotonic_seconds() - start;
    if (s->opt->values[OPT_PREVIEW].given) {
        flux1_context_params params;
        flux1_context_params_defaults(&params);
        params.threads = 1;
        if ((st = flux1_context_create(&params, &s->writer)) != FLUX1_OK)
            return report(s->writer, st);
    }
    return EXIT_DONE;
}

static int session_open(session *s)
{
    int status = s->model ? EXIT_DONE : open_once(s);
    s->failed = status != EXIT_DONE;
    return status;
}

void session_close(session *s)
{
    watch_signals(NULL);
    flux1_model_close(s->model);
    flux1_context_destroy(s->writer);
    flux1_context_destroy(s->context);
}

static int write_images(run *r)
{
    const char *output = r->opt->values[OPT_OUTPUT].text;
    double start = monotonic_seconds();
    for (int i = 0; i < r->params.count; i++) {
        if (was_interrupted())
            return report(r->s->context, FLUX1_ERR_CANCELLED);
        if (!output) { /* someone may have taken the name meanwhile */
            char *name = output_name(NULL, r->prompt, r->images[i].seed, i, r->params.count);
            free(r->names[i]);
            if (!(r->names[i] = name))
                return report(NULL, FLUX1_ERR_MEMORY);
        }
        flux1_status st = flux1_image_write_png(r->s->context, &r->images[i], r->s->model, &r->params, r->names[i]);
        if (st != FLUX1_OK)
            return report(r->s->context, st);
    }
    r->write_seconds = monotonic_seconds() - start;
    return EXIT_DONE;
}

/* Three decimals are enough for what was measured by the clock. */
static void put_seconds(json_writer *w, const char *key, double seconds)
{
    json_put_real(w, key, round(seconds * 1000) / 1000);
}

static void print_json(const run *r, double total)
{
    json_writer w = {.style = JSON_LINE};
    struct rusage used = {0};
    char *text = NULL;
    json_begin_object(&w, NULL);
    json_begin_array(&w, "images");
    for (int i = 0; i < r->params.count; i++) {
        const flux1_image *image = &r->images[i];
        json_begin_object(&w, NULL);
        json_put_string(&w, "file", r->names[i]);
        json_put_unsigned(&w, "seed", image->seed);
        json_put_integer(&w, "width", image->width);
        json_put_integer(&w, "height", image->height);
        json_end_object(&w);
    }
    json_end_array(&w);
    json_begin_object(&w, "seconds");
    for (int s = 0; s < STAGES; s++)
        put_seconds(&w, progress_stage_keys[s],
                    r->progress.seconds[s] + (s == FLUX1_STAGE_LOAD ? r->s->load_seconds : 0));
    put_seconds(&w, "write", r->write_seconds);
    put_seconds(&w, "total", total);
    json_end_object(&w);
    getrusage(RUSAGE_SELF, &used);
    json_put_integer(&w, "peak_rss_bytes", (int64_t)used.ru_maxrss * 1024);
    json_end_object(&w);
    if (json_take(&w, "the result", &text, NULL) == FLUX1_OK)
        puts(text);
    free(text);
}

static void print_results(const run *r)
{
    double total = monotonic_seconds() - r->began;
    if (r->opt->values[OPT_JSON].given)
        print_json(r, total);
    else
        for (int i = 0; i < r->params.count; i++)
            puts(r->names[i]);
    r->s->load_seconds = 0;
    note("done in %.1f s, seed %" PRIu64 "%s", total, r->params.seed,
         r->opt->values[OPT_SEED].given ? "" : " (random: repeat with --seed)");
}

static void free_run(run *r)
{
    if (r->images)
        flux1_images_free(r->images, r->params.count);
    for (int i = 0; r->names && i < r->params.count; i++)
        free(r->names[i]);
    free(r->names);
    free(r->prompt);
}

int generate_request(session *s, const options *opt, const request_company *company)
{
    run r = {.s = s, .opt = opt, .began = monotonic_seconds()};
    int status = prepare(&r);
    if (company)
        r.company = *company;
    if (status == EXIT_DONE)
        status = session_open(s);
    if (status == EXIT_DONE)
        status = prepare_files(&r);
    if (status == EXIT_DONE) {
        progress_begin(&r.progress, opt->values[OPT_QUIET].given);
        r.params.text = r.company.text;
        r.params.progress = on_progress;
        r.params.progress_user = &r;
        flux1_status st =
            was_interrupted() ? FLUX1_ERR_CANCELLED : flux1_generate(s->context, s->model, &r.params, &r.images);
        progress_end(&r.progress, st == FLUX1_OK);
        status = report(s->context, st);
    }
    if (status == EXIT_DONE)
        status = write_images(&r);
    if (status == EXIT_DONE)
        print_results(&r);
    free_run(&r);
    return status;
}

int generate_run(const options *opt)
{
    session s = {.opt = opt};
    catch_signals();
    if (opt->values[OPT_JSONL].given)
        return batch_run(opt);
    int status = generate_request(&s, opt, NULL);
    if (status == EXIT_DONE)
        status = finish_output(status);
    session_close(&s);
    return status;
}
