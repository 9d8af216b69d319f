/* Requests from a file's lines run one after the other on one open model: a JSON object a line (--jsonl), or a prompt a
 * line (--prompts). Of --jsonl each line is answered by one line of JSON, in order. A line that is invalid, or whose
 * request fails, gives an error, and the next line follows; the exit status is 1 if any failed. */
#include "cli/batch.h"

#include "base/builder.h"
#include "base/json.h"
#include "cli/ahead.h"
#include "cli/answer.h"
#include "cli/console.h"
#include "cli/foreign.h"
#include "cli/lines.h"
#include "cli/names.h"
#include "cli/output.h"
#include "cli/request.h"
#include "cli/taken.h"
#include "cli/values.h"

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
                                         OPT_RNG,
                                         OPT_LATENTS,
                                         OPT_COUNT,
                                         OPT_MAX_SEQUENCE_LENGTH,
                                         OPT_BATCH,
                                         OPT_NEGATIVE_PROMPT,
                                         OPT_TRUE_CFG_SCALE,
                                         OPT_STEP_CACHE,
                                         OPT_VAE_TILING,
                                         OPT_LORA,
                                         OPT_ALLOW_EMPTY};
enum { LINE_OPTIONS = sizeof line_options / sizeof *line_options, NUMBER_BYTES = VALUE_ROOM };

/* A request that was read from a line, or the error in it. */
typedef struct job {
    options opt; /* texts belong to `root`, `number` and `prompt` */
    json_value *root;
    char *prompt;
    char number[OPTION_COUNT][NUMBER_BYTES];
    char subject[256];
    int64_t before; /* pictures of the lines before it */
    bool invalid;
    flux1_error error; /* of the line, later of the request */
    answer answer;
    flux1_text *text, *negative_text; /* NULL until encoded ahead */
} job;

typedef struct batch {
    const options *opt;
    shared_model shared;
    lines lines;
    job *current, *next;
    bool json, any, ended; /* the lines are JSON; there was one; there are no more */
    ahead ahead;
    taken taken;
    int64_t pictures; /* of the lines read so far, also of those that fail: a line's numbers do not depend on others' */
    int status;
} batch;

/* Lines are answered in JSON. */
static bool answers(const batch *b) { return b->json || b->opt->values[OPT_JSON].given; }

/* ---- a line ---- */

