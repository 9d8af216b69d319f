#include "base/json.h"

#include "base/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- looking ---- */

size_t json_object_size(const json_value *object) { return json_is_object(object) ? object->count : 0; }
size_t json_array_size(const json_value *array) { return json_is_array(array) ? array->count : 0; }

const json_value *json_object_get(const json_value *object, const char *key)
{
    size_t low = 0, high = json_object_size(object);
    const json_member *const *sorted = high ? (const json_member *const *)(object->member + high) : NULL;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(key, sorted[middle]->key);
        if (order == 0)
            return &sorted[middle]->value;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const json_value *json_object_at(const json_value *object, size_t index, const char **key)
{
    if (index >= json_object_size(object))
        return NULL;
    *key = object->member[index].key;
    return &object->member[index].value;
}

const json_value *json_array_get(const json_value *array, size_t index)
{
    return index < json_array_size(array) ? &array->element[index] : NULL;
}

const char *json_string_value(const json_value *v) { return json_is_string(v) ? v->string : NULL; }
size_t json_string_length(const json_value *v) { return json_is_string(v) ? v->count : 0; }
int64_t json_integer_value(const json_value *v) { return json_is_integer(v) ? v->integer : 0; }

double json_number_value(const json_value *v)
{
    if (json_is(v, JSON_UNSIGNED))
        return (double)v->large;
    return json_is_integer(v) ? (double)v->integer : json_is_real(v) ? v->real : 0;
}

/* ---- numbers as text ---- */

const char *json_real_text(double value, char out[JSON_NUMBER_ROOM])
{
    char text[JSON_NUMBER_ROOM], digits[20];
    int count = 0, exponent, precision = 0;
    if (!isfinite(value))
        return strcpy(out, isnan(value) ? "NaN" : value < 0 ? "-Infinity" : "Infinity");
    do
        snprintf(text, sizeof text, "%.*e", precision, fabs(value));
    while (strtod(text, NULL) != fabs(value) && ++precision <= 16);
    const char *p = text;
    for (; *p != 'e'; p++) /* the point is the locale's */
        if (*p >= '0' && *p <= '9')
            digits[count++] = *p;
    exponent = atoi(p + 1);
    char *end = out;
    if (signbit(value))
        *end++ = '-';
    bool scientific = exponent < -4 || exponent >= 16;
    int whole = scientific ? 1 : exponent + 1; /* digits in front of the point */
    if (whole <= 0)
        *end++ = '0';
    for (int i = 0; i < whole; i++)
        *end++ = i < count ? digits[i] : '0';
    if (count > whole || !scientific)
        *end++ = '.';
    for (int i = whole; i < 0; i++)
        *end++ = '0';
    for (int i = whole > 0 ? whole : 0; i < count; i++)
        *end++ = digits[i];
    if (!scientific && whole >= count)
        *end++ = '0';
    if (scientific)
        end += sprintf(end, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    *end = '\0';
    return out;
}

/* ---- getters ---- */

/* A short picture of a value for a message. */
static const char *describe(const json_value *value, char *buffer, size_t size) /* size >= JSON_NUMBER_ROOM */
{
    switch (value->kind) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    case JSON_NULL: return "null";
    case JSON_INTEGER: snprintf(buffer, size, "%" PRId64, value->integer); return buffer;
    case JSON_UNSIGNED: snprintf(buffer, size, "%" PRIu64, value->large); return buffer;
    case JSON_REAL: return json_real_text(value->real, buffer);
    case JSON_STRING: snprintf(buffer, size, "the text \"%.40s\"", json_string_value(value)); break;
    }
    utf8_blank_controls(buffer, ' ', "");
    return buffer;
}

/* *value NULL when the member is absent or null. */
static flux1_status member(const json_value *object, const char *name, const char *key, const json_value **value,
                           flux1_error *err)
{
    char text[96];
    *value = NULL;
    if (!json_is_object(object))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"%s\" is looked for in an object, but there is %s", name, key,
                         object ? describe(object, text, sizeof text) : "nothing");
    const json_value *found = json_object_get(object, key);
    if (!json_is_null(found))
        *value = found;
    return FLUX1_OK;
}

