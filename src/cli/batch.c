/* flux1 generate --jsonl: a request a line of standard input, one after the other on one open model. A line that cannot
 * be used, or fails, is complained of and the next one comes; the exit status then is that of the first failure. On a
 * GPU the next line's prompt is encoded while the request in front of it is decoded, on a context of its own; where the
 * encoders have a device of their own, from the denoising on. */
#include "cli/generate.h"

#include "base/json.h"
#include "cli/console.h"
#include "cli/lines.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a line may say of its own. */
static const option_id of_a_line[] = {OPT_PROMPT,    OPT_OUTPUT, OPT_WIDTH,
                                      OPT_HEIGHT,    OPT_STEPS,  OPT_GUIDANCE,
                                      OPT_SEED,      OPT_COUNT,  OPT_MAX_SEQUENCE_LENGTH,
                                      OPT_VAE_TILING};
enum { OF_A_LINE = sizeof of_a_line / sizeof *of_a_line, NUMBER_ROOM = 40 };

/* A line as a request. */
typedef struct ticket {
    options opt; /* its texts are the JSON's and the numbers' */
    json_value *root;
    char number[OPTION_COUNT][NUMBER_ROOM];
    char subject[64];
    flux1_text *text; /* once encoded beside another request */
} ticket;

/* A prompt that is encoded in a thread. */
typedef struct encoder {
    bool wanted;
    flux1_stage from; /* the request in front has come so far */
    flux1_context *context;
    const flux1_model *model;
    flux1_generate_params params;
    flux1_text *text;
    pthread_t thread;
    bool running;
} encoder;

typedef struct batch {
    const options *opt;
    session session;
    lines lines;
    ticket *now, *next;
    bool ended; /* no more lines */
    encoder ahead;
    int status;
} batch;

static void note_status(batch *b, int status)
{
    if (b->status == EXIT_DONE)
        b->status = status;
}

/* ---- a line ---- */

static void free_ticket(ticket *t)
{
    if (!t)
        return;
    json_free(t->root);
    flux1_text_free(t->text);
    free(t);
}

static bool may_say(int id)
{
    for (int i = 0; i < OF_A_LINE; i++)
        if ((int)of_a_line[i] == id)
            return true;
    return false;
}

/* A JSON value as the command line would have it; NULL for what has no such form. */
static const char *as_text(ticket *t, int id, const json_value *value)
{
    if (json_is_string(value))
        return strlen(json_string_value(value)) == json_string_length(value) ? json_string_value(value) : NULL;
    if (json_is_integer(value))
        snprintf(t->number[id], NUMBER_ROOM, "%" PRId64, value->integer);
    else if (json_is(value, JSON_UNSIGNED))
        snprintf(t->number[id], NUMBER_ROOM, "%" PRIu64, value->large);
    else if (json_is_real(value))
        snprintf(t->number[id], NUMBER_ROOM, "%.9g", json_number_value(value));
    else
        return NULL;
    return t->number[id];
}

static bool read_member(ticket *t, const char *key, const json_value *value)
{
    int id = option_named(key);
    if (id < 0 || !may_say(id)) {
        complain("\"%s\" is nothing that a line can say; it knows prompt, output, width, height, steps, guidance, "
                 "seed, count, max_sequence_length and vae_tiling",
                 key);
        return false;
    }
    const char *text = as_text(t, id, value);
    if (!text) {
        complain("\"%s\" should be a text or a number", key);
        return false;
    }
    return options_replace(&t->opt, (option_id)id, text);
}

static bool read_members(ticket *t)
{
    const char *key;
    const json_value *value;
    if (!json_is_object(t->root) || !json_object_get(t->root, "prompt")) {
        complain("must be an object such as {\"prompt\": \"a red fox\"}");
        return false;
    }
    for (size_t i = 0; (value = json_object_at(t->root, i, &key)); i++)
        if (!read_member(t, key, value))
            return false;
    return true;
}

/* NULL after a complaint. */
static ticket *make_ticket(batch *b, const char *line, size_t bytes)
{
    flux1_error err = {0};
    ticket *t = calloc(1, sizeof *t);
    if (!t) {
        complain("out of memory for a request");
        return NULL;
    }
    t->opt = *b->opt;
    snprintf(t->subject, sizeof t->subject, "standard input, line %ld: ", b->lines.number);
    console_subject(t->subject);
    bool parsed = json_parse(line, bytes, "JSON", &t->root, &err) == FLUX1_OK;
    if (!parsed)
        complain("%s", err.message);
    if (!parsed || !read_members(t)) {
        free_ticket(t);
        t = NULL;
    }
    console_subject(b->now ? b->now->subject : NULL);
    return t;
}