static void free_job(job *t)
{
    if (!t)
        return;
    json_free(t->root);
    free(t->prompt);
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

/* As JSON's keys are written. */
static void add_key(builder *b, const char *name)
{
    for (; *name; name++)
        builder_add_bytes(b, *name == '-' ? "_" : name, 1);
}

static const char *line_option_name(int index)
{
    return index < LINE_OPTIONS ? option_rows[line_options[index]].name : NULL;
}

/* unknown key "promt" (did you mean "prompt"?); allowed: prompt, output, … */
static void unknown_key(const char *key)
{
    builder text = {0}, typed = {0};
    for (const char *c = key; *c; c++)
        builder_add_bytes(&typed, *c == '_' ? "-" : c, 1);
    const char *pointer = foreign_option(key), *near = typed.text ? nearest_name(typed.text, line_option_name) : NULL;
    if (pointer)
        builder_format(&text, " (%s)", pointer);
    else if (near) {
        builder_add(&text, " (did you mean \"");
        add_key(&text, near);
        builder_add(&text, "\"?)");
    }
    builder_add(&text, "; allowed: ");
    for (int i = 0; i < LINE_OPTIONS; i++) {
        add_key(&text, line_option_name(i));
        builder_add(&text, ", ");
    }
    print_error("unknown key \"%s\"%sid", key, text.text ? text.text : "");
    builder_free(&text);
    builder_free(&typed);
}

static const char *kind_name(const json_value *value)
{
    return json_is_string(value)        ? "a string"
           : json_is_number(value)      ? "a number"
           : json_is_array(value)       ? "an array"
           : json_is_object(value)      ? "an object"
           : json_is_true(value)        ? "true"
           : json_is(value, JSON_FALSE) ? "false"
                                        : "null";
}

static bool takes_number(option_kind kind)
{
    return kind == OPTION_WHOLE || kind == OPTION_REAL || kind == OPTION_SEED;
}

/* An option that is one of words, yes and no among them. */
static bool takes_yes_or_no(const option_row *row)
{
    return row->kind == OPTION_CHOICE && strstr(row->argument, "yes") && strstr(row->argument, "no");
}

/* A JSON value as text, as on the command line; NULL where the option does not take one of this kind. */
static const char *as_text(job *t, int id, const json_value *value)
{
    const option_row *row = &option_rows[id];
    if (json_is_string(value))
        return row->kind != OPTION_FLAG ? value_text(value, t->number[id]) : NULL;
    if ((json_is_true(value) || json_is(value, JSON_FALSE)) && takes_yes_or_no(row))
        return json_is_true(value) ? "yes" : "no";
    return takes_number(row->kind) && json_is_number(value) ? value_text(value, t->number[id]) : NULL;
}

static void wrong_kind(const char *key, int id, const json_value *value)
{
    const option_row *row = &option_rows[id];
    if (json_is_string(value) && row->kind != OPTION_FLAG)
        print_error("\"%s\" must not contain a zero byte", key);
    else
        print_error("\"%s\" is %s, it must be %s", key, kind_name(value),
                    takes_number(row->kind)    ? "a number"
                    : row->kind == OPTION_FLAG ? "true or false"
                    : takes_yes_or_no(row)     ? "true, false, \"auto\" or \"bands\""
                                               : "a string");
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
    if (strcmp(key, "id") == 0)
        return true;
    if (id < 0 || !allowed_in_line(id)) {
        unknown_key(key);
        return false;
    }
    if (json_is_null(value)) /* not given */
        return true;
    if (id == OPT_LORA)
        return read_loras(t, value);
    if (option_rows[id].kind == OPTION_FLAG && (json_is_true(value) || json_is(value, JSON_FALSE))) {
        t->opt.values[id].given = json_is_true(value);
        return true;
    }
    const char *text = as_text(t, id, value);
    if (!text) {
        wrong_kind(key, id, value);
        return false;
    }
    return options_replace(&t->opt, (option_id)id, text);
}

static bool read_members(job *t)
{
    const char *key;
    const json_value *value;
    if (!json_is_object(t->root)) {
        print_error("expected an object such as {\"prompt\": \"a red fox\"}");
        return false;
    }
    for (size_t i = 0; (value = json_object_at(t->root, i, &key)); i++)
        if (!read_member(t, key, value))
            return false;
    if (!t->opt.values[OPT_PROMPT].given)
        print_error("the line has no prompt; expected an object such as {\"prompt\": \"a red fox\"}");
    return t->opt.values[OPT_PROMPT].given;
}

static bool read_object(job *t, const char *line, size_t bytes)
{
    flux1_error err = {0};
    if (json_parse(line, bytes, "JSON", &t->root, &err) != FLUX1_OK) {
        print_failure(err.status, "%s", err.message);
        return false;
    }
    t->answer.id = json_object_get(t->root, "id");
    return read_members(t);
}

/* The line is the prompt. */
static bool read_words(job *t, const char *line, size_t bytes)
{
    if (strlen(line) != bytes) {
        print_failure(FLUX1_ERR_FORMAT, "a prompt must not contain zero bytes (is the file UTF-16? Save it as UTF-8)");
        return false;
    }
    const size_t length = bytes > 0 && line[bytes - 1] == '\r' ? bytes - 1 : bytes;
    if (!(t->prompt = strndup(line, length))) {
        print_failure(FLUX1_ERR_MEMORY, "out of memory for a prompt");
        return false;
    }
    t->opt.values[OPT_PROMPT] = (option_value){.given = true, .text = t->prompt};
    return true;
}

static bool read_line(const batch *b, job *t, const char *line, size_t bytes)
{
    if (!line) {
        print_failure(FLUX1_ERR_LIMIT, "longer than %zu bytes", LINE_MOST);
        return false;
    }
    return b->json ? read_object(t, line, bytes) : read_words(t, line, bytes);
}

/* line NULL: it was too long. */
static job *make_job(batch *b, const char *line, size_t bytes)
{
    job *t = calloc(1, sizeof *t);
    if (!t) {
        print_failure(FLUX1_ERR_MEMORY, "out of memory for a request");
        return NULL;
    }
    b->any = true;
    t->opt = *b->opt;
    t->answer = (answer){.line = b->lines.number, .error = &t->error};
    t->before = b->json ? 0 : b->pictures;
    b->pictures += t->opt.values[OPT_COUNT].given ? t->opt.values[OPT_COUNT].whole : 1;
    snprintf(t->subject, sizeof t->subject, "%.200s, line %ld: ", lines_name(&b->lines), b->lines.number);
    console_subject(t->subject);
    flux1_error *before = console_collect(&t->error);
    t->invalid = !read_line(b, t, line, bytes);
    console_collect(before);
    console_subject(b->current ? b->current->subject : NULL);
    return t;
}

/* Reads the next line that is not blank into b->next. wait: blocks until there is one, or the end of input. */
static void read_next(batch *b, bool wait)
{
    char *line;
    size_t bytes = 0;
    while (!b->next && !b->ended) {
        console_subject(NULL);
        line_state st = lines_next(&b->lines, wait, &line, &bytes);
        console_subject(b->current ? b->current->subject : NULL);
        if (st == LINE_NONE)
            return;
        const bool is_long = st == LINE_LONG;
        b->ended = st != LINE_READ && !is_long;
        if (st == LINE_FAILED)
            b->status = EXIT_FAILED;
        if (b->ended || (!is_long && strspn(line, " \t\r") == bytes))
            continue;
        if (!(b->next = make_job(b, is_long ? NULL : line, bytes))) {
            b->status = EXIT_FAILED;
            b->ended = true;
        }
    }
}

/* Progress of the current request, on its thread. Files of adapters are opened between requests. */
static void start_ahead(void *user, const flux1_progress *now)
{
    batch *b = user;
    if (!ahead_is_time(&b->ahead, &b->shared, now))
        return;
    read_next(b, false);
    if (b->next && !b->next->invalid && !b->next->text && b->next->opt.loras == 0)
        ahead_start(&b->ahead, &b->shared, &b->next->opt);
}

/* ---- all of them ---- */

/* Why an option has no place beside lines; "%s" is --jsonl or --prompts. */
static const struct other {
    option_id id;
    const char *json, *prompts;
} others[] = {{OPT_PROMPT, "; give each line a \"prompt\"", ""},
              {OPT_PROMPT_FILE, "; give each line a \"prompt\"", ""},
              {OPT_PROMPTS, "; give each line a \"prompt\"", NULL},
              {OPT_OUTPUT, "; give each line an \"output\"", NULL},
              {OPT_FROM, "", ""},
              {OPT_DUMP, "", ""},
              {OPT_PROFILE, "", ""}};

/* A name for all lines has the pictures' number in it. */
static bool output_fits(const options *opt)
{
    const option_value *v = opt->values;
    const char *output = v[OPT_OUTPUT].text;
    const bool counted = !v[OPT_LATENTS].given || v[OPT_COUNT].given;
    if (v[OPT_JSONL].given || !output || (output_has_number(output) && counted))
        return true;
    if (output_has_number(output))
        print_error("--output %s: with --prompts and --latents the numbers need the pictures of a line; give their "
                    "number with --count",
                    output);
    else if (strcmp(output, "-") == 0)
        print_error("--output - cannot be combined with --prompts: standard output takes one picture");
    else
        print_error("--output %s: all lines of --prompts would write this file; put the number of the picture into the "
                    "name as %%d or %%03d, such as picture%%03d.png",
                    output);
    return false;
}

static bool options_fit(const options *opt)
{
    const bool json = opt->values[OPT_JSONL].given;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const char *advice = json ? others[i].json : others[i].prompts;
        if (!advice || !opt->values[others[i].id].given)
            continue;
        print_error("--%s cannot be combined with --%s%s", option_rows[others[i].id].name, json ? "jsonl" : "prompts",
                    advice);
        return false;
    }
    return output_fits(opt) && previews_fit(opt);
}

