/* flux1 trial: small recordings on given values, a line each, as the kit for Tenstorrent's cards asks for them. */
#include "cli/cli.h"

#include "base/file.h"
#include "base/json.h"
#include "base/json_write.h"
#include "cli/answer.h"
#include "cli/console.h"
#include "cli/lines.h"
#include "flux1_tools.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct asked {
    json_value *root;
    const char *recording, *values, *out;
    int times;
} asked;

static bool is_key(const char *key)
{
    static const char *const keys[] = {"id", "recording", "values", "out", "times"};
    size_t i = 0;
    while (i < sizeof keys / sizeof *keys && strcmp(keys[i], key) != 0)
        i++;
    return i < sizeof keys / sizeof *keys;
}

static flux1_status read_line(const char *line, size_t bytes, asked *a, flux1_error *err)
{
    TRY(json_parse(line, bytes, "JSON", &a->root, err));
    const json_value *times = json_object_get(a->root, "times");
    const char *key;
    for (size_t i = 0; json_object_at(a->root, i, &key); i++)
        if (!is_key(key))
            return error_set(err, FLUX1_ERR_ARGUMENT,
                             "unknown key \"%.60s\"; allowed: id, recording, values, out, times", key);
    if (times && (!json_is_integer(times) || json_integer_value(times) < 0 || json_integer_value(times) > 1000))
        return error_set(err, FLUX1_ERR_ARGUMENT, "times should be a whole number from 0 to 1000");
    a->recording = json_string_value(json_object_get(a->root, "recording"));
    a->values = json_string_value(json_object_get(a->root, "values"));
    a->out = json_string_value(json_object_get(a->root, "out"));
    a->times = times ? (int)json_integer_value(times) : 0;
    if (a->recording && a->values && a->out &&
        (file_same_place(a->out, a->recording) || file_same_place(a->out, a->values)))
        return error_set(err, FLUX1_ERR_ARGUMENT, "out %s would replace a file that is read; give another name",
                         a->out);
    return a->recording && a->values && a->out
               ? FLUX1_OK
               : error_set(err, FLUX1_ERR_ARGUMENT,
                           "expected {\"recording\": FILE, \"values\": FILE, \"out\": FILE, \"times\": N}");
}

static void print_answer(const answer *a, double seconds)
{
    json_writer w = {.style = JSON_LINE};
    char *text = NULL;
    json_begin_object(&w, NULL);
    answer_put(&w, a);
    if (a->error->status == FLUX1_OK)
        json_put_real(&w, "seconds", seconds);
    json_end_object(&w);
    if (json_take(&w, "the answer", &text, NULL) == FLUX1_OK)
        puts(text);
    else
        print_error("out of memory for the answer");
    free(text);
}

/* line NULL: it was too long. */
static int run_line(flux1_context *context, const char *line, size_t bytes, long number)
{
    asked a = {0};
    flux1_error err = {0};
    double seconds = 0;
    flux1_status st =
        line ? read_line(line, bytes, &a, &err) : error_set(&err, FLUX1_ERR_LIMIT, "longer than %zu bytes", LINE_MOST);
    if (st == FLUX1_OK &&
        (st = flux1_recording_try(context, a.recording, a.values, a.out, a.times, &seconds)) != FLUX1_OK)
        error_set(&err, st, "%s", flux1_context_message(context));
    print_answer(&(answer){json_object_get(a.root, "id"), number, &err}, seconds);
    json_free(a.root);
    return st == FLUX1_OK ? EXIT_DONE : EXIT_FAILED;
}

int trial_run(const options *opt)
{
    lines input = {0};
    char *line;
    size_t bytes = 0;
    line_state state = LINE_READ;
    flux1_context *context = NULL;
    options with = *opt;
    if (!with.values[OPT_DEVICE].given)
        with.values[OPT_DEVICE] = (option_value){.given = true, .text = "ref"};
    catch_signals();
    int status = open_context(&with, &context);
    const bool opened = status == EXIT_DONE;
    watch_signals(context);
    if (opened)
        lines_tell_waiting(&input, "recordings, a JSON object a line,");
    while (opened && !was_interrupted() && !ferror(stdout) &&
           ((state = lines_next(&input, true, &line, &bytes)) == LINE_READ || state == LINE_LONG)) {
        if (run_line(context, state == LINE_READ ? line : NULL, bytes, input.number) != EXIT_DONE)
            status = EXIT_FAILED;
        fflush(stdout);
    }
    if (state == LINE_FAILED)
        status = EXIT_FAILED;
    lines_free(&input);
    watch_signals(NULL);
    flux1_context_destroy(context);
    return was_interrupted() ? EXIT_INTERRUPTED : finish_output(status);
}
