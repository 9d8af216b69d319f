/* The metadata of the file that is written. */
#include "tools/convert.h"

#include "model/sizes.h"

#include <stdio.h>
#include <string.h>

#define QUANTISATION_VERSION 2 /* ggml's: of all K and current other types */

static flux1_status text(convert_job *j, const char *key, const char *value)
{
    return tensor_file_text(&j->file, key, strlen(key), value, strlen(value), j->err);
}

/* What describes the old file's form, not the model. */
static bool is_of_the_form(const char *key, size_t length)
{
    static const char *const keys[] = {"format", "_quantization_metadata", "general.architecture", "general.alignment"};
    static const char tokenizer[] = "tokenizer.";
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strlen(keys[i]) == length && memcmp(keys[i], key, length) == 0)
            return true;
    return length >= sizeof tokenizer - 1 && memcmp(key, tokenizer, sizeof tokenizer - 1) == 0;
}

/* GGUF's own name of what the model's card says in safetensors files. */
static const struct {
    const char *key, *general;
} cards[] = {
    {"modelspec.title", "general.name"},
    {"modelspec.author", "general.author"},
    {"modelspec.license", "general.license"},
    {"modelspec.description", "general.description"},
};

static flux1_status take_over(void *arg, const char *key, size_t key_length, const char *value, size_t length)
{
    convert_job *j = arg;
    if (is_of_the_form(key, key_length))
        return FLUX1_OK;
    for (size_t i = 0; j->is_gguf && i < sizeof cards / sizeof *cards; i++)
        if (strlen(cards[i].key) == key_length && memcmp(cards[i].key, key, key_length) == 0)
            TRY(tensor_file_text(&j->file, cards[i].general, strlen(cards[i].general), value, length, j->err));
    return tensor_file_text(&j->file, key, key_length, value, length, j->err);
}

static flux1_status note_adapters(convert_job *j)
{
    builder b = {0};
    char *list = NULL;
    if (j->adapters == 0)
        return FLUX1_OK;
    for (int i = 0; i < j->adapters; i++) {
        const char *path = store_path(j->adapter[i]->store), *name = strrchr(path, '/');
        builder_format(&b, "%s%s:", i ? ", " : "", name ? name + 1 : path);
        builder_float(&b, j->strength[i]);
    }
    TRY(builder_take(&b, "the metadata", &list, j->err));
    flux1_status st = text(j, "flux1.merged_lora", list);
    flux1_string_free(list);
    return st;
}

/* llama.cpp's parameters of a T5 encoder. */
static flux1_status t5_facts(convert_job *j)
{
    t5_config t5;
    TRY(t5_sizes(j->s, &t5, j->err));
    const struct {
        const char *key;
        int64_t value;
    } numbers[] = {{"t5encoder.context_length", 512},
                   {"t5encoder.embedding_length", t5.d_model},
                   {"t5encoder.feed_forward_length", t5.d_ff},
                   {"t5encoder.block_count", t5.layers},
                   {"t5encoder.attention.head_count", t5.heads},
                   {"t5encoder.attention.key_length", t5.d_kv},
                   {"t5encoder.attention.value_length", t5.d_kv},
                   {"t5encoder.attention.relative_buckets_count", t5.buckets}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        TRY(tensor_file_number(&j->file, numbers[i].key, (uint32_t)numbers[i].value, j->err));
    TRY(tensor_file_real(&j->file, "t5encoder.attention.layer_norm_epsilon", (float)t5.eps, j->err));
    return tensor_file_real(&j->file, "t5encoder.attention.layer_norm_rms_epsilon", (float)t5.eps, j->err);
}

/* llama.cpp's number of a file whose type is "keep": of the type that most values have. */
static uint32_t file_type(const convert_job *j)
{
    double share[DTYPE_COUNT] = {0};
    int most = DTYPE_F32;
    if (j->type != &convert_types[CONVERT_KEEP])
        return (uint32_t)j->type->file_type;
    for (size_t i = 0; i < j->count; i++)
        share[j->tensor[i].type] += (double)j->tensor[i].rows * (double)j->tensor[i].cols;
    for (int i = 0; i < DTYPE_COUNT; i++)
        most = share[i] > share[most] ? i : most;
    char problem[512];
    const char *name = dtype_describe((dtype)most)->name;
    const convert_type *t = convert_type_named(name, strlen(name), true, problem, sizeof problem);
    return t ? (uint32_t)t->file_type : 0;
}

flux1_status convert_facts(convert_job *j)
{
    static const char *const architectures[MODEL_PARTS] = {
        [MODEL_CLIP] = "clip", [MODEL_T5] = "t5encoder", [MODEL_TRANSFORMER] = "flux", [MODEL_VAE] = "vae"};
    TRY(text(j, j->is_gguf ? "general.architecture" : "format", j->is_gguf ? architectures[j->part] : "pt"));
    TRY(tensor_file_number(&j->file, "general.quantization_version", QUANTISATION_VERSION, j->err));
    TRY(tensor_file_number(&j->file, "general.file_type", file_type(j), j->err));
    if (j->is_gguf && j->part == MODEL_T5)
        TRY(t5_facts(j));
    TRY(note_adapters(j));
    return container_texts(store_file(j->s, 0), take_over, j);
}
