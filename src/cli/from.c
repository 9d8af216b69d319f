#include "cli/from.h"

#include "base/builder.h"
#include "cli/console.h"
#include "cli/values.h"
#include "flux1_tools.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a picture can say. */
static const option_id told[] = {
    OPT_PROMPT, OPT_NEGATIVE_PROMPT,     OPT_TRUE_CFG_SCALE, OPT_WIDTH, OPT_HEIGHT, OPT_STEPS, OPT_GUIDANCE, OPT_SEED,
    OPT_RNG,    OPT_MAX_SEQUENCE_LENGTH, OPT_STEP_CACHE};

static bool can_tell(int id)
{
    for (size_t i = 0; i < sizeof told / sizeof *told; i++)
        if ((int)told[i] == id)
            return true;
    return false;
}

/* A seed of -1 is given, too: a random one is wanted. */
static bool is_given(const options *o, int id)
{
    return o->values[id].given || o->values[id].text || (id == OPT_PROMPT && o->values[OPT_PROMPT_FILE].given);
}

static bool take_loras(options *o, const json_value *list)
{
    const json_value *one;
    for (size_t i = 0; (one = json_array_get(list, i)); i++)
        if (json_is_string(one) && !options_add_lora(o, json_string_value(one)))
            return false;
    return true;
}

static bool take_request(options *o, from_picture *p, const json_value *request)
{
    const json_value *value;
    const char *key;
    for (size_t i = 0; (value = json_object_at(request, i, &key)); i++) {
        const int id = option_named(key);
        if (id == OPT_LORA && o->loras == 0 && !take_loras(o, value))
            return false;
        if (id < 0 || !can_tell(id) || is_given(o, id))
            continue;
        const char *text = value_text(value, p->number[id]);
        if (text && !options_replace(o, (option_id)id, text))
            return false;
    }
    return true;
}

/* What says nothing about the picture, and what flux1 does anyway. */
static bool is_harmless(const char *key, const json_value *its)
{
    const char *value = json_string_value(its);
    if (strcmp(key, "cfg") == 0 || strcmp(key, "denoise") == 0)
        return json_number_value(its) == 1;
    static const char *const keys[] = {"Version", "Model hash", "Lora hashes", "VAE hash", "TI hashes"};
    static const char *const own[][2] = {{"Sampler", "Euler"},
                                         {"Schedule type", "Simple"},
                                         {"CFG scale", "1"},
                                         {"sampler", "euler"},
                                         {"scheduler", "simple"}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(key, keys[i]) == 0)
            return true;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strcmp(key, own[i][0]) == 0 && value && strcmp(value, own[i][1]) == 0)
            return true;
    return false;
}

/* What was not taken over, and which model it was. */
static void tell(const options *o, const char *path, const json_value *root)
{
    const json_value *others = json_object_get(root, "others"), *value;
    const char *missing = json_string_value(json_object_get(root, "not_found"));
    const char *ignored = json_string_value(json_object_get(root, "ignored"));
    const char *key, *model = json_string_value(json_object_get(json_object_get(root, "request"), "model"));
    builder names = {0};
    for (size_t i = 0; (value = json_object_at(others, i, &key)); i++)
        if (!is_harmless(key, value))
            builder_format(&names, "%s%s", names.length ? ", " : "", key);
    if (names.text)
        print_note("%s: not repeated: %s", path, names.text);
    if (json_object_get(root, "problem"))
        print_warning("%s: %s", path, json_string_value(json_object_get(root, "problem")));
    if (json_object_get(root, "program"))
        print_note("%s was made by ComfyUI, which has another schedule and other noise for a seed: the picture will be "
                   "another one of the same request",
                   path);
    if (missing)
        print_note("%s: ComfyUI's graph does not plainly say: %s", path, missing);
    if (ignored)
        print_warning("%s: ignored, of ComfyUI's sampler: %s; all steps are made, from the seed's noise", path,
                      ignored);
    builder_free(&names);
    if (json_object_get(json_object_get(root, "request"), "latents") && !o->values[OPT_LATENTS].given)
        print_warning("%s began with latents from a file, and will be another picture without --latents", path);
    if (model && !o->values[OPT_MODEL].given)
        print_note("%s was made with the model %s; name it with --model where it is another one", path, model);
}

static int read_json(const char *path, json_value **root)
{
    flux1_context *context = NULL;
    char *json = NULL;
    flux1_status st = open_plain_context(NULL, &context);
    if (st == FLUX1_OK)
        st = flux1_picture_json(context, path, &json);
    if (st == FLUX1_OK)
        st = json_parse(json, strlen(json), path, root, NULL);
    const int status = report(context, st);
    flux1_string_free(json);
    flux1_context_destroy(context);
    return status;
}

int from_picture_read(options *o, from_picture *out)
{
    const char *path = o->values[OPT_FROM].text;
    *out = (from_picture){.path = path};
    if (!o->values[OPT_FROM].given)
        return EXIT_DONE;
    int status = read_json(path, &out->root);
    if (status != EXIT_DONE)
        return status;
    const json_value *request = json_object_get(out->root, "request");
    if (!request) {
        const char *problem = json_string_value(json_object_get(out->root, "problem"));
        print_error("--from %s: %s", path, problem ? problem : "the picture does not say how it was made");
        return EXIT_FAILED;
    }
    console_subject("--from: ");
    const bool taken = take_request(o, out, request);
    console_subject(NULL);
    if (taken)
        tell(o, path, out->root);
    return taken ? EXIT_DONE : EXIT_USAGE;
}

void from_picture_compare(const from_picture *p, const char *dtype)
{
    const char *its = json_string_value(json_object_get(json_object_get(p->root, "request"), "dtype"));
    char name[16];
    if (!its || strcmp(its, dtype) == 0)
        return;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(its, " "), its); /* what may follow is " with bfp8 weights" */
    const bool rounded = strcmp(its + strcspn(its, " "), " with bfp8 weights") == 0;
    if (dtype_named(name) == FLUX1_DTYPE_AUTO || (!rounded && its[strlen(name)]))
        return; /* no word of ours */
    print_note("%s was drawn in %s, this run draws in %s: the picture may differ; --dtype %s%s repeats it", p->path,
               its, dtype, name, rounded ? " --round-weights bfp8" : "");
}

void from_picture_free(from_picture *p)
{
    json_free(p->root);
    *p = (from_picture){0};
}
