#include "cli/request.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json_write.h"
#include "base/lora_tag.h"
#include "base/units.h"
#include "cli/answer.h"
#include "cli/console.h"
#include "cli/distinct.h"
#include "cli/from.h"
#include "cli/latents.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/step_check.h"
#include "cli/taken.h"
#include "flux1_tools.h"

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
    int width, height, steps_reused;
    bool written;
    char *latents; /* file of its latents, where it could not be decoded */
} picture;

typedef struct request {
    session *s;
    const options *opt;
    request_hooks hooks;
    char *prompt;
    output_names names, previews;
    flux1_write_params how, preview_how;
    flux1_generate_params params;
    flux1_adapter_use adapters[LORA_MAX];
    picture *pictures;
    int failure; /* exit status of a picture that could not be written, after its error; EXIT_DONE: none */
    progress progress;
    step_check check;
    double began, write_seconds;
    bool preview_failed;
    flux1_latents_file *initial; /* --latents */
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

/* How pictures are named and written. */
static int prepare_names(request *r)
{
    const option_value *v = r->opt->values;
    flux1_error err = {0};
    r->names = (output_names){v[OPT_OUTPUT].text, v[OPT_OUTPUT_DIR].text, r->prompt, FLUX1_FORMAT_AUTO,
                              r->params.count,    r->hooks.before,        NULL};
    if (output_names_check(&r->names, v[OPT_FORMAT].text, &err) != FLUX1_OK)
        return usage(&err);
    if (output_is_stream(&r->names) && (v[OPT_JSON].given || v[OPT_JSONL].given)) {
        print_error("--output - cannot be combined with --%s: both write to standard output",
                    v[OPT_JSON].given ? "json" : "jsonl");
        return EXIT_USAGE;
    }
    if (v[OPT_QUALITY].given && r->names.format == FLUX1_FORMAT_PNG) {
        print_error("--quality is for JPEG and WebP; PNG has no quality");
        return EXIT_USAGE;
    }
    flux1_write_params_defaults(&r->how);
    r->how.format = r->names.format;
    r->how.quality = (int)v[OPT_QUALITY].whole;
    r->how.plain = v[OPT_NO_METADATA].given;
    return EXIT_DONE;
}

static int prepare_seed(request *r)
{
    const option_value *seed = &r->opt->values[OPT_SEED];
    r->params.seed = seed->given ? seed->seed : random_seed();
    if (r->params.seed <= UINT64_MAX - (uint64_t)(r->params.count - 1))
        return EXIT_DONE;
    print_error("--seed %" PRIu64 " --count %d: the last seed would exceed 18446744073709551615", r->params.seed,
                r->params.count);
    return EXIT_USAGE;
}

/* The prompt's words for a name, where a file of latents has none: its own. */
static char *name_of_file(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    return strndup(name, strcspn(name, "."));
}

/* Prompt and seed of latents that are done; both count for names alone. */
static int take_latents(request *r)
{
    const int64_t pictures = flux1_latents_of(r->hooks.latents)->shape[0];
    if (pictures > (int64_t)option_rows[OPT_COUNT].highest) {
        print_error("%s: latents of %" PRId64 " pictures: at most %.0f are decoded at a time", r->opt->operand,
                    pictures, option_rows[OPT_COUNT].highest);
        return EXIT_FAILED;
    }
    json_value *root = latents_request(r->hooks.latents);
    const char *prompt = json_string_value(json_object_get(root, "prompt"));
    const json_value *seed = json_object_get(root, "seed");
    r->prompt = prompt ? strdup(prompt) : name_of_file(r->opt->operand);
    r->params.count = (int)pictures;
    r->params.seed = json_is(seed, JSON_UNSIGNED)                  ? seed->large
                     : json_is_integer(seed) && seed->integer >= 0 ? (uint64_t)seed->integer
                                                                   : 0;
    if (r->params.seed > UINT64_MAX - (uint64_t)r->params.count)
        r->params.seed = 0;
    json_free(root);
    return r->prompt ? EXIT_DONE : report(NULL, FLUX1_ERR_MEMORY);
}

static int open_initial(request *r)
{
    const option_value *v = r->opt->values;
    if (!v[OPT_LATENTS].given)
        return EXIT_DONE;
    const int status = latents_open(r->opt, v[OPT_LATENTS].text, true, &r->initial);
    if (status != EXIT_DONE)
        return status;
    r->params.latents = flux1_latents_of(r->initial);
    if (!v[OPT_COUNT].given && r->params.latents->shape[0] <= option_rows[OPT_COUNT].highest)
        r->params.count = (int)r->params.latents->shape[0];
    return EXIT_DONE;
}

/* The same of previews. */
static int prepare_previews(request *r)
{
    const option_value *v = r->opt->values;
    flux1_error err = {0};
    if (!v[OPT_PREVIEW].given)
        return EXIT_DONE;
    r->params.preview_every = v[OPT_PREVIEW_EVERY].given ? (int)v[OPT_PREVIEW_EVERY].whole : 1;
    if (v[OPT_PREVIEW_KIND].given && strcmp(v[OPT_PREVIEW_KIND].text, "vae") == 0)
        r->params.preview_kind = FLUX1_PREVIEW_VAE;
    r->previews = (output_names){v[OPT_PREVIEW].text, NULL,     r->prompt, FLUX1_FORMAT_AUTO, r->params.count,
                                 r->hooks.before,     "preview"};
    if (output_is_stream(&r->previews)) {
        print_error("--preview -: previews go to a file, which is written again and again");
        return EXIT_USAGE;
    }
    if (output_names_check(&r->previews, NULL, &err) != FLUX1_OK)
        return usage(&err);
    r->preview_how = r->how;
    r->preview_how.format = r->previews.format;
    return EXIT_DONE;
}

/* Pictures and previews; made-up names only where there is a prompt to make them of. */
static int check_distinct(const request *r)
{
    const output_names *pictures = r->prompt || r->names.output ? &r->names : NULL;
    const output_names *previews = r->opt->values[OPT_PREVIEW].given ? &r->previews : NULL;
    return outputs_distinct(r->opt, pictures, previews, r->params.seed) ? EXIT_DONE : EXIT_USAGE;
}

/* Names and seed of pictures and previews. */
static int prepare_outputs(request *r)
{
    int status = prepare_names(r);
    if (status == EXIT_DONE)
        status = prepare_seed(r);
    if (status == EXIT_DONE)
        status = prepare_previews(r);
    return status == EXIT_DONE ? check_distinct(r) : status;
}

int request_check(const options *opt)
{
    request r = {.opt = opt};
    fill_request(opt, &r.params);
    return prepare_outputs(&r);
}

/* Who comes from AUTOMATIC1111's UI may expect it to be read. */
static void warn_of_tag(const char *prompt)
{
    lora_tag t;
    if (lora_tag_find(prompt, &t) && t.is_number && t.name_bytes > 0)
        print_warning("%.*s is a part of the prompt here, and adds no adapter; --lora %.*s:%g does",
                      (int)(t.end - t.begin), t.begin, (int)t.name_bytes, t.name, t.scale);
}

/* Everything that can be refused before a model is opened. */
static int prepare(request *r)
{
    size_t bytes;
    int status;
    if (r->hooks.latents) {
        fill_request(r->opt, &r->params);
        status = take_latents(r);
        if (status == EXIT_DONE)
            status = prepare_names(r);
        return status == EXIT_DONE ? check_distinct(r) : status;
    }
    status = read_prompt(r->opt, &r->prompt, &bytes);
    if (status != EXIT_DONE)
        return status;
    warn_of_tag(r->prompt);
    if (!previews_fit(r->opt))
        return EXIT_USAGE;
    if (r->opt->values[OPT_STEP_CACHE_CHECK].given && !(r->opt->values[OPT_STEP_CACHE].real > 0)) {
        print_error("--step-cache-check needs --step-cache fb:THRESHOLD, such as fb:0.12");
        return EXIT_USAGE;
    }
    fill_request(r->opt, &r->params);
    r->params.prompt = r->prompt;
    status = open_initial(r);
    return status == EXIT_DONE ? prepare_outputs(r) : status;
}

/* That the file of a picture can be written. */
static flux1_status check_name(const request *r, const output_names *names, int index, flux1_error *err)
{
    char *name = output_name(names, r->params.seed + (uint64_t)index, index);
    flux1_status st = name ? file_check_writable(name, err) : error_oom(err, 0, "a file name");
    free(name);
    return st;
}

/* No earlier line has written a file that this one names. */
static bool names_are_free(const request *r)
{
    long writer = 0;
    for (int i = 0; r->hooks.taken && r->opt->values[OPT_OUTPUT].given && !writer && i < r->params.count; i++) {
        char *name = output_name(&r->names, r->params.seed + (uint64_t)i, i);
        writer = name ? taken_by(r->hooks.taken, name) : 0;
        if (writer)
            print_error("%s was written by line %ld; give each line an output of its own", name, writer);
        free(name);
    }
    return !writer;
}

/* Makes sure that the first and the last file can be written, before minutes of work go into them. */
static int prepare_files(request *r)
{
    const option_value *v = r->opt->values;
    flux1_error err = {0};
    if (!(r->pictures = calloc((size_t)r->params.count, sizeof *r->pictures))) {
        print_failure(FLUX1_ERR_MEMORY, "out of memory for %d file names", r->params.count);
        return EXIT_FAILED;
    }
    flux1_status st = flux1_format_check(r->s->writer, r->how.format, r->params.width, r->params.height);
    if (st == FLUX1_OK && v[OPT_PREVIEW].given)
        st = flux1_format_check(r->s->writer, r->preview_how.format, r->params.width, r->params.height);
    if (st != FLUX1_OK)
        return report(r->s->writer, st);
    if (output_make_folder(&r->names, &err) != FLUX1_OK)
        return usage(&err);
    const int last = r->params.count - 1;
    for (int i = 0; i <= last; i += i < last && last > 0 ? last : 1)
        if ((!output_is_stream(&r->names) && check_name(r, &r->names, i, &err) != FLUX1_OK) ||
            (v[OPT_PREVIEW].given && check_name(r, &r->previews, i, &err) != FLUX1_OK))
            return usage(&err);
    if (!names_are_free(r))
        return EXIT_USAGE;
    static const option_id at_the_end[] = {OPT_DUMP, OPT_PROFILE};
    for (size_t i = 0; i < sizeof at_the_end / sizeof *at_the_end; i++)
        if (v[at_the_end[i]].given && file_check_writable(v[at_the_end[i]].text, &err) != FLUX1_OK)
            return usage(&err);
    return EXIT_DONE;
}

static void write_preview(request *r, const flux1_image *preview)
{
    char *name = output_name(&r->previews, preview->seed, preview->index);
    flux1_status st = name ? flux1_image_write(r->s->writer, preview, r->s->model, &r->params, &r->preview_how, name)
                           : FLUX1_ERR_MEMORY;
    free(name);
    if (st == FLUX1_OK)
        return;
    r->preview_failed = true; /* the picture itself may still come out */
    print_warning("previews stop: %s", name ? flux1_context_message(r->s->writer) : flux1_status_text(st));
}

static int on_progress(void *user, const flux1_progress *now)
{
    request *r = user;
    if (!now->preview) /* one is of any picture of the batch, and no stage begins or ends with it */
        progress_update(&r->progress, now);
    if (r->hooks.progress)
        r->hooks.progress(r->hooks.user, now);
    if (now->preview && !r->preview_failed)
        write_preview(r, now->preview);
    return was_interrupted();
}

/* Of latents from a file the picture says what the file says. */
static flux1_write_params writing_of(const request *r, const flux1_image *image)
{
    flux1_write_params how = r->how;
    if (r->hooks.latents) {
        how.parameters = flux1_latents_text(r->hooks.latents, image->index, "parameters");
        how.json = flux1_latents_text(r->hooks.latents, image->index, "flux1");
        how.parameters = how.parameters ? how.parameters : "";
        how.json = how.json ? how.json : "";
    }
    return how;
}

/* To standard output, which takes nothing else then. */
static int write_stream(request *r, const flux1_image *image)
{
    uint8_t *bytes;
    size_t count;
    const flux1_write_params how = writing_of(r, image);
    flux1_status st = flux1_image_encode(r->s->writer, image, r->s->model, &r->params, &how, &bytes, &count);
    if (st != FLUX1_OK)
        return report(r->s->writer, st);
    fwrite(bytes, 1, count, stdout);
    flux1_bytes_free(bytes);
    return finish_output(EXIT_DONE);
}

/* Writes the picture and prints its name. */
static int write_picture(request *r, const flux1_image *image)
{
    picture *p = &r->pictures[image->index];
    bool claimed;
    if (output_is_stream(&r->names))
        return write_stream(r, image);
    p->name = output_claim(&r->names, image->seed, image->index, &claimed);
    if (!p->name)
        return report(NULL, FLUX1_ERR_MEMORY);
    const flux1_write_params how = writing_of(r, image);
    flux1_status st = flux1_image_write(r->s->writer, image, r->s->model, &r->params, &how, p->name);
    if (st != FLUX1_OK && claimed)
        unlink(p->name);
    if (st != FLUX1_OK)
        return report(r->s->writer, st);
    p->written = true;
    p->seed = image->seed;
    p->width = image->width;
    p->height = image->height;
    p->steps_reused = image->steps_reused;
    if (r->hooks.taken)
        taken_add(r->hooks.taken, p->name, r->hooks.line);
    if (r->opt->values[OPT_JSON].given || r->hooks.answer)
        return EXIT_DONE;
    console_wipe();
    print_name(p->name);
    return finish_output(EXIT_DONE);
}

/* A finished picture leaves at once, also when the run was interrupted meanwhile: those behind it may take long, or
 * fail. */
static int on_image(void *user, const flux1_image *image)
{
    request *r = user;
    double start = clock_seconds();
    r->failure = write_picture(r, image);
    r->write_seconds += clock_seconds() - start;
    step_check_tell(&r->check, image);
    return r->failure != EXIT_DONE || was_interrupted();
}

/* Of a picture that could not be decoded: its latents go where it would have gone. A file that was written is told of
 * after the reason; one that could not be is a warning, as the request's error is the decode's. */
static void on_undecoded(void *user, const flux1_image *image, const flux1_latents *latents)
{
    request *r = user;
    picture *p = &r->pictures[image->index];
    output_names names = r->names;
    if (output_is_stream(&names))
        names.output = NULL;
    char *name = output_name(&names, image->seed, image->index);
    p->latents = name ? latents_claim(name) : NULL;
    free(name);
    if (!p->latents)
        return;
    if (flux1_latents_write(r->s->writer, latents, image, r->s->model, &r->params, p->latents) == FLUX1_OK)
        return;
    print_warning("the latents are not kept: %s", flux1_context_message(r->s->writer));
    unlink(p->latents);
    free(p->latents);
    p->latents = NULL;
}

static void tell_of_latents(const request *r)
{
    for (int i = 0; r->pictures && i < r->params.count; i++) {
        if (!r->pictures[i].latents)
            continue;
        char *output = r->opt->values[OPT_OUTPUT].given && !output_is_stream(&r->names)
                           ? output_name(&r->names, r->params.seed + (uint64_t)i, i)
                           : NULL;
        latents_tell(r->pictures[i].latents, output, r->opt);
        free(output);
    }
}

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

static void print_results(const request *r, int status)
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

/* What a run that failed leaves: names were printed as the pictures were written, but not in JSON. */
static void print_finished(const request *r)
{
    int written = 0;
    for (int i = 0; r->pictures && i < r->params.count; i++)
        written += r->pictures[i].written;
    if (written > 0 && r->opt->values[OPT_JSON].given && !r->hooks.answer)
        print_json(r, clock_seconds() - r->began);
    if (written > 0)
        print_note("%d of %d pictures were finished before that and are kept", written, r->params.count);
}

static void free_request(request *r)
{
    step_check_free(&r->check);
    for (int i = 0; r->pictures && i < r->params.count; i++) {
        free(r->pictures[i].name);
        free(r->pictures[i].latents);
    }
    flux1_latents_close(r->initial);
    free(r->pictures);
    free(r->prompt);
}

static void set_callbacks(request *r)
{
    r->params.adapters = r->adapters;
    r->params.adapter_count = r->opt->loras;
    r->params.text = r->hooks.text;
    r->params.negative_text = r->hooks.negative_text;
    r->params.progress = on_progress;
    r->params.progress_user = r;
    r->params.image = on_image;
    r->params.image_user = r;
    r->params.undecoded = r->hooks.latents ? NULL : on_undecoded; /* they are in a file already */
    r->params.cancel = signal_token();
}

/* With --step-cache-check twice: in full first. */
static flux1_status make_pictures(request *r)
{
    session *s = r->s;
    flux1_generate_params *p = &r->params;
    flux1_status st = was_interrupted() ? FLUX1_ERR_CANCELLED : FLUX1_OK;
    set_callbacks(r);
    progress_begin(&r->progress, r->opt->values[OPT_QUIET].given);
    if (st == FLUX1_OK && r->opt->values[OPT_STEP_CACHE_CHECK].given && p->step_cache > 0) {
        st = step_check_make(&r->check, s->context, s->model, p);
        r->failure = r->check.failed ? EXIT_FAILED : r->failure;
        progress_end(&r->progress, st == FLUX1_OK);
        if (st == FLUX1_OK)
            print_note("without the step cache: %.1f s", r->check.seconds);
        progress_begin(&r->progress, r->opt->values[OPT_QUIET].given);
    }
    if (st == FLUX1_OK)
        st = r->hooks.latents     ? flux1_decode(s->context, s->model, flux1_latents_of(r->hooks.latents), p, NULL)
             : r->hooks.recording ? flux1_recording_run(s->context, s->model, r->hooks.recording, p, NULL)
                                  : flux1_generate(s->context, s->model, p, NULL);
    progress_end(&r->progress, st == FLUX1_OK);
    return st;
}

/* The file of latents, if the message is about them: the library has been given values alone. */
static const char *blamed_file(const request *r)
{
    const char *message = flux1_context_message(r->s->context);
    const bool blames = strncmp(message, "latents", 7) == 0 || strncmp(message, "packed latents", 14) == 0;
    return !blames ? NULL : r->hooks.latents ? r->opt->operand : r->opt->values[OPT_LATENTS].text;
}

bool previews_fit(const options *opt)
{
    static const option_id of_previews[] = {OPT_PREVIEW_EVERY, OPT_PREVIEW_KIND};
    for (size_t i = 0; i < sizeof of_previews / sizeof *of_previews; i++)
        if (opt->values[of_previews[i]].given && !opt->values[OPT_PREVIEW].given) {
            print_error("--%s needs --preview FILE", option_rows[of_previews[i]].name);
            return false;
        }
    return true;
}

int request_run(session *s, const options *opt, const request_hooks *hooks)
{
    request r = {.s = s, .opt = opt, .began = clock_seconds()};
    if (hooks)
        r.hooks = *hooks;
    int status = prepare(&r);
    if (status == EXIT_DONE)
        status = session_open(s);
    if (status == EXIT_DONE && r.hooks.repeats)
        from_picture_compare(r.hooks.repeats, s->info.dtype);
    if (status == EXIT_DONE)
        status = prepare_files(&r);
    if (status == EXIT_DONE)
        status = session_adapters(s, opt, r.adapters);
    if (status == EXIT_DONE) {
        const flux1_status st = make_pictures(&r);
        status = r.failure != EXIT_DONE ? r.failure : report_about(s->context, st, blamed_file(&r));
    }
    tell_of_latents(&r);
    if (status == EXIT_DONE || r.hooks.answer)
        print_results(&r, status);
    if (status != EXIT_DONE)
        print_finished(&r);
    free_request(&r);
    console_forget_warnings();
    return status;
}
