/* Requests from standard input run one after the other on one open model. A line that is invalid, or whose request
 * fails, gives an error, and the next line follows; the exit status is that of the first failure. On a GPU the next
 * line's prompt is encoded while the current request is decoded, on a context of its own; where the encoders have their
 * own device, from the denoising on. */
#include "cli/batch.h"

#include "base/builder.h"
#include "base/json.h"
#include "cli/console.h"
#include "cli/lines.h"
#include "cli/request.h"
#include "cli/values.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The options that a line may have. */
static const option_id line_options[] = {OPT_PROMPT,
                                         OPT_OUTPUT,
                                         OPT_WIDTH,
                                         OPT_HEIGHT,
                                         OPT_STEPS,
                                         OPT_GUIDANCE,
                                         OPT_SEED,
                                         OPT_COUNT,
                                         OPT_MAX_SEQUENCE_LENGTH,
                                         OPT_BATCH,
                                         OPT_NEGATIVE_PROMPT,
                                         OPT_TRUE_CFG_SCALE,
                                         OPT_VAE_TILING,
                                         OPT_LORA};
enum { LINE_OPTIONS = sizeof line_options / sizeof *line_options, NUMBER_BYTES = VALUE_ROOM };

/* A request that was read from a line. */
typedef struct job {
    options opt; /* texts belong to `root` and `number` */
    json_value *root;
    char number[OPTION_COUNT][NUMBER_BYTES];
    char subject[64];
    flux1_text *text, *negative_text; /* NULL until encoded ahead */
} job;

/* The next prompt, encoded in a thread while the current request runs. */
typedef struct encoder {
    bool planned, enabled;
    flux1_stage from; /* starts when the current request has reached this stage */
    flux1_context *context;
    const flux1_model *model;
    flux1_generate_params params;
    flux1_text *text, *negative_text;
    pthread_t thread;
    bool running;
} encoder;

typedef struct batch {
    const options *opt;
    session session;
    lines lines;
    job *current, *next;
    bool ended; /* no more lines */
    encoder ahead;
    int status;
} batch;

static void keep_status(batch *b, int status)
{
    if (b->status == EXIT_DONE)
        b->status = status;
}

/* ---- a line ---- */

static void free_job(job *t)
{
    if (!t)
        return;
    json_free(t->root);
    flux1_text_free(t->text);
    flux1_text_free(t->negative_text);
    free(t);
}

static bool allowed_in_line(int id)
{
    for (int i = 0; i < LINE_OPTIONS; i++)
        if ((int)line_options[i] == id)
            return true;
    return false;
}

/* "unknown key …; allowed: prompt, output, …" */
static void unknown_key(const char *key)
{
    builder names = {0};
    for (int i = 0; i < LINE_OPTIONS; i++) {
        builder_add(&names, i ? ", " : "");
        for (const char *c = option_rows[line_options[i]].name; *c; c++)
            builder_add_bytes(&names, *c == '-' ? "_" : c, 1);
    }
    print_error("unknown key \"%s\"; allowed: %s", key, names.text ? names.text : "");
    builder_free(&names);
}

/* "FILE:SCALE", or an array of these: instead of the command line's. */
static bool read_loras(job *t, const json_value *value)
{
    const size_t count = json_is_array(value) ? json_array_size(value) : 1;
    t->opt.loras = 0;
    for (size_t i = 0; i < count; i++) {
        const json_value *one = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_string(one) || strlen(json_string_value(one)) != json_string_length(one)) {
            print_error("\"lora\" must be \"FILE:SCALE\", or an array of such strings");
            return false;
        }
        if (!options_add_lora(&t->opt, json_string_value(one)))
            return false;
    }
    return true;
}

static bool read_member(job *t, const char *key, const json_value *value)
{
    int id = option_named(key);
    if (id < 0 || !allowed_in_line(id)) {
        unknown_key(key);
        return false;
    }
    if (id == OPT_LORA)
        return read_loras(t, value);
    const char *text = value_text(value, t->number[id]);
    if (!text) {
        print_error("\"%s\" must be a string or a number", key);
        return false;
    }
    return options_replace(&t->opt, (option_id)id, text);
}

static bool read_members(job *t)
{
    const char *key;
    const json_value *value;
    if (!json_is_object(t->root) || !json_object_get(t->root, "prompt")) {
        print_error("expected an object such as {\"prompt\": \"a red fox\"}");
        return false;
    }
    for (size_t i = 0; (value = json_object_at(t->root, i, &key)); i++)
        if (!read_member(t, key, value))
            return false;
    return true;
}

/* Prints an error and returns NULL on failure. */
static job *make_job(batch *b, const char *line, size_t bytes)
{
    flux1_error err = {0};
    job *t = calloc(1, sizeof *t);
    if (!t) {
        print_error("out of memory for a request");
        return NULL;
    }
    t->opt = *b->opt;
    snprintf(t->subject, sizeof t->subject, "standard input, line %ld: ", b->lines.number);
    console_subject(t->subject);
    bool parsed = json_parse(line, bytes, "JSON", &t->root, &err) == FLUX1_OK;
    if (!parsed)
        print_error("%s", err.message);
    if (!parsed || !read_members(t)) {
        free_job(t);
        t = NULL;
    }
    console_subject(b->current ? b->current->subject : NULL);
    return t;
}

