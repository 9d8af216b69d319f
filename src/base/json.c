#include "base/json.h"

#include "base/file.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define JSON_FILE_MAX ((size_t)64 << 20)

flux1_status json_parse_file(const char *path, json_t **out, flux1_error *err)
{
    char *bytes;
    size_t size;
    *out = NULL;
    TRY(file_read(path, JSON_FILE_MAX, &bytes, &size, err));
    flux1_status st = json_parse(bytes, size, path, out, err);
    free(bytes);
    return st;
}

/* A quoted text stays on one line. */
static void one_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = ' ';
}

/* A short picture of a value for a message. */
static const char *describe(const json_t *value, char *buffer, size_t size)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    case JSON_NULL: return "null";
    case JSON_INTEGER: snprintf(buffer, size, "%" JSON_INTEGER_FORMAT, json_integer_value(value)); return buffer;
    case JSON_REAL: snprintf(buffer, size, "%.17g", json_real_value(value)); return buffer;
    case JSON_STRING: snprintf(buffer, size, "the text \"%.40s\"", json_string_value(value)); break;
    }
    one_line(buffer);
    return buffer;
}

/* *value NULL when the member is absent or null. */
static flux1_status member(const json_t *object, const char *name, const char *key, const json_t **value,
                           flux1_error *err)
{
    char text[96];
    *value = NULL;
    if (!json_is_object(object))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"%s\" is looked for in an object, but there is %s", name, key,
                         object ? describe(object, text, sizeof text) : "nothing");
    const json_t *found = json_object_get(object, key);
    if (!json_is_null(found))
        *value = found;
    return FLUX1_OK;
}

static flux1_status wrong(const char *name, const char *key, const json_t *value, const char *expected,
                          flux1_error *err)
{
    char text[96];
    return error_set(err, FLUX1_ERR_FORMAT, "%s: \"%s\" is %s, it should be %s", name, key,
                     describe(value, text, sizeof text), expected);
}

/* 64.0 is the integer 64; doubles hold integers exactly up to 2^53. */
static bool integer_of(const json_t *value, int64_t *out)
{
    if (json_is_integer(value)) {
        *out = json_integer_value(value);
        return true;
    }
    if (!json_is_real(value))
        return false;
    double x = json_real_value(value);
    if (!(fabs(x) <= 0x1p53) || x != floor(x))
        return false;
    *out = (int64_t)x;
    return true;
}

static flux1_status int_range_fault(const char *name, const char *key, const json_t *value, const char *what,
                                    int64_t min, int64_t max, flux1_error *err)
{
    char expected[128];
    if (max == INT64_MAX)
        snprintf(expected, sizeof expected, "%s of at least %" PRId64, what, min);
    else
        snprintf(expected, sizeof expected, "%s from %" PRId64 " to %" PRId64, what, min, max);
    return wrong(name, key, value, expected, err);
}

flux1_status json_get_int(const json_t *object, const char *name, const char *key, int64_t min, int64_t max,
                          int64_t *out, flux1_error *err)
{
    const json_t *value;
    int64_t number;
    TRY(member(object, name, key, &value, err));
    if (!value)
        return FLUX1_OK;
    if (!integer_of(value, &number) || number < min || number > max)
        return int_range_fault(name, key, value, "an integer", min, max, err);
    *out = number;
    return FLUX1_OK;
}

flux1_status json_get_real(const json_t *object, const char *name, const char *key, double *out, flux1_error *err)
{
    const json_t *value;
    TRY(member(object, name, key, &value, err));
    if (!value)
        return FLUX1_OK;
    if (!json_is_number(value) || !isfinite(json_number_value(value)))
        return wrong(name, key, value, "a number", err);
    *out = json_number_value(value);
    return FLUX1_OK;
}

flux1_status json_get_bool(const json_t *object, const char *name, const char *key, bool *out, flux1_error *err)
{
    const json_t *value;
    TRY(member(object, name, key, &value, err));
    if (!value)
        return FLUX1_OK;
    if (!json_is_boolean(value))
        return wrong(name, key, value, "true or false", err);
    *out = json_is_true(value);
    return FLUX1_OK;
}

flux1_status json_get_string(const json_t *object, const char *name, const char *key, const char **out,
                             flux1_error *err)
{
    const json_t *value;
    TRY(member(object, name, key, &value, err));
    if (!value)
        return FLUX1_OK;
    if (!json_is_string(value))
        return wrong(name, key, value, "a text", err);
    *out = json_string_value(value);
    return FLUX1_OK;
}

flux1_status json_get_ints(const json_t *object, const char *name, const char *key, int64_t min, int64_t max,
                           int64_t *out, size_t capacity, size_t *count, flux1_error *err)
{
    const json_t *value;
    TRY(member(object, name, key, &value, err));
    if (!value)
        return FLUX1_OK;
    if (!json_is_array(value))
        return wrong(name, key, value, "a list of integers", err);
    size_t n = json_array_size(value);
    if (n > capacity)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"%s\" is a list of %zu, it should have at most %zu", name, key, n,
                         capacity);
    for (size_t i = 0; i < n; i++) {
        const json_t *element = json_array_get(value, i);
        int64_t number;
        if (!integer_of(element, &number) || number < min || number > max) {
            char what[48];
            snprintf(what, sizeof what, "(element %zu) an integer", i);
            return int_range_fault(name, key, element, what, min, max, err);
        }
        out[i] = number;
    }
    *count = n;
    return FLUX1_OK;
}

flux1_status json_require(const json_t *object, const char *name, const char *key, flux1_error *err)
{
    const json_t *value;
    TRY(member(object, name, key, &value, err));
    if (!value)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"%s\" is missing", name, key);
    return FLUX1_OK;
}
