/* flux1 info: what a folder or a file holds, what made a picture, or what devices there are. */
#include "cli/cli.h"

#include "base/builder.h"
#include "base/file.h"
#include "base/json.h"
#include "cli/console.h"
#include "cli/lora_files.h"
#include "cli/readable.h"
#include "cli/values.h"
#include "flux1_tools.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* A picture's own text, of which a stranger may be the author. */
static void print_text(const char *text)
{
    print_plain(text, "\n\t");
    putchar('\n');
}

/* What one of our own pictures says of its run and the web UI's text has no place for. */
static void print_run(const json_value *request)
{
    static const char *const keys[][2] = {{"max_sequence_length", "max sequence length"},
                                          {"step_cache", "step cache"},
                                          {"lora", "LoRA"},
                                          {"dtype", "dtype"},
                                          {"device", "device"},
                                          {"mesh", "mesh"}};
    char room[VALUE_ROOM];
    builder line = {0};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_value *value = json_object_get(request, keys[i][0]);
        const size_t count = json_is_array(value) ? json_array_size(value) : value ? 1 : 0;
        for (size_t k = 0; k < count; k++) {
            const char *text = value_text(json_is_array(value) ? json_array_get(value, k) : value, room);
            if (text)
                builder_format(&line, "%s%s %s", line.length ? ", " : "", keys[i][1], text);
        }
    }
    if (line.text)
        print_text(line.text);
    builder_free(&line);
}

static void print_picture(const char *json)
{
    json_value *root = NULL;
    if (json_parse(json, strlen(json), "a picture", &root, NULL) != FLUX1_OK)
        return;
    const char *parameters = json_string_value(json_object_get(root, "parameters"));
    print_plain(json_string_value(json_object_get(root, "file")), "");
    printf(": %s, %d×%d\n", json_string_value(json_object_get(root, "format")),
           (int)json_integer_value(json_object_get(root, "width")),
           (int)json_integer_value(json_object_get(root, "height")));
    const char *problem = json_string_value(json_object_get(root, "problem"));
    if (parameters || !json_object_get(root, "request"))
        print_text(parameters ? parameters : problem ? problem : "It does not say how it was made.");
    else /* ComfyUI's, or a JPEG whose EXIF has no room for it */
        print_text(json);
    if (parameters) {
        print_run(json_object_get(root, "request"));
        if (problem)
            print_warning("%s: %s", json_string_value(json_object_get(root, "file")), problem);
    }
    json_free(root);
}

static int picture_run(const options *opt)
{
    flux1_context *context = NULL;
    char *json = NULL;
    int status = open_context(opt, &context);
    if (status != EXIT_DONE)
        return status;
    flux1_status st = flux1_picture_json(context, opt->operand, &json);
    if (json && opt->values[OPT_JSON].given)
        puts(json);
    else if (json)
        print_picture(json);
    status = report(context, st);
    flux1_string_free(json);
    flux1_context_destroy(context);
    return finish_output(status);
}

/* By its content, or by its name, so that what is said of a broken one is said of a picture. */
static bool is_picture(const char *path)
{
    return flux1_is_picture(path) || (flux1_format_of(path) != FLUX1_FORMAT_AUTO && !file_is_directory(path));
}

/* What cannot be combined; false after an error. picture: the operand is one. */
static bool options_fit(const options *opt, bool picture)
{
    const option_value *v = opt->values;
    const bool devices = v[OPT_DEVICES].given;
    const char *other = picture ? "a picture" : "--devices";
    if (opt->loras && (picture || devices))
        print_error("--lora is planned with a model and cannot be combined with %s", other);
    else if (v[OPT_VERIFY].given && (picture || devices))
        print_error("--verify reads a model's weights and cannot be combined with %s", other);
    else if (opt->operand && v[OPT_MODEL].given)
        print_error("--model cannot be combined with a PATH: both name the model");
    else if (devices && (opt->operand || v[OPT_MODEL].given))
        print_error("--devices lists this machine's devices and cannot be combined with a model");
    else
        return true;
    return false;
}

int info_run(const options *opt)
{
    flux1_context *context = NULL;
    flux1_generate_params request;
    lora_files loras = {0};
    char *json = NULL;
    const option_value *model = &opt->values[OPT_MODEL];
    bool devices = opt->values[OPT_DEVICES].given;
    flux1_model_parts parts = {.model = opt->operand ? opt->operand : model->text};
    const bool files = given_parts(opt, &parts);
    const bool picture = opt->operand && !model->given && is_picture(opt->operand);
    if (!options_fit(opt, picture))
        return EXIT_USAGE;
    if (picture)
        return picture_run(opt);
    if (!parts.model)
        parts.model = environment_model();
    if (!devices && !files && !parts.model) {
        print_error(
            "info needs a PATH: a pipeline folder, a file of weights, or org/name in Hugging Face's cache (or set "
            "FLUX1_MODEL)");
        return EXIT_USAGE;
    }
    fill_request(opt, &request);
    int status = lora_files_of(opt, &loras);
    if (status == EXIT_DONE)
        status = open_context(opt, &context);
    if (status == EXIT_DONE) {
        const int verify = opt->values[OPT_VERIFY].given;
        flux1_status st =
            devices ? flux1_devices_json(context, &json)
                    : flux1_info_parts_json(context, &parts, loras.file, loras.count, &request, verify, &json);
        int printed = json ? print_result(opt, json) : EXIT_DONE;
        fflush(stdout);
        status = report_opening(opt, context, st);
        status = status != EXIT_DONE ? status : printed;
    }
    flux1_string_free(json);
    lora_files_free(&loras);
    flux1_context_destroy(context);
    return finish_output(status);
}
