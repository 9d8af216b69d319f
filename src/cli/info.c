/* flux1 info: what a folder holds, or what devices there are. */
#include "cli/cli.h"

#include "cli/console.h"
#include "cli/readable.h"
#include "flux1_tools.h"

#include <stdio.h>
#include <stdlib.h>

int print_result(const options *opt, const char *json)
{
    flux1_error err = {0};
    if (opt->values[OPT_JSON].given)
        puts(json);
    else if (readable_print(json, &err) != FLUX1_OK) {
        print_error("%s", err.message);
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}

int info_run(const options *opt)
{
    flux1_context *context = NULL;
    flux1_generate_params request;
    char *json = NULL;
    const char *path = opt->operand ? opt->operand : getenv("FLUX1_MODEL");
    bool devices = opt->values[OPT_DEVICES].given;
    if (!devices && (!path || !path[0])) {
        print_error("info needs a PATH: a pipeline folder (or set FLUX1_MODEL)");
        return EXIT_USAGE;
    }
    fill_request(opt, &request);
    int status = open_context(opt, &context);
    if (status == EXIT_DONE) {
        flux1_status st = devices ? flux1_devices_json(context, &json)
                                  : flux1_info_json(context, path, &request, opt->values[OPT_VERIFY].given, &json);
        int printed = json ? print_result(opt, json) : EXIT_DONE;
        fflush(stdout);
        status = report(context, st);
        status = status != EXIT_DONE ? status : printed;
    }
    flux1_string_free(json);
    flux1_context_destroy(context);
    return finish_output(status);
}
