/* tokenizer.json of a T5 model: the forms that transformers writes, and a clear refusal of others. */
#include "text/t5_json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD_MARK "\xE2\x96\x81"

static flux1_status unsupported(const char *name, const char *what, flux1_error *err)
{
    return error_set(
        err, FLUX1_ERR_UNSUPPORTED,
        "%s: %s is not what a T5 tokenizer has; put the model's spiece.model beside it and set add_prefix_space", name,
        what);
}

/* ---- normalizer ---- */

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static flux1_status decode_charsmap(const json_value *value, const char *name, t5_source *s, flux1_error *err)
{
    size_t size = json_string_length(value), n = 0;
    const char *text = json_string_value(value);
    if (!text || s->owned_charsmap)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: there should be one \"precompiled_charsmap\", a string", name);
    if (!(s->owned_charsmap = malloc(size / 4 * 3 + 4)))
        return error_oom(err, size, name);
    while (size > 0 && text[size - 1] == '=')
        size--;
    uint32_t bits = 0;
    for (size_t i = 0; i < size; i++) {
        int digit = base64_digit(text[i]);
        if (digit < 0)
            return error_set(err, FLUX1_ERR_FORMAT, "%s: \"precompiled_charsmap\" is not base64: character %zu", name,
                             i);
        bits = bits << 6 | (uint32_t)digit;
        if (i % 4 > 0)
            s->owned_charsmap[n++] = (char)(bits >> (6 - 2 * (i % 4)));
    }
    s->charsmap = s->owned_charsmap;
    s->charsmap_bytes = n;
    return FLUX1_OK;
}

/* The steps have one order: character map, strip, collapse spaces. Each may be missing. */
typedef enum normal_step { STEP_NONE, STEP_MAP, STEP_STRIP, STEP_COLLAPSE } normal_step;

static flux1_status read_normal_step(const json_value *object, const char *name, t5_source *s, normal_step *last,
                                     flux1_error *err)
{
    normal_step step = settings_is_type(object, "Precompiled") ? STEP_MAP
                       : settings_is_type(object, "Strip")     ? STEP_STRIP
                       : settings_is_type(object, "Replace")   ? STEP_COLLAPSE
                                                               : STEP_NONE;
    if (step <= *last)
        return unsupported(name, "the normalizer", err);
    *last = step;
    if (step == STEP_MAP)
        return decode_charsmap(json_object_get(object, "precompiled_charsmap"), name, s, err);
    if (step == STEP_STRIP) {
        TRY(json_get_bool(object, name, "strip_left", &s->steps.strip_left, err));
        return json_get_bool(object, name, "strip_right", &s->steps.strip_right, err);
    }
    const char *pattern = json_string_value(json_object_get(json_object_get(object, "pattern"), "Regex"));
    const char *content = json_string_value(json_object_get(object, "content"));
    if (!pattern || strcmp(pattern, " {2,}") != 0 || !content || strcmp(content, WORD_MARK) != 0)
        return unsupported(name, "the normalizer's Replace", err);
    s->steps.collapse_spaces = true;
    return FLUX1_OK;
}

static flux1_status read_normalizer(const json_value *normalizer, const char *name, t5_source *s, flux1_error *err)
{
    normal_step last = STEP_NONE;
    if (!normalizer || json_is_null(normalizer))
        return FLUX1_OK;
    if (!settings_is_type(normalizer, "Sequence"))
        return read_normal_step(normalizer, name, s, &last, err);
    const json_value *list = json_object_get(normalizer, "normalizers");
    if (!json_is_array(list))
        return unsupported(name, "the normalizer", err);
    for (size_t i = 0; i < json_array_size(list); i++)
        TRY(read_normal_step(json_array_get(list, i), name, s, &last, err));
    return FLUX1_OK;
}

/* ---- word marks and the end token ---- */

/* Metaspace alone, or (from transformers 5 on) behind WhitespaceSplit. */
static flux1_status read_pre_tokenizer(const json_value *pre, const char *name, t5_source *s, flux1_error *err)
{
    const char *mark = WORD_MARK, *scheme = "always";
    bool add = true;
    s->steps.split = true;
    const json_value *list = settings_is_type(pre, "Sequence") ? json_object_get(pre, "pretokenizers") : NULL;
    if (json_array_size(list) == 2 && settings_is_type(json_array_get(list, 0), "WhitespaceSplit")) {
        s->steps.words_alone = true;
        pre = json_array_get(list, 1);
    }
    if (!settings_is_type(pre, "Metaspace"))
        return unsupported(name, "the pre_tokenizer", err);
    TRY(json_get_string(pre, name, "replacement", &mark, err));
    TRY(json_get_string(pre, name, "prepend_scheme", &scheme, err));
    TRY(json_get_bool(pre, name, "add_prefix_space", &add, err));
    TRY(json_get_bool(pre, name, "split", &s->steps.split, err));
    if (strcmp(mark, WORD_MARK) != 0)
        return unsupported(name, "the pre_tokenizer's replacement", err);
    if (!add || strcmp(scheme, "never") == 0)
        s->steps.prefix = PREFIX_NEVER;
    else if (strcmp(scheme, "first") == 0)
        s->steps.prefix = PREFIX_FIRST;
    else if (strcmp(scheme, "always") == 0)
        s->steps.prefix = PREFIX_ALWAYS;
    else
        return unsupported(name, "the pre_tokenizer's prepend_scheme", err);
    return FLUX1_OK;
}