static flux1_status wrong(const char *name, const char *key, const json_value *value, const char *expected,
                          flux1_error *err)
{
    char text[96];
    return error_set(err, FLUX1_ERR_FORMAT, "%s: \"%s\" is %s, it should be %s", name, key,
                     describe(value, text, sizeof text), expected);
}

/* 64.0 is the integer 64; doubles hold integers exactly up to 2^53. */
static bool integer_of(const json_value *value, int64_t *out)
{
    if (json_is_integer(value)) {
        *out = json_integer_value(value);
        return true;
    }
    if (!json_is_real(value))
        return false;
    double x = value->real;
    if (!(fabs(x) <= 0x1p53) || x != floor(x))
        return false;
    *out = (int64_t)x;
    return true;
}

static flux1_status int_range_fault(const char *name, const char *key, const json_value *value, const char *what,
                                    int64_t min, int64_t max, flux1_error *err)
{
    char expected[128];
    if (max == INT64_MAX)
        snprintf(expected, sizeof expected, "%s of at least %" PRId64, what, min);
    else
        snprintf(expected, sizeof expected, "%s from %" PRId64 " to %" PRId64, what, min, max);
    return wrong(name, key, value, expected, err);
}

flux1_status json_get_int(const json_value *object, const char *name, const char *key, int64_t min, int64_t max,
                          int64_t *out, flux1_error *err)
{
    const json_value *value;
    int64_t number;
    TRY(member(object, name, key, &value, err));
    if (!value)
        return FLUX1_OK;
    if (!integer_of(value, &number) || number < min || number > max)
        return int_range_fault(name, key, value, "an integer", min, max, err);
    *out = number;
    return FLUX1_OK;
}

flux1_status json_get_real(const json_value *object, const char *name, const char *key, double *out, flux1_error *err)
{
    const json_value *value;
    TRY(member(object, name, key, &value, err));
    if (!value)
        return FLUX1_OK;
    if (!json_is_number(value) || !isfinite(json_number_value(value)))
        return wrong(name, key, value, "a number", err);
    *out = json_number_value(value);
    return FLUX1_OK;
}

flux1_status json_get_bool(const json_value *object, const char *name, const char *key, bool *out, flux1_error *err)
{
    const json_value *value;
    TRY(member(object, name, key, &value, err));
    if (!value)
        return FLUX1_OK;
    if (!json_is_true(value) && !json_is(value, JSON_FALSE))
        return wrong(name, key, value, "true or false", err);
    *out = json_is_true(value);
    return FLUX1_OK;
}

flux1_status json_get_string(const json_value *object, const char *name, const char *key, const char **out,
                             flux1_error *err)
{
    const json_value *value;
    TRY(member(object, name, key, &value, err));
    if (!value)
        return FLUX1_OK;
    if (!json_is_string(value))
        return wrong(name, key, value, "a text", err);
    *out = json_string_value(value);
    return FLUX1_OK;
}

flux1_status json_get_ints(const json_value *object, const char *name, const char *key, int64_t min, int64_t max,
                           int64_t *out, size_t capacity, size_t *count, flux1_error *err)
{
    const json_value *value;
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
        const json_value *element = json_array_get(value, i);
        int64_t number;
        if (!integer_of(element, &number) || number < min || number > max) {
            char place[80];
            snprintf(place, sizeof place, "%.48s[%zu]", key, i);
            return int_range_fault(name, place, element, "an integer", min, max, err);
        }
        out[i] = number;
    }
    *count = n;
    return FLUX1_OK;
}

flux1_status json_require(const json_value *object, const char *name, const char *key, flux1_error *err)
{
    const json_value *value;
    TRY(member(object, name, key, &value, err));
    if (!value)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"%s\" is missing", name, key);
    return FLUX1_OK;
}
