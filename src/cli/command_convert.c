/* flux1 convert: a part of a model as one file, in another format or type. */
#include "cli/cli.h"

#include "base/clock.h"
#include "cli/console.h"
#include "cli/distinct.h"
#include "cli/lora_files.h"
#include "cli/progress.h"
#include "flux1_tools.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BAR 24
#define REDRAW_SECONDS 0.1

typedef struct drawing {
    double begin, drawn; /* seconds */
} drawing;

/* One redrawn line, on a terminal. */
static void draw(void *user, double done)
{
    drawing *d = user;
    char line[128], bar[BAR + 1];
    const double now = clock_seconds(), spent = now - d->begin;
    if (now - d->drawn < REDRAW_SECONDS && done < 1)
        return;
    d->drawn = now;
    for (int i = 0; i < BAR; i++)
        bar[i] = i < (int)(done * BAR) ? '#' : '.';
    bar[BAR] = '\0';
    snprintf(line, sizeof line, "convert  [%s] %3.0f%%  %.0f s left", bar, 100 * done,
             done > 0 ? spent / done - spent : 0);
    console_redraw(line);
}

static int convert_with(const options *opt, flux1_context *context, flux1_convert_params *params)
{
    char *json = NULL;
    lora_files loras;
    drawing d = {.begin = clock_seconds()};
    if (console_is_terminal() && !opt->values[OPT_QUIET].given) {
        params->progress = draw;
        params->progress_user = &d;
    }
    int status = lora_files_of(opt, &loras);
    if (status != EXIT_DONE)
        return status;
    params->adapters = loras.file;
    params->adapter_count = loras.count;
    watch_signals(context);
    const flux1_status st =
        was_interrupted() ? FLUX1_ERR_CANCELLED : flux1_convert(context, opt->operand, opt->operand_2, params, &json);
    watch_signals(NULL);
    console_wipe();
    status = report(context, st);
    if (status == EXIT_DONE)
        status = print_result(opt, json);
    flux1_string_free(json);
    lora_files_free(&loras);
    return status;
}

int convert_run(const options *opt)
{
    const option_value *v = opt->values;
    flux1_context *context = NULL;
    flux1_convert_params params;
    if (!opt->operand || !opt->operand_2) {
        print_error("convert needs two paths: flux1 convert IN OUT, such as flux1 convert flux1-dev.safetensors "
                    "flux1-dev-Q8_0.gguf --type q8_0");
        return EXIT_USAGE;
    }
    if (!output_is_no_input(opt, opt->operand_2))
        return EXIT_USAGE;
    flux1_convert_params_defaults(&params);
    if (v[OPT_TYPE].given)
        params.type = v[OPT_TYPE].text;
    params.rules = v[OPT_RULES].text;
    params.part = v[OPT_PART].text;
    params.names = v[OPT_NAMES].text;
    params.file_variant = v[OPT_FILE_VARIANT].text;
    catch_signals();
    int status = open_context(opt, &context);
    if (status == EXIT_DONE)
        status = convert_with(opt, context, &params);
    flux1_context_destroy(context);
    return finish_output(status);
}
