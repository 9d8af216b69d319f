#include "cli/request.h"

#include "base/json_write.h"
#include "cli/answer.h"
#include "cli/console.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/taken.h"

#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* One picture of a request. */
typedef struct picture {
    char *name;
    uint64_t seed;
    int width, height;
} picture;

typedef struct request {
    session *s;
    const options *opt;
    request_hooks hooks;
    char *prompt;
    flux1_generate_params params;
    flux1_adapter_use adapters[LORA_MAX];
    picture *pictures;
    int failure; /* exit status of a picture that could not be written, after its error; EXIT_DONE: none */
    progress progress;
    double began, write_seconds;
    bool preview_failed;
} request;

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
    print_failure(err->status, "%s", err->message);
    return err->status == FLUX1_ERR_ARGUMENT ? EXIT_USAGE : EXIT_FAILED;
}

/* Everything that can be refused before a model is opened. */
static int prepare(request *r)
{
    const option_value *v = r->opt->values;
    const char *output = v[OPT_OUTPUT].text;
    flux1_error err = {0};
    size_t bytes;
    int status = read_prompt(r->opt, &r->prompt, &bytes);
    if (status != EXIT_DONE)
        return status;
    if (v[OPT_PREVIEW_EVERY].given && !v[OPT_PREVIEW].given) {
        print_error("--preview-every needs --preview FILE");
        return EXIT_USAGE;
    }
    if (output && output_check_format(output, &err) != FLUX1_OK)
        return usage(&err);
    fill_request(r->opt, &r->params);
    r->params.prompt = r->prompt;
    r->params.seed = v[OPT_SEED].given ? v[OPT_SEED].seed : random_seed();
    if (r->params.seed > UINT64_MAX - (uint64_t)(r->params.count - 1)) {
        print_error("--seed %" PRIu64 " --count %d: the last seed would exceed 18446744073709551615", r->params.seed,
                    r->params.count);
        return EXIT_USAGE;
    }
    if (v[OPT_PREVIEW].given)
        r->params.preview_every = v[OPT_PREVIEW_EVERY].given ? (int)v[OPT_PREVIEW_EVERY].whole : 1;
    return EXIT_DONE;
}

/* Names the files and makes sure that they can be written, before minutes of work go into them. */
static int prepare_files(request *r)
{
    const option_value *v = r->opt->values;
    flux1_error err = {0};
    if (!(r->pictures = calloc((size_t)r->params.count, sizeof *r->pictures))) {
        print_failure(FLUX1_ERR_MEMORY, "out of memory for %d file names", r->params.count);
        return EXIT_FAILED;
    }
    for (int i = 0; i < r->params.count; i++) {
        char *name = output_name(v[OPT_OUTPUT].text, r->prompt, r->params.seed + (uint64_t)i, i, r->params.count);
        if (!(r->pictures[i].name = name)) {
            print_failure(FLUX1_ERR_MEMORY, "out of memory for a file name");
            return EXIT_FAILED;
        }
        const long writer = v[OPT_OUTPUT].given && r->hooks.taken ? taken_by(r->hooks.taken, name) : 0;
        if (writer) {
            print_error("%s was written by line %ld; give each line an output of its own", name, writer);
            return EXIT_USAGE;
        }
    }
    const char *first = r->pictures[0].name, *last = r->pictures[r->params.count - 1].name;
    if (output_check_writable(first, &err) != FLUX1_OK || output_check_writable(last, &err) != FLUX1_OK ||
        (v[OPT_DUMP].given && output_check_writable(v[OPT_DUMP].text, &err) != FLUX1_OK) ||
        (v[OPT_PREVIEW].given && output_check_writable(v[OPT_PREVIEW].text, &err) != FLUX1_OK))
        return usage(&err);
    return EXIT_DONE;
}

