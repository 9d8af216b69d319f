/* flux1 pull: fetches a repository of the Hugging Face hub. */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/units.h"
#include "cli/console.h"
#include "cli/progress.h"
#include "flux1_tools.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REDRAW_SECONDS 0.2
#define LINE_SECONDS 10.0 /* between lines where there is no terminal */
#define RATE_SECONDS 5.0  /* over which the rate is taken */

typedef struct meter {
    bool quiet;
    double drawn; /* time of the last line */
    double since; /* where the rate is taken from: time and bytes received */
    uint64_t since_bytes;
    double before; /* and the one before that */
    uint64_t before_bytes;
} meter;

/* Bytes a second over the last 5 to 10 seconds. */
static double rate(meter *m, uint64_t received, double now)
{
    if (now - m->since > RATE_SECONDS) {
        m->before = m->since;
        m->before_bytes = m->since_bytes;
        m->since = now;
        m->since_bytes = received;
    }
    return now > m->before ? (double)(received - m->before_bytes) / (now - m->before) : 0;
}

static void describe(meter *m, const flux1_pull_progress *p, double now, char *line, size_t room)
{
    char present[BYTES_TEXT], bytes[BYTES_TEXT], speed[BYTES_TEXT], time[32], left[64] = "";
    const double each = rate(m, p->bytes_received, now);
    const double percent = p->bytes ? 100 * (double)p->bytes_present / (double)p->bytes : 0;
    if (each > 1 && p->bytes > p->bytes_present) {
        duration((double)(p->bytes - p->bytes_present) / each, time);
        snprintf(left, sizeof left, ", %s left", time);
    }
    if (p->bytes == 0)
        snprintf(line, room, "asking for %zu files", p->files);
    else
        snprintf(line, room, "%zu/%zu files, %s of %s (%.0f%%), %s/s%s  %s", p->files_done, p->files,
                 format_bytes(present, sizeof present, (double)p->bytes_present),
                 format_bytes(bytes, sizeof bytes, (double)p->bytes), percent, format_bytes(speed, sizeof speed, each),
                 left, p->file ? p->file : "");
}

static void on_progress(void *user, const flux1_pull_progress *p)
{
    meter *m = user;
    char line[512];
    const double now = clock_seconds();
    const bool terminal = console_is_terminal();
    if (m->quiet || now - m->drawn < (terminal ? REDRAW_SECONDS : LINE_SECONDS))
        return;
    m->drawn = now;
    describe(m, p, now, line, sizeof line);
    terminal ? console_redraw(line) : print_note("%s", line);
}

static void on_log(void *user, flux1_log_level level, const char *message)
{
    (void)user;
    (void)level;
    print_note("%s", message);
}

/* What was done, on standard error; the folder alone, on standard output. */
static int print_folder(const char *json)
{
    json_value *v = NULL;
    char bytes[BYTES_TEXT], received[BYTES_TEXT];
    if (json_parse(json, strlen(json), "the result", &v, NULL) != FLUX1_OK) {
        print_error("out of memory");
        return EXIT_FAILED;
    }
    print_note("%lld files, %s; fetched now: %s", (long long)json_integer_value(json_object_get(v, "files")),
               format_bytes(bytes, sizeof bytes, json_number_value(json_object_get(v, "bytes"))),
               format_bytes(received, sizeof received, json_number_value(json_object_get(v, "bytes_received"))));
    print_name(json_string_value(json_object_get(v, "folder")));
    json_free(v);
    return EXIT_DONE;
}

static flux1_status run(const options *opt, flux1_context **context, char **json)
{
    const option_value *v = opt->values;
    flux1_pull_params pull;
    const double now = clock_seconds();
    meter m = {.quiet = v[OPT_QUIET].given, .since = now, .before = now, .drawn = console_is_terminal() ? 0 : now};
    flux1_status st = open_plain_context(on_log, context);
    if (st != FLUX1_OK)
        return st;
    flux1_pull_params_defaults(&pull);
    pull.repository = opt->operand;
    pull.variant = v[OPT_FILE_VARIANT].text;
    pull.files = opt->pattern;
    pull.file_count = (size_t)opt->patterns;
    pull.cache_folder = v[OPT_CACHE_DIR].text;
    pull.progress = on_progress;
    pull.user = &m;
    watch_signals(*context);
    st = was_interrupted() ? FLUX1_ERR_CANCELLED : flux1_pull_json(*context, &pull, json);
    watch_signals(NULL);
    console_wipe();
    return st;
}

int pull_run(const options *opt)
{
    flux1_context *context = NULL;
    char *json = NULL;
    int status;
    if (!opt->operand) {
        print_error("pull needs a repository: flux1 pull org/name, such as black-forest-labs/FLUX.1-schnell");
        return EXIT_USAGE;
    }
    catch_signals();
    flux1_status st = run(opt, &context, &json);
    if (st == FLUX1_ERR_CANCELLED && was_interrupted()) {
        print_error("interrupted; what has come stays: run it again to go on from there");
        status = EXIT_INTERRUPTED;
    } else if (st != FLUX1_OK)
        status = report(context, st);
    else
        status = opt->values[OPT_JSON].given ? print_result(opt, json) : print_folder(json);
    flux1_string_free(json);
    flux1_context_destroy(context);
    return finish_output(status);
}