/* The request of b->current. Returns its exit status. */
static int run_current(batch *b)
{
    job *t = b->current;
    int status = EXIT_FAILED;
    if (t->invalid) {
        if (answers(b))
            answer_print(&t->answer);
        return EXIT_FAILED;
    }
    console_subject(t->subject);
    console_collect(&t->error);
    status = request_run(&b->shared, &t->opt,
                         &(request_hooks){.text = t->text,
                                          .negative_text = t->negative_text,
                                          .progress = start_ahead,
                                          .user = b,
                                          .answer = answers(b) ? &t->answer : NULL,
                                          .taken = &b->taken,
                                          .line = t->answer.line,
                                          .before = t->before});
    if (b->next)
        ahead_finish(&b->ahead, &b->next->text, &b->next->negative_text);
    console_collect(NULL);
    console_subject(NULL);
    return status;
}

/* Where no further request can run, all further lines have the error of the last one, which was printed. */
static void answer_rest(batch *b, const flux1_error *error)
{
    char *line;
    size_t bytes;
    line_state st;
    if (b->next)
        answer_print(&(answer){b->next->answer.id, b->next->answer.line, error});
    while (finish_output(EXIT_DONE) == EXIT_DONE && !b->ended &&
           ((st = lines_next(&b->lines, true, &line, &bytes)) == LINE_READ || st == LINE_LONG)) {
        json_value *root = NULL;
        if (st == LINE_READ && strspn(line, " \t\r") == bytes)
            continue;
        if (st == LINE_READ && b->json && json_parse(line, bytes, "JSON", &root, NULL) != FLUX1_OK)
            root = NULL;
        answer_print(&(answer){json_object_get(root, "id"), b->lines.number, error});
        json_free(root);
    }
}

