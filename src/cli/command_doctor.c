/* flux1 doctor: whether this machine can make pictures, and what to do where it can't. */
#include "cli/cli.h"

#include "base/json.h"
#include "cli/builtin.h"
#include "cli/console.h"
#include "flux1_tools.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *text(const json_value *check, const char *key)
{
    const char *found = json_string_value(json_object_get(check, key));
    return found ? found : "";
}

/* A line a check, the remedy below it. Returns how many are wrong. */
static int print_checks(const json_value *root)
{
    const json_value *checks = json_object_get(root, "checks"), *check;
    for (size_t i = 0; (check = json_array_get(checks, i)); i++) {
        const char *remedy = text(check, "remedy");
        printf("%-5s  %-16s  ", text(check, "state"), text(check, "check"));
        print_plain(text(check, "found"), "");
        printf(remedy[0] ? "\n%25s" : "\n", "");
        print_plain(remedy, "");
        if (remedy[0])
            putchar('\n');
    }
    const int wrong = (int)json_integer_value(json_object_get(root, "wrong"));
    if (wrong)
        printf("%d of these %s wrong\n", wrong, wrong == 1 ? "is" : "are");
    else
        printf("nothing is wrong\n");
    return wrong;
}

static int print_report(const options *opt, const char *json)
{
    json_value *root = NULL;
    if (json_parse(json, strlen(json), "the checks", &root, NULL) != FLUX1_OK) {
        print_error("out of memory");
        return EXIT_FAILED;
    }
    int wrong = (int)json_integer_value(json_object_get(root, "wrong"));
    if (opt->values[OPT_JSON].given)
        puts(json);
    else
        wrong = print_checks(root);
    json_free(root);
    return wrong ? EXIT_FAILED : EXIT_DONE;
}

int doctor_run(const options *opt)
{
    static char mini[BUILTIN_PATH_MAX];
    flux1_context *context = NULL;
    flux1_doctor_params params;
    char *json = NULL;
    builder looked = {0};
    if (opt->operand && strcmp(opt->operand, "cuda") != 0 && strcmp(opt->operand, "ttnn") != 0) {
        print_error("doctor \"%s\": must be cuda (an NVIDIA GPU is wanted) or ttnn (a Tenstorrent card is)",
                    opt->operand);
        return EXIT_USAGE;
    }
    flux1_doctor_params_defaults(&params);
    params.device = opt->operand;
    params.model = opt->values[OPT_MODEL].given ? opt->values[OPT_MODEL].text : environment_model();
    params.model_asked = params.model != NULL;
    if (!params.model && builtin_model(mini, sizeof mini, &looked))
        params.model = mini;
    builder_free(&looked);
    params.cache = opt->values[OPT_CACHE].text;
    flux1_status st = open_plain_context(NULL, &context);
    if (st == FLUX1_OK)
        st = flux1_doctor_json(context, &params, &json);
    int status = st == FLUX1_OK ? print_report(opt, json) : report(context, st);
    flux1_string_free(json);
    flux1_context_destroy(context);
    return finish_output(status);
}
