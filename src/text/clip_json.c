#include "text/clip_json.h"

#include "text/settings.h"

#include <string.h>

#define CLIP_PATTERN "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"
#define LITERAL_PATTERN "<\\|startoftext\\|>|<\\|endoftext\\|>|"

static flux1_status unsupported(const char *name, const char *what, flux1_error *err)
{
    return error_set(err, FLUX1_ERR_UNSUPPORTED,
                     "%s: %s is not what a CLIP tokenizer has; put the model's vocab.json and merges.txt beside it",
                     name, what);
}

static const char *pattern_of(const json_value *object)
{
    const char *pattern = json_string_value(json_object_get(json_object_get(object, "pattern"), "Regex"));
    return pattern ? pattern : "";
}

/* The steps have one order: compose, collapse spaces, lower. */
static flux1_status read_normal_step(const json_value *object, const char *name, clip_steps *out, flux1_error *err)
{
    if (settings_is_type(object, "NFC") && !out->compose && !out->collapse_spaces && !out->lower) {
        out->compose = true;
        return FLUX1_OK;
    }
    if (settings_is_type(object, "Lowercase") && !out->lower) {
        out->lower = true;
        return FLUX1_OK;
    }
    const char *content = json_string_value(json_object_get(object, "content"));
    if (!settings_is_type(object, "Replace") || out->collapse_spaces || out->lower ||
        strcmp(pattern_of(object), "\\s+") != 0 || !content || strcmp(content, " ") != 0)
        return unsupported(name, "the normalizer", err);
    out->collapse_spaces = true;
    return FLUX1_OK;
}

static flux1_status read_normalizer(const json_value *normalizer, const char *name, clip_steps *out, flux1_error *err)
{
    if (!normalizer || json_is_null(normalizer))
        return FLUX1_OK;
    if (!settings_is_type(normalizer, "Sequence"))
        return read_normal_step(normalizer, name, out, err);
    const json_value *list = json_object_get(normalizer, "normalizers");
    for (size_t i = 0; i < json_array_size(list); i++)
        TRY(read_normal_step(json_array_get(list, i), name, out, err));
    return FLUX1_OK;
}

/* Words by CLIP's pattern, then their bytes as symbols. ByteLevel splits a second time by GPT-2's pattern, which cuts
 * nothing of CLIP's words but the two literals. */
static flux1_status read_pre_tokenizer(const json_value *pre, const char *name, clip_steps *out, flux1_error *err)
{
    const json_value *list = json_object_get(pre, "pretokenizers");
    const json_value *split = json_array_get(list, 0), *bytes = json_array_get(list, 1);
    const char *behaviour = json_string_value(json_object_get(split, "behavior"));
    bool invert = false, space = true, again = true;
    if (!settings_is_type(pre, "Sequence") || json_array_size(list) != 2 || !settings_is_type(split, "Split") ||
        !settings_is_type(bytes, "ByteLevel"))
        return unsupported(name, "the pre_tokenizer", err);
    TRY(json_get_bool(split, name, "invert", &invert, err));
    TRY(json_get_bool(bytes, name, "add_prefix_space", &space, err));
    TRY(json_get_bool(bytes, name, "use_regex", &again, err));
    out->literals = strcmp(pattern_of(split), LITERAL_PATTERN CLIP_PATTERN) == 0;
    if ((!out->literals && strcmp(pattern_of(split), CLIP_PATTERN) != 0) || !invert || !behaviour ||
        strcmp(behaviour, "Removed") != 0)
        return unsupported(name, "the pre_tokenizer's Split", err);
    return space || (out->literals && !again) ? unsupported(name, "the pre_tokenizer's ByteLevel", err) : FLUX1_OK;
}

/* ["<|endoftext|>", 49407] */
static bool read_end(const json_value *pair, int32_t *id)
{
    const json_value *value = json_array_get(pair, 1);
    if (json_array_size(pair) != 2 || !json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) >= INT32_MAX)
        return false;
    *id = (int32_t)json_integer_value(value);
    return true;
}

flux1_status clip_read_steps(const json_value *root, const char *name, clip_steps *out, flux1_error *err)
{
    const json_value *post = json_object_get(root, "post_processor");
    *out = (clip_steps){.stated = true};
    TRY(read_normalizer(json_object_get(root, "normalizer"), name, out, err));
    TRY(read_pre_tokenizer(json_object_get(root, "pre_tokenizer"), name, out, err));
    if (!settings_is_type(post, "RobertaProcessing") || !read_end(json_object_get(post, "cls"), &out->bos) ||
        !read_end(json_object_get(post, "sep"), &out->eos))
        return unsupported(name, "the post_processor", err);
    return FLUX1_OK;
}
