#include "cli/latents.h"

#include "base/builder.h"
#include "cli/console.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ENDING ".latents.safetensors"
#define NAME_ROOM 220 /* bytes of a name in front of number and ending */

int latents_open(const options *o, const char *path, bool initial, flux1_latents_file **out)
{
    flux1_context_params params;
    flux1_context *context = NULL;
    *out = NULL;
    flux1_context_params_defaults(&params);
    params.threads = 1;
    params.cache = "";
    params.max_memory = o->values[OPT_MAX_MEMORY].seed;
    params.memory_of_process = !o->shares;
    flux1_status st = flux1_context_create(&params, &context);
    if (st == FLUX1_OK)
        st = flux1_latents_open(context, path, initial, out);
    const int status = report(context, st);
    flux1_context_destroy(context);
    return status;
}

json_value *latents_request(const flux1_latents_file *file)
{
    const char *text = flux1_latents_text(file, 0, "flux1");
    json_value *root = NULL;
    if (!text || json_parse(text, strlen(text), "the metadata", &root, NULL) != FLUX1_OK)
        return NULL;
    if (json_is_object(root))
        return root;
    json_free(root);
    return NULL;
}

bool latents_take_model(options *o, const char *path, const flux1_latents_file *file)
{
    static const struct {
        const char *key;
        option_id option;
    } keys[] = {{"model", OPT_MODEL},
                {"transformer", OPT_TRANSFORMER},
                {"clip", OPT_CLIP},
                {"t5", OPT_T5},
                {"vae", OPT_VAE},
                {"tokenizers", OPT_TOKENIZERS},
                {"file_variant", OPT_FILE_VARIANT}};
    const char *model = NULL;
    if (o->values[OPT_MODEL].given)
        return true;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *text = flux1_latents_text(file, 0, keys[i].key);
        if (!text || !*text || o->values[keys[i].option].given)
            continue;
        if (!options_replace(o, keys[i].option, text))
            return false;
        model = model ? model : text;
    }
    if (model)
        print_note("using the model %s, which %s names", model, path);
    else if (!environment_model() && !o->values[OPT_VAE].given)
        print_error("%s does not say which model its latents are of: name it with --model", path);
    return model || environment_model() || o->values[OPT_VAE].given;
}

/* ---- what is left of a picture ---- */

/* Bytes of a picture's name in front of its ending; a long name is cut, so that the file's own has room. */
static size_t stem_bytes(const char *picture)
{
    const char *slash = strrchr(picture, '/'), *name = slash ? slash + 1 : picture;
    size_t n = (size_t)(output_ending(picture) - name);
    n = n < NAME_ROOM ? n : NAME_ROOM;
    while (n > 0 && ((unsigned char)name[n] & 0xC0) == 0x80) /* no half character */
        n--;
    return (size_t)(name - picture) + n;
}

static char *latents_name(const void *picture, int attempt)
{
    builder b = {0};
    char *name = NULL;
    builder_add_bytes(&b, picture, stem_bytes(picture));
    if (attempt > 1)
        builder_format(&b, "-%d", attempt);
    builder_add(&b, ENDING);
    builder_take(&b, "a file name", &name, NULL);
    return name;
}

char *latents_claim(const char *picture)
{
    bool claimed;
    char *name = output_claim_new(latents_name, picture, &claimed);
    if (claimed)
        return name;
    print_warning("%s: cannot keep the latents: %s", name ? name : picture, name ? strerror(errno) : "out of memory");
    free(name);
    return NULL;
}

/* As a shell takes it. */
static void add_word(builder *b, const char *word)
{
    static const char *const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=+,@%";
    const char *dash = word[0] == '-' ? "./" : "";
    if (strspn(word, plain) == strlen(word)) {
        builder_format(b, " %s%s", dash, word);
        return;
    }
    builder_format(b, " '%s", dash);
    for (; *word; word++)
        builder_add_bytes(b, *word == '\'' ? "'\\''" : word, *word == '\'' ? 4 : 1);
    builder_add(b, "'");
}

void latents_tell(const char *file, const char *output, const options *opt)
{
    static const option_id writing[] = {OPT_OUTPUT_DIR, OPT_FORMAT, OPT_QUALITY, OPT_NO_METADATA};
    builder b = {0};
    add_word(&b, file);
    if (output) {
        builder_add(&b, " -o");
        add_word(&b, output);
    }
    for (size_t i = 0; i < sizeof writing / sizeof *writing; i++) {
        const option_value *v = &opt->values[writing[i]];
        if (!v->given || (writing[i] == OPT_OUTPUT_DIR && output)) /* the folder is in the name */
            continue;
        builder_format(&b, " --%s", option_rows[writing[i]].name);
        if (option_rows[writing[i]].kind != OPTION_FLAG)
            add_word(&b, v->text);
    }
    print_error("the latents are kept in %s; the picture is finished by: flux1 decode%s", file, b.text ? b.text : "");
    builder_free(&b);
}
