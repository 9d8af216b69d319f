/* flux1 bench: seconds, FLOP/s and the share of this machine's measured peak; or whole pipelines. */
#include "cli/cli.h"

#include "cli/bench_lines.h"
#include "cli/console.h"
#include "cli/distinct.h"
#include "cli/progress.h"
#include "flux1_tools.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The table comes at the end, which may be minutes away. */
static void tell_timed(void *user, const char *stage, double seconds)
{
    char time[32];
    (void)user;
    duration(seconds, time);
    print_note("%s: %s", stage, time);
}

static void fill_bench(const options *opt, flux1_bench_params *params)
{
    const option_value *v = opt->values;
    flux1_bench_params_defaults(params);
    params->path = v[OPT_MODEL].text;
    params->timed = tell_timed;
    if (v[OPT_VARIANT].given)
        params->variant = v[OPT_VARIANT].text;
    if (v[OPT_STAGE].given)
        params->stage = v[OPT_STAGE].text;
    take_whole(opt, OPT_WIDTH, &params->width);
    take_whole(opt, OPT_HEIGHT, &params->height);
    take_whole(opt, OPT_STEPS, &params->steps);
    take_whole(opt, OPT_MAX_SEQUENCE_LENGTH, &params->sequence_length);
    params->clip_tokens = (int)v[OPT_CLIP_TOKENS].whole;
    take_whole(opt, OPT_REPEATS, &params->repeats);
    params->runs = (int)v[OPT_RUNS].whole;
    params->profile = v[OPT_PROFILE].text;
    params->events = v[OPT_EVENTS].text;
    if (v[OPT_WEIGHTS].given)
        params->weights = strcmp(v[OPT_WEIGHTS].text, "f32") == 0 ? FLUX1_DTYPE_F32 : FLUX1_DTYPE_BF16;
}

/* What cannot be combined; false after an error. */
static bool options_fit(const options *opt, bool model)
{
    const option_value *v = opt->values;
    if (model && (v[OPT_VARIANT].given || v[OPT_WEIGHTS].given))
        print_error("--%s cannot be combined with a model: it is for synthetic weights",
                    v[OPT_VARIANT].given ? "variant" : "weights");
    else if (v[OPT_RUNS].given && (v[OPT_STAGE].given || v[OPT_REPEATS].given))
        print_error("--%s cannot be combined with --runs, which times whole pipelines",
                    v[OPT_STAGE].given ? "stage" : "repeats");
    else if (opt->operand)
        print_error("unexpected argument \"%s\"; reports are compared by --compare %s %s", opt->operand, opt->operand,
                    opt->operand_2 ? opt->operand_2 : "B.json");
    else
        return outputs_distinct(opt, NULL, NULL, 0);
    return false;
}

/* On a terminal as tables, in a pipe line by line. */
static int print_report(const options *opt, const char *json)
{
    bool told = false;
    flux1_error err = {0};
    if (opt->values[OPT_JSON].given || isatty(STDOUT_FILENO))
        return print_result(opt, json);
    if (bench_lines_print(json, &told, &err) == FLUX1_OK)
        return told ? EXIT_DONE : print_result(opt, json);
    print_error("%s", err.message);
    return EXIT_FAILED;
}

/* ---- --compare ---- */

/* Nothing is run, so that options which say what to run mean nothing; false after an error. */
static bool only_compares(const options *opt)
{
    for (int i = 0; i < OPTION_COUNT; i++)
        if (opt->values[i].given && i != OPT_COMPARE && i != OPT_JSON && i != OPT_QUIET && i != OPT_VERBOSE) {
            print_error("--%s cannot be combined with --compare, which runs nothing", option_rows[i].name);
            return false;
        }
    if (!opt->operand || !opt->operand_2)
        print_error("--compare needs two reports of bench --json: --compare A.json B.json");
    return opt->operand && opt->operand_2;
}

static int compare_run(const options *opt)
{
    flux1_context *context = NULL;
    char *json = NULL;
    if (!only_compares(opt))
        return EXIT_USAGE;
    if (strcmp(opt->operand, "-") == 0 || strcmp(opt->operand_2, "-") == 0) {
        print_error("--compare -: reports are read from files, not from standard input");
        return EXIT_USAGE;
    }
    flux1_status st = open_plain_context(NULL, &context);
    if (st == FLUX1_OK)
        st = flux1_bench_compare_json(context, opt->operand, opt->operand_2, &json);
    int status = report(context, st);
    if (status == EXIT_DONE)
        status = print_result(opt, json);
    flux1_string_free(json);
    flux1_context_destroy(context);
    return finish_output(status);
}

int bench_run(const options *opt)
{
    const option_value *v = opt->values;
    flux1_context *context = NULL;
    flux1_bench_params params;
    flux1_model_parts parts = {.model = v[OPT_MODEL].text};
    char *json = NULL;
    if (v[OPT_COMPARE].given)
        return compare_run(opt);
    catch_signals();
    int status = open_context(opt, &context); /* other processes may wait for it */
    const bool model = given_parts(opt, &parts) || v[OPT_MODEL].given;
    if (status == EXIT_DONE && !options_fit(opt, model))
        status = EXIT_USAGE;
    fill_bench(opt, &params);
    params.parts = model ? &parts : NULL;
    if (status == EXIT_DONE) {
        watch_signals(context);
        flux1_status st = was_interrupted() ? FLUX1_ERR_CANCELLED : flux1_bench_json(context, &params, &json);
        watch_signals(NULL);
        const int printed = json ? print_report(opt, json) : EXIT_DONE; /* also where its profile was not written */
        fflush(stdout);
        status = report(context, st);
        status = status != EXIT_DONE ? status : printed;
    }
    flux1_string_free(json);
    flux1_context_destroy(context);
    return finish_output(status);
}