static int on_progress(void *user, const flux1_progress *now)
{
    request *r = user;
    progress_update(&r->progress, now);
    if (r->hooks.progress)
        r->hooks.progress(r->hooks.user, now);
    if (now->preview && r->s->writer && !r->preview_failed) {
        flux1_status st = flux1_image_write_png(r->s->writer, now->preview, r->s->model, &r->params,
                                                r->opt->values[OPT_PREVIEW].text);
        if (st != FLUX1_OK) {
            r->preview_failed = true; /* the picture itself may still come out */
            print_note("warning: previews stop: %s", flux1_context_message(r->s->writer));
        }
    }
    return was_interrupted();
}

/* Writes the picture and prints its name. */
static int write_picture(request *r, const flux1_image *image)
{
    picture *p = &r->pictures[image->index];
    if (!r->opt->values[OPT_OUTPUT].given) { /* the name may have been taken meanwhile */
        char *name = output_name(NULL, r->prompt, image->seed, image->index, r->params.count);
        if (!name)
            return report(NULL, FLUX1_ERR_MEMORY);
        free(p->name);
        p->name = name;
    }
    flux1_status st = flux1_image_write_png(r->s->writer, image, r->s->model, &r->params, p->name);
    if (st != FLUX1_OK)
        return report(r->s->writer, st);
    p->seed = image->seed;
    p->width = image->width;
    p->height = image->height;
    if (r->hooks.taken)
        taken_add(r->hooks.taken, p->name, r->hooks.line);
    if (r->opt->values[OPT_JSON].given || r->hooks.answer)
        return EXIT_DONE;
    console_wipe();
    puts(p->name);
    return finish_output(EXIT_DONE);
}

/* A finished picture leaves at once: those behind it may take long, or fail. */
static int on_image(void *user, const flux1_image *image)
{
    request *r = user;
    double start = monotonic_seconds();
    if (was_interrupted())
        return 1;
    r->failure = write_picture(r, image);
    r->write_seconds += monotonic_seconds() - start;
    return r->failure != EXIT_DONE;
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
        if (p->width == 0) /* not written */
            continue;
        json_begin_object(&w, NULL);
        json_put_string(&w, "file", p->name);
        json_put_unsigned(&w, "seed", p->seed);
        json_put_integer(&w, "width", p->width);
        json_put_integer(&w, "height", p->height);
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

static void print_results(const request *r, int status)
{
    double total = monotonic_seconds() - r->began;
    if (r->hooks.answer || (status == EXIT_DONE && r->opt->values[OPT_JSON].given))
        print_json(r, total);
    if (status != EXIT_DONE)
        return;
    r->s->load_seconds = 0;
    print_note("done in %.1f s, seed %" PRIu64 "%s", total, r->params.seed,
               r->opt->values[OPT_SEED].given ? "" : " (random; repeat it with --seed)");
}

static void free_request(request *r)
{
    for (int i = 0; r->pictures && i < r->params.count; i++)
        free(r->pictures[i].name);
    free(r->pictures);
    free(r->prompt);
}

int request_run(session *s, const options *opt, const request_hooks *hooks)
{
    request r = {.s = s, .opt = opt, .began = monotonic_seconds()};
    if (hooks)
        r.hooks = *hooks;
    int status = prepare(&r);
    if (status == EXIT_DONE)
        status = session_open(s);
    if (status == EXIT_DONE)
        status = prepare_files(&r);
    if (status == EXIT_DONE)
        status = session_adapters(s, opt, r.adapters);
    if (status == EXIT_DONE) {
        progress_begin(&r.progress, opt->values[OPT_QUIET].given);
        r.params.adapters = r.adapters;
        r.params.adapter_count = opt->loras;
        r.params.text = r.hooks.text;
        r.params.negative_text = r.hooks.negative_text;
        r.params.progress = on_progress;
        r.params.progress_user = &r;
        r.params.image = on_image;
        r.params.image_user = &r;
        r.params.cancel = signal_token();
        flux1_status st =
            was_interrupted() ? FLUX1_ERR_CANCELLED : flux1_generate(s->context, s->model, &r.params, NULL);
        progress_end(&r.progress, st == FLUX1_OK);
        status = r.failure != EXIT_DONE ? r.failure : report(s->context, st);
    }
    print_results(&r, status);
    free_request(&r);
    return status;
}
