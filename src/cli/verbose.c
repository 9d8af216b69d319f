#include "cli/verbose.h"

#include "base/json.h"
#include "base/units.h"
#include "cli/console.h"
#include "cli/launcher.h"
#include "cli/lora_files.h"
#include "flux1_tools.h"

#include <string.h>

typedef char amount[BYTES_TEXT];

static const char *bytes_of(const json_value *object, const char *key, amount out)
{
    return format_bytes(out, sizeof(amount), json_number_value(json_object_get(object, key)));
}

static void tell_device(const shared_model *s)
{
    const flux1_context_info *info = &s->info;
    amount host, own;
    const option_value *encoders = &s->opt->values[OPT_ENCODER_DEVICE];
    print_note("device %s, kernels for %s, arithmetic %s, %d thread%s%s%s", info->device, info->device_name,
               info->dtype, info->threads, info->threads == 1 ? "" : "s", encoders->given ? "; text encoders on " : "",
               encoders->given ? encoders->text : "");
    if (info->ranks > 1 || info->processes > 1)
        print_note("mesh of %d ranks in %d process%s", info->ranks, info->processes, info->processes == 1 ? "" : "es");
    if (info->max_device_memory)
        print_note("memory: at most %s of the host, %s of the devices",
                   format_bytes(host, sizeof host, (double)info->max_memory),
                   format_bytes(own, sizeof own, (double)info->max_device_memory));
    else
        print_note("memory: at most %s", format_bytes(host, sizeof host, (double)info->max_memory));
}

static void tell_parts(const json_value *root)
{
    amount size;
    const json_value *part, *list = json_object_get(root, "components");
    print_note("model: %s", json_string_value(json_object_get(root, "kind")));
    for (size_t i = 0; (part = json_array_get(list, i)); i++)
        print_note("%s: %s, %s, %s", json_string_value(json_object_get(part, "component")),
                   json_string_value(json_object_get(part, "dtypes")), bytes_of(part, "bytes", size),
                   json_string_value(json_object_get(part, "path")));
}

/* Of one picture. */
static void tell_plan(const json_value *request)
{
    amount active, held, mapped, picture;
    const json_value *stage, *list = json_object_get(request, "stages");
    print_note("plan: %d x %d, %d steps, %d T5 tokens", (int)json_integer_value(json_object_get(request, "width")),
               (int)json_integer_value(json_object_get(request, "height")),
               (int)json_integer_value(json_object_get(request, "steps")),
               (int)json_integer_value(json_object_get(request, "max_sequence_length")));
    for (size_t i = 0; (stage = json_array_get(list, i)); i++)
        print_note(
            "plan: %s: %.3g TFLOP, %s of activations, %s of weights prepared, %s mapped%s%s",
            json_string_value(json_object_get(stage, "stage")),
            json_number_value(json_object_get(stage, "flops")) / 1e12, bytes_of(stage, "activation_bytes", active),
            bytes_of(stage, "held_weight_bytes", held), bytes_of(stage, "mapped_weight_bytes", mapped),
            json_number_value(json_object_get(stage, "picture_bytes")) > 0 ? ", of the picture " : "",
            json_number_value(json_object_get(stage, "picture_bytes")) > 0 ? bytes_of(stage, "picture_bytes", picture)
                                                                           : "");
}

/* The description that flux1 info prints; NULL where it cannot be made. */
static json_value *describe(const shared_model *s, const flux1_model_parts *parts)
{
    flux1_generate_params request;
    json_value *root = NULL;
    char *json = NULL;
    lora_files loras;
    if (lora_files_of(s->opt, &loras) != EXIT_DONE)
        return NULL;
    fill_request(s->opt, &request);
    if (flux1_info_parts_json(s->context, parts, loras.file, loras.count, &request, 0, &json) == FLUX1_OK)
        json_parse(json, strlen(json), "the description", &root, NULL);
    flux1_string_free(json);
    lora_files_free(&loras);
    return root;
}

/* What is wrong with adapters, and where they are, the run itself says. */
static void tell_model(const shared_model *s, const flux1_model_parts *parts)
{
    console_mute(true);
    json_value *root = describe(s, parts);
    console_mute(false);
    if (root) {
        tell_parts(root);
        tell_plan(json_object_get(root, "request"));
    }
    json_free(root);
}

void verbose_tell(const shared_model *s, const flux1_model_parts *parts)
{
    tell_device(s);
    if (launcher_processes() == 1) /* the plan of several would be an order to all */
        tell_model(s, parts);
}
