/* flux1 bench: seconds, FLOP/s and the share of this machine's measured peak; or whole pipelines. */
#include "cli/cli.h"

#include "cli/console.h"
#include "cli/progress.h"
#include "cli/readable.h"
#include "flux1_tools.h"

#include <stdio.h>
#include <string.h>

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
    if (v[OPT_WIDTH].given)
        params->width = (int)v[OPT_WIDTH].whole;
    if (v[OPT_HEIGHT].given)
        params->height = (int)v[OPT_HEIGHT].whole;
    if (v[OPT_STEPS].given)
        params->steps = (int)v[OPT_STEPS].whole;
    if (v[OPT_MAX_SEQUENCE_LENGTH].given)
        params->sequence_length = (int)v[OPT_MAX_SEQUENCE_LENGTH].whole;
    if (v[OPT_REPEATS].given)
        params->repeats = (int)v[OPT_REPEATS].whole;
    params->runs = (int)v[OPT_RUNS].whole;
    params->profile = v[OPT_PROFILE].text;
    params->events = v[OPT_EVENTS].text;
    if (v[OPT_WEIGHTS].given)
        params->weights = strcmp(v[OPT_WEIGHTS].text, "f32") == 0 ? FLUX1_DTYPE_F32 : FLUX1_DTYPE_BF16;
}

int bench_run(const options *opt)
{
    const option_value *v = opt->values;
    flux1_context *context = NULL;
    flux1_bench_params params;
    flux1_model_parts parts = {.model = v[OPT_MODEL].text};
    flux1_error err = {0};
    char *json = NULL;
    catch_signals();
    int status = open_context(opt, &context); /* other processes may wait for it */
    const bool files = given_parts(opt, &parts);
    if (status == EXIT_DONE && (files || v[OPT_MODEL].given) && (v[OPT_VARIANT].given || v[OPT_WEIGHTS].given)) {
        print_error("--%s cannot be combined with a model: it is for synthetic weights",
                    v[OPT_VARIANT].given ? "variant" : "weights");
        status = EXIT_USAGE;
    }
    if (status == EXIT_DONE && v[OPT_RUNS].given && (v[OPT_STAGE].given || v[OPT_REPEATS].given)) {
        print_error("--%s cannot be combined with --runs, which times whole pipelines",
                    v[OPT_STAGE].given ? "stage" : "repeats");
        status = EXIT_USAGE;
    }
    fill_bench(opt, &params);
    params.parts = files || v[OPT_MODEL].given ? &parts : NULL;
    if (status == EXIT_DONE) {
        watch_signals(context);
        flux1_status st = was_interrupted() ? FLUX1_ERR_CANCELLED : flux1_bench_json(context, &params, &json);
        watch_signals(NULL);
        status = report(context, st);
    }
    if (status == EXIT_DONE && v[OPT_JSON].given)
        puts(json);
    else if (status == EXIT_DONE && readable_print(json, &err) != FLUX1_OK) {
        print_error("%s", err.message);
        status = EXIT_FAILED;
    }
    flux1_string_free(json);
    flux1_context_destroy(context);
    return finish_output(status);
}