/* Until the lines end, or no further request can run. */
static void run_lines(batch *b)
{
    bool over = false;
    for (read_next(b, true); b->next && !over; read_next(b, !over)) {
        b->current = b->next;
        b->next = NULL;
        int last = run_current(b);
        const bool lost = last == EXIT_FAILED && lost_process(b->shared.context);
        if (last != EXIT_DONE)
            b->status = b->shared.failed ? last : EXIT_FAILED;
        over = was_interrupted() || b->shared.failed || lost;
        if (finish_output(EXIT_DONE) != EXIT_DONE) {
            b->status = EXIT_FAILED;
            over = true;
        } else if ((b->shared.failed || lost) && answers(b) && !was_interrupted())
            answer_rest(b, &b->current->error);
        if (last == EXIT_INTERRUPTED)
            b->status = last;
        else if (was_interrupted() && !lost) /* between two requests: not reported yet */
            b->status = report(b->shared.context, FLUX1_ERR_CANCELLED);
        free_job(b->current);
        b->current = NULL;
        b->ended = b->ended || over;
    }
}

int batch_run(const options *opt)
{
    batch b = {.opt = opt, .shared = {.opt = opt}, .json = opt->values[OPT_JSONL].given};
    if (!options_fit(opt))
        return EXIT_USAGE;
    int status = b.json ? EXIT_DONE : request_check(opt); /* a line of JSON may have others */
    status = status == EXIT_DONE ? shared_model_join(&b.shared) : status;
    if (status == EXIT_DONE && (b.json || lines_open(&b.lines, opt->values[OPT_PROMPTS].text))) {
        lines_tell_waiting(&b.lines, b.json ? "requests, a JSON object a line," : "prompts, one a line,");
        run_lines(&b);
        if (was_interrupted() && b.status == EXIT_DONE) /* while waiting for a line */
            b.status = report(b.shared.context, FLUX1_ERR_CANCELLED);
        if (!b.json && b.lines.ended && !b.any && b.status == EXIT_DONE) {
            print_error("%s: there is no prompt in it", lines_name(&b.lines));
            b.status = EXIT_FAILED;
        }
        status = b.status;
    } else if (status == EXIT_DONE)
        status = EXIT_FAILED;
    free_job(b.next);
    lines_free(&b.lines);
    ahead_free(&b.ahead);
    taken_free(&b.taken);
    shared_model_close(&b.shared);
    return status;
}