/* The next usable line into b->next; wait: until there is one or the end. */
static void fetch(batch *b, bool wait)
{
    char *line;
    size_t bytes;
    while (!b->next && !b->ended) {
        console_subject(NULL);
        line_state st = lines_next(&b->lines, wait, &line, &bytes);
        console_subject(b->now ? b->now->subject : NULL);
        if (st == LINE_NONE)
            return;
        b->ended = st != LINE_READ;
        if (st == LINE_FAILED)
            note_status(b, EXIT_FAILED);
        if (b->ended || strspn(line, " \t\r") == bytes)
            continue;
        if (!(b->next = make_ticket(b, line, bytes)))
            note_status(b, EXIT_FAILED);
    }
}

/* ---- the next prompt, encoded beside ---- */

static void *encode(void *arg)
{
    encoder *e = arg;
    if (flux1_encode_text(e->context, e->model, &e->params, &e->text) != FLUX1_OK)
        e->text = NULL; /* the request itself will say why */
    return NULL;
}

static int until_interrupted(void *user, const flux1_progress *progress)
{
    (void)user, (void)progress;
    return was_interrupted();
}

/* On the thread of the request in front, from its progress. Of several pictures the last one's decoding is waited for:
 * before, each takes memory anew. */
static void start_encoder(void *user, const flux1_progress *progress)
{
    batch *b = user;
    encoder *e = &b->ahead;
    if (!e->wanted || e->running || progress->stage < e->from ||
        (progress->stage == FLUX1_STAGE_DECODE && progress->image + 1 < progress->images))
        return;
    fetch(b, false);
    if (!b->next || b->next->text)
        return;
    if (!e->context && !open_silent_context(b->opt, &e->context)) {
        e->wanted = false;
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
    e->text = NULL;
}

/* A device by the one name that it has. */
static const char *plain_name(const option_value *device)
{
    if (!device->given || strcmp(device->text, "host") == 0)
        return "cpu";
    return strcmp(device->text, "cuda") == 0 ? "cuda:0" : device->text;
}

/* On one CPU both would wait for the same cores, unless the encoders are given a device by name. Not on a mesh: two
 * sets of communicators on the same GPUs need one order. */
static void plan_encoder(batch *b)
{
    const option_value *device = &b->opt->values[OPT_DEVICE], *own = &b->opt->values[OPT_ENCODER_DEVICE];
    bool gpu = strncmp(plain_name(device), "cuda", 4) == 0,
         same = !own->given || strcmp(plain_name(own), plain_name(device)) == 0;
    b->ahead.wanted = !b->opt->values[OPT_MESH].given && (own->given || gpu);
    b->ahead.from = same && gpu ? FLUX1_STAGE_DECODE : FLUX1_STAGE_DENOISE;
}

/* ---- all of them ---- */

static bool usable(const options *opt)
{
    static const option_id others[] = {OPT_PROMPT, OPT_PROMPT_FILE, OPT_OUTPUT, OPT_DUMP};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (opt->values[others[i]].given) {
            complain("--jsonl: reads its requests from standard input, --%s has no place beside it%s",
                     option_rows[others[i]].name, others[i] == OPT_OUTPUT ? "; a line may have an \"output\"" : "");
            return false;
        }
    return true;
}

int batch_run(const options *opt)
{
    batch b = {.opt = opt, .session = {.opt = opt}};
    if (!usable(opt))
        return EXIT_USAGE;
    int last = EXIT_DONE;
    plan_encoder(&b);
    for (fetch(&b, true); b.next; fetch(&b, true)) {
        b.now = b.next;
        b.next = NULL;
        console_subject(b.now->subject);
        last = generate_request(&b.session, &b.now->opt,
                                &(request_company){.text = b.now->text, .reached = start_encoder, .user = &b});
        finish_encoder(&b);
        note_status(&b, last);
        free_ticket(b.now);
        b.now = NULL;
        console_subject(NULL);
        if (finish_output(EXIT_DONE) != EXIT_DONE) {
            note_status(&b, EXIT_FAILED);
            break;
        }
        if (was_interrupted() || b.session.failed)
            break;
    }
    if (was_interrupted()) /* not told yet: between two requests, or while a line was waited for */
        b.status = last == EXIT_INTERRUPTED ? last : report(NULL, FLUX1_ERR_CANCELLED);
    free_ticket(b.next);
    lines_free(&b.lines);
    flux1_context_destroy(b.ahead.context);
    session_close(&b.session);
    return b.status;
}
