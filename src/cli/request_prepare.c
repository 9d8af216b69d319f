#include "cli/request_state.h"

#include "base/file.h"
#include "base/lora_tag.h"
#include "cli/console.h"
#include "cli/distinct.h"
#include "cli/latents.h"
#include "cli/taken.h"
#include "flux1_tools.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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

int request_prepare(request *r)
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

int request_prepare_files(request *r)
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