/* Reads the next valid line into b->next. wait: blocks until there is one, or the end of input. */
static void read_next(batch *b, bool wait)
{
    char *line;
    size_t bytes;
    while (!b->next && !b->ended) {
        console_subject(NULL);
        line_state st = lines_next(&b->lines, wait, &line, &bytes);
        console_subject(b->current ? b->current->subject : NULL);
        if (st == LINE_NONE)
            return;
        b->ended = st != LINE_READ;
        if (st == LINE_FAILED)
            keep_status(b, EXIT_FAILED);
        if (b->ended || strspn(line, " \t\r") == bytes)
            continue;
        if (!(b->next = make_job(b, line, bytes)))
            keep_status(b, EXIT_FAILED);
    }
}

/* ---- the next prompt, encoded ahead ---- */

/* Where this fails, the request encodes again and reports the error. */
static void *encode(void *arg)
{
    encoder *e = arg;
    flux1_generate_params negative = e->params;
    negative.prompt = e->params.negative_prompt;
    if (flux1_encode_text(e->context, e->model, &e->params, &e->text) != FLUX1_OK)
        e->text = NULL;
    else if (negative.prompt && e->params.true_cfg_scale > 1 &&
             flux1_encode_text(e->context, e->model, &negative, &e->negative_text) != FLUX1_OK)
        e->negative_text = NULL;
    return NULL;
}

static int until_interrupted(void *user, const flux1_progress *progress)
{
    (void)user, (void)progress;
    return was_interrupted();
}

/* Whether to encode ahead, and from which stage on. On one CPU both would compete for the same cores, unless the
 * encoders were given a device by name. Not on a mesh: two sets of communicators on the same GPUs need one order. */
static void plan_encoder(batch *b)
{
    const flux1_context_info *info = &b->session.info;
    b->ahead.planned = true;
    b->ahead.enabled = info->ranks == 1 && (info->runs_ahead || b->opt->values[OPT_ENCODER_DEVICE].given);
    b->ahead.from = info->runs_ahead && !info->encoders_apart ? FLUX1_STAGE_DECODE : FLUX1_STAGE_DENOISE;
}

/* Progress of the current request, on its thread. With several pictures it waits for the last one's decoding: earlier,
 * each picture allocates again. */
static void start_encoder(void *user, const flux1_progress *progress)
{
    batch *b = user;
    encoder *e = &b->ahead;
    if (!e->planned)
        plan_encoder(b);
    if (!e->enabled || e->running || progress->stage < e->from ||
        (progress->stage == FLUX1_STAGE_DECODE && progress->image + 1 < progress->images))
        return;
    read_next(b, false);
    if (!b->next || b->next->text || b->next->opt.loras > 0) /* files of adapters are opened between requests */
        return;
    if (!e->context && open_silent_context(b->opt, &e->context) != FLUX1_OK) {
        e->enabled = false;
        return;
    }
    e->model = b->session.model;
    fill_request(&b->next->opt, &e->params);
    e->params.prompt = b->next->opt.values[OPT_PROMPT].text;
    e->params.progress = until_interrupted;
    e->running = pthread_create(&e->thread, NULL, encode, e) == 0;
}

static void finish_encoder(batch *b)
{
    encoder *e = &b->ahead;
    if (!e->running)
        return;
    pthread_join(e->thread, NULL);
    e->running = false;
    b->next->text = e->text;
    b->next->negative_text = e->negative_text;
    e->text = e->negative_text = NULL;
}

/* ---- all of them ---- */

static bool options_fit(const options *opt)
{
    static const option_id others[] = {OPT_PROMPT, OPT_PROMPT_FILE, OPT_OUTPUT, OPT_FROM, OPT_DUMP, OPT_PROFILE};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (opt->values[others[i]].given) {
            print_error("--%s cannot be combined with --jsonl%s", option_rows[others[i]].name,
                        others[i] == OPT_DUMP || others[i] == OPT_PROFILE || others[i] == OPT_FROM ? ""
                        : others[i] == OPT_OUTPUT ? "; give each line an \"output\""
                                                  : "; give each line a \"prompt\"");
            return false;
        }
    return true;
}

int batch_run(const options *opt)
{
    batch b = {.opt = opt, .session = {.opt = opt}};
    if (!options_fit(opt))
        return EXIT_USAGE;
    bool lost = false;
    int last = session_join(&b.session);
    if (last != EXIT_DONE) {
        session_close(&b.session);
        return last;
    }
    for (read_next(&b, true); b.next; read_next(&b, true)) {
        b.current = b.next;
        b.next = NULL;
        console_subject(b.current->subject);
        last = request_run(&b.session, &b.current->opt,
                           &(request_hooks){.text = b.current->text,
                                            .negative_text = b.current->negative_text,
                                            .progress = start_encoder,
                                            .user = &b});
        finish_encoder(&b);
        keep_status(&b, last);
        free_job(b.current);
        b.current = NULL;
        console_subject(NULL);
        if (finish_output(EXIT_DONE) != EXIT_DONE) {
            keep_status(&b, EXIT_FAILED);
            break;
        }
        lost = last == EXIT_FAILED && lost_process(b.session.context);
        if (was_interrupted() || b.session.failed || lost)
            break;
    }
    if (was_interrupted() && !lost) /* between two requests or while waiting for a line: not reported yet */
        b.status = last == EXIT_INTERRUPTED ? last : report(b.session.context, FLUX1_ERR_CANCELLED);
    free_job(b.next);
    lines_free(&b.lines);
    flux1_context_destroy(b.ahead.context);
    session_close(&b.session);
    return b.status;
}
