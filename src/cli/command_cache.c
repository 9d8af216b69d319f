/* flux1 cache: what the folder of prepared weights holds. */
#include "cli/cli.h"

#include "cli/console.h"
#include "flux1_tools.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In flux1_cache_action's order. */
static const char *const actions[] = {"list", "verify", "clear", "size"};
enum { ACTIONS = sizeof actions / sizeof *actions };

static int find_action(const char *name)
{
    int i = 0;
    while (i < ACTIONS && (!name || strcmp(name, actions[i]) != 0))
        i++;
    return i;
}

int cache_run(const options *opt)
{
    flux1_context *context = NULL;
    char *json = NULL;
    const int action = find_action(opt->operand);
    if (action == ACTIONS) {
        if (opt->operand)
            print_error("cache \"%s\": must be one of list, verify, clear, size", opt->operand);
        else
            print_error("cache needs an action: list, verify, clear, size");
        return EXIT_USAGE;
    }
    flux1_status st = open_plain_context(NULL, &context);
    if (st == FLUX1_OK)
        st = flux1_cache_json(context, opt->values[OPT_CACHE].text, (flux1_cache_action)action, &json);
    int printed = json ? print_result(opt, json) : EXIT_DONE;
    fflush(stdout);
    int status = report(context, st);
    flux1_string_free(json);
    flux1_context_destroy(context);
    return finish_output(status != EXIT_DONE ? status : printed);
}
