/* flux1 run-plan: the calls of a recording made, on the reference implementation. */
#include "cli/cli.h"

#include "base/json.h"
#include "cli/console.h"
#include "cli/request.h"
#include "flux1_tools.h"

#include <string.h>

static void set_text(options *o, option_id id, const char *text)
{
    o->values[id] = (option_value){.given = text != NULL, .text = text};
}

static void set_number(options *o, option_id id, const json_value *j, const char *key)
{
    const double value = json_number_value(json_object_get(j, key));
    o->values[id] = (option_value){.given = true, .whole = (int64_t)value, .real = value};
}

/* What the recording has settled; --model and --guidance count before its own. */
static bool take_recorded(options *o, const json_value *j)
{
    const json_value *model = json_object_get(j, "model");
    if (!o->values[OPT_DEVICE].given)
        set_text(o, OPT_DEVICE, "ref");
    set_text(o, OPT_MESH, json_string_value(json_object_get(j, "mesh")));
    set_text(o, OPT_SP, json_string_value(json_object_get(j, "sp")));
    set_text(o, OPT_TP, json_string_value(json_object_get(j, "tp")));
    set_number(o, OPT_WIDTH, j, "width");
    set_number(o, OPT_HEIGHT, j, "height");
    set_number(o, OPT_STEPS, j, "steps");
    set_number(o, OPT_MAX_SEQUENCE_LENGTH, j, "max_sequence_length");
    if (!o->values[OPT_GUIDANCE].given && strcmp(json_string_value(json_object_get(j, "variant")), "dev") == 0)
        set_number(o, OPT_GUIDANCE, j, "guidance");
    if (!o->values[OPT_MODEL].given && model)
        set_text(o, OPT_MODEL, json_string_value(model));
    flux1_model_parts parts = {.size = sizeof parts};
    if (o->values[OPT_MODEL].given || given_parts(o, &parts))
        return true;
    print_error("%s does not say which model it is of; name it with --model", o->operand);
    return false;
}

/* *recorded: what `with` then points into. */
static int read_recording(options *with, json_value **recorded)
{
    flux1_context *plain = NULL;
    flux1_error err = {0};
    char *json = NULL;
    flux1_status st = open_plain_context(NULL, &plain);
    if (st == FLUX1_OK)
        st = flux1_recording_json(plain, with->operand, &json);
    int status = report(plain, st);
    if (status == EXIT_DONE && (st = json_parse(json, strlen(json), "the recording", recorded, &err)) != FLUX1_OK)
        status = report(NULL, st);
    flux1_string_free(json);
    flux1_context_destroy(plain);
    return status != EXIT_DONE || take_recorded(with, *recorded) ? status : EXIT_USAGE;
}

int run_plan_run(const options *opt)
{
    options with = *opt;
    shared_model s = {.opt = &with};
    json_value *recorded = NULL;
    const option_value *device = &opt->values[OPT_DEVICE];
    if (device->given && strncmp(device->text, "ttnn", 4) != 0 && strcmp(device->text, "ref") != 0) {
        print_error("--device %s: run-plan makes calls on ref or ttnn", device->text);
        return EXIT_USAGE;
    }
    if (!opt->operand) {
        print_error("run-plan needs a FILE, which flux1 plan --record FILE writes");
        return EXIT_USAGE;
    }
    catch_signals();
    int status = read_recording(&with, &recorded);
    if (status == EXIT_DONE)
        status = request_run(&s, &with, &(request_hooks){.recording = opt->operand});
    if (status == EXIT_DONE)
        status = finish_output(status);
    shared_model_close(&s);
    json_free(recorded);
    return status;
}