/* TemplateProcessing "$A" or "$A </s>"; none at all is "$A". */
static flux1_status read_template(const json_value *post, const char *name, t5_source *s, flux1_error *err)
{
    if (!post || json_is_null(post))
        return FLUX1_OK;
    const json_value *single = json_object_get(post, "single");
    size_t count = json_array_size(single);
    const json_value *end = json_object_get(json_array_get(single, 1), "SpecialToken");
    if (!settings_is_type(post, "TemplateProcessing") || count < 1 || count > 2 ||
        !json_object_get(json_array_get(single, 0), "Sequence") || (count == 2 && !end))
        return unsupported(name, "the post_processor", err);
    if (count == 1)
        return FLUX1_OK;
    const char *key = json_string_value(json_object_get(end, "id"));
    const json_value *ids =
        json_object_get(json_object_get(json_object_get(post, "special_tokens"), key ? key : ""), "ids");
    const json_value *id = json_array_get(ids, 0);
    if (json_array_size(ids) != 1 || !json_is_integer(id) || json_integer_value(id) < 0 ||
        json_integer_value(id) >= INT32_MAX)
        return unsupported(name, "the post_processor's end token", err);
    s->steps.end_token = true;
    s->end = json_integer_value(id);
    return FLUX1_OK;
}

/* ---- model ---- */

/* The oracle's JSON reader rounds twice: it takes the digits as an integer, in double, and divides by a power of ten
 * (serde_json without float_roundtrip). A quarter of T5's scores come out one unit off, which decides between
 * segmentations of equal score. Files have the shortest digits that give `value`. */
static double score_as_read(double value)
{
    char text[40];
    int precision = 14;
    do
        snprintf(text, sizeof text, "%.*e", precision, value);
    while (strtod(text, NULL) != value && ++precision <= 16);
    uint64_t digits = 0;
    int exponent = 0, behind_point = -1;
    for (const char *p = text; *p; p++) {
        if (*p == 'e') {
            exponent = atoi(p + 1);
            break;
        }
        if (*p >= '0' && *p <= '9') {
            digits = digits * 10 + (uint64_t)(*p - '0');
            behind_point++;
        }
    }
    exponent -= behind_point;
    for (; digits && digits % 10 == 0; digits /= 10)
        exponent++;
    double read = exponent < 0 ? (double)digits / pow(10, -exponent) : (double)digits * pow(10, exponent);
    return value < 0 ? -read : read;
}

static flux1_status read_vocabulary(const json_value *vocab, const char *name, t5_source *s, flux1_error *err)
{
    if (!json_is_array(vocab))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"model\" should have an array \"vocab\" of pieces and scores",
                         name);
    for (size_t i = 0; i < json_array_size(vocab); i++) {
        const json_value *item = json_array_get(vocab, i), *text = json_array_get(item, 0),
                         *score = json_array_get(item, 1);
        if (!json_is_string(text) || !json_is_number(score) || json_string_length(text) > T5_PIECE_BYTES_MAX)
            return error_set(err, FLUX1_ERR_FORMAT,
                             "%s: entry %zu of the vocabulary should be a string of at most %d bytes and a number",
                             name, i, T5_PIECE_BYTES_MAX);
        TRY(t5_source_add(s,
                          (t5_piece){json_string_value(text), (uint32_t)json_string_length(text), false,
                                     score_as_read(json_number_value(score))},
                          err));
    }
    return FLUX1_OK;
}

flux1_status t5_read_json(const json_value *root, const char *name, t5_source *s, flux1_error *err)
{
    const json_value *model = json_object_get(root, "model");
    bool fallback = false;
    if (!json_is_object(model))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: should have an object \"model\"", name);
    if (!settings_is_type(model, "Unigram"))
        return unsupported(name, "the model's type", err);
    TRY(json_get_bool(model, name, "byte_fallback", &fallback, err));
    if (fallback)
        return unsupported(name, "byte_fallback", err);
    s->unknown = -1;
    TRY(json_get_int(model, name, "unk_id", 0, INT32_MAX - 1, &s->unknown, err));
    TRY(read_vocabulary(json_object_get(model, "vocab"), name, s, err));
    TRY(read_normalizer(json_object_get(root, "normalizer"), name, s, err));
    TRY(read_pre_tokenizer(json_object_get(root, "pre_tokenizer"), name, s, err));
    return read_template(json_object_get(root, "post_processor"), name, s, err);
}
