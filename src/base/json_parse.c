/* The parser. jansson's values, but not its loader: that one (2.14) runs over its buffers when an allocation fails in a
 * string, recurses 2048 deep, and refuses a whole file for one integer beyond 64 bits. RFC 8259, with what we add: an
 * object or a list at the top, depth 64, no duplicate keys, no NUL in a string. */
#include "base/json.h"

#include "base/utf8.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 64
#define NUMBER_MAX 400 /* characters; the longest double written out has 309 digits */

typedef struct reader {
    const char *begin, *p, *end;
    const char *name;
    int depth;
    flux1_error *err;
} reader;

/* A string's decoded bytes: in the input itself unless it has escapes. */
typedef struct text {
    const char *bytes;
    size_t length;
    char *owned;
} text;

static flux1_status fault(reader *r, const char *at, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* `name:line:column: …`, 1-based, columns in characters. */
static flux1_status fault(reader *r, const char *at, const char *format, ...)
{
    char sentence[FLUX1_MESSAGE_MAX];
    size_t line = 1, column = 1;
    for (const char *p = r->begin; p < at; p++) {
        if (*p == '\n') {
            line++;
            column = 1;
        } else if (!utf8_continues(*p)) {
            column++;
        }
    }
    va_list ap;
    va_start(ap, format);
    vsnprintf(sentence, sizeof sentence, format, ap);
    va_end(ap);
    return error_set(r->err, FLUX1_ERR_FORMAT, "%s:%zu:%zu: %s", r->name, line, column, sentence);
}

static flux1_status unexpected(reader *r, const char *wanted)
{
    if (r->p == r->end)
        return fault(r, r->p, "the JSON is cut short, %s should follow; get the whole of it", wanted);
    unsigned char c = (unsigned char)*r->p;
    if (c > 0x20 && c < 0x7f)
        return fault(r, r->p, "not valid JSON: '%c' where %s should stand", c, wanted);
    return fault(r, r->p, "not valid JSON: byte 0x%02x where %s should stand", c, wanted);
}

static void skip_space(reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\t' || *r->p == '\r'))
        r->p++;
}

/* Four hex digits at p; -1 if they are not. */
static long hex4(const char *p, const char *end)
{
    long value = 0;
    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* The escape at *p (behind the backslash) into out; *p moves behind it. The escape is never shorter than what it stands
 * for. */
static flux1_status unescape(reader *r, const char **p, const char *end, char **out)
{
    static const char plain[] = "\"\"\\\\//b\bf\fn\nr\rt\t"; /* pairs: letter, character */
    const char *at = *p - 1;
    char letter = *(*p)++;
    if (letter != 'u') {
        for (const char *pair = plain; *pair; pair += 2)
            if (*pair == letter) {
                *(*out)++ = pair[1];
                return FLUX1_OK;
            }
        return fault(r, at, "not valid JSON: an escape that does not exist");
    }
    long c = hex4(*p, end);
    if (c < 0)
        return fault(r, at, "not valid JSON: \\u needs four hex digits");
    *p += 4;
    if (c >= 0xD800 && c <= 0xDBFF && end - *p >= 2 && (*p)[0] == '\\' && (*p)[1] == 'u') {
        long low = hex4(*p + 2, end);
        if (low >= 0xDC00 && low <= 0xDFFF) {
            c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
            *p += 6;
        }
    }
    if (c == 0 || (c >= 0xD800 && c <= 0xDFFF))
        return fault(r, at, "not valid JSON: %s", c ? "half of a surrogate pair" : "a NUL character in a text");
    *out += utf8_encode((int32_t)c, *out);
    return FLUX1_OK;
}

/* Finds the closing quote, checking every character on the way; *escapes tells whether there is anything to decode.
 * r->p is behind the opening quote. */
static flux1_status scan_string(reader *r, const char **closing, bool *escapes)
{
    const char *p = r->p;
    int32_t c;
    *escapes = false;
    while (p < r->end && *p != '"') {
        size_t n = 1;
        if (*p == '\\') {
            *escapes = true;
            p++;
            if (p == r->end)
                break;
        }
        if ((unsigned char)*p < 0x20)
            return fault(r, p, "not valid JSON: a control character (0x%02x) in a text", (unsigned char)*p);
        if (!(n = utf8_decode(p, (size_t)(r->end - p), &c)))
            return fault(r, p, "not valid UTF-8: byte 0x%02x", (unsigned char)*p);
        p += n;
    }
    if (p >= r->end)
        return fault(r, r->end, "the JSON is cut short in a text; get the whole of it");
    *closing = p;
    return FLUX1_OK;
}

/* r->p at the opening quote. free(out->owned) afterwards, also on failure. */
static flux1_status read_string(reader *r, text *out)
{
    const char *closing = NULL;
    bool escapes = false;
    *out = (text){0};
    r->p++;
    TRY(scan_string(r, &closing, &escapes));
    *out = (text){.bytes = r->p, .length = (size_t)(closing - r->p)};
    if (escapes) {
        if (!(out->owned = malloc(out->length)))
            return error_oom(r->err, out->length, r->name);
        char *end = out->owned;
        for (const char *p = r->p; p < closing;) {
            if (*p != '\\') {
                *end++ = *p++;
                continue;
            }
            p++;
            TRY(unescape(r, &p, closing, &end));
        }
        out->bytes = out->owned;
        out->length = (size_t)(end - out->owned);
    }
    r->p = closing + 1;
    return FLUX1_OK;
}

static const char *skip_digits(const char *p, const char *end)
{
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p;
}

/* The end of the number at r->p by JSON's grammar, or a fault; *real: it has a fraction or an exponent. */
static flux1_status scan_number(reader *r, const char **end, bool *real)
{
    const char *p = r->p, *digits;
    *real = false;
    if (p < r->end && *p == '-')
        p++;
    digits = p;
    p = skip_digits(p, r->end);
    if (p == digits || (*digits == '0' && p - digits > 1))
        return fault(r, r->p, "not valid JSON: a malformed number");
    if (p < r->end && *p == '.') {
        *real = true;
        digits = ++p;
        p = skip_digits(p, r->end);
        if (p == digits)
            return fault(r, r->p, "not valid JSON: a malformed number");
    }
    if (p < r->end && (*p == 'e' || *p == 'E')) {
        *real = true;
        if (++p < r->end && (*p == '+' || *p == '-'))
            p++;
        digits = p;
        p = skip_digits(p, r->end);
        if (p == digits)
            return fault(r, r->p, "not valid JSON: a malformed number");
    }
    *end = p;
    return FLUX1_OK;
}

static flux1_status read_number(reader *r, json_t **out)
{
    char digits[NUMBER_MAX + 1];
    const char *end = r->p;
    bool real = false;
    TRY(scan_number(r, &end, &real));
    size_t length = (size_t)(end - r->p);
    if (length > NUMBER_MAX)
        return fault(r, r->p, "a number of %zu characters, at most %d are read", length, NUMBER_MAX);
    memcpy(digits, r->p, length);
    digits[length] = '\0';
    errno = 0;
    if (!real) {
        long long integer = strtoll(digits, NULL, 10);
        /* beyond 64 bits: a double. tokenizer_config.json has such ("model_max_length": 1e30 spelled out) */
        real = errno == ERANGE;
        if (!real)
            *out = json_integer(integer);
    }
    if (real) {
        char *point = strchr(digits, '.');
        if (point)
            *point = localeconv()->decimal_point[0]; /* strtod reads the locale's numbers */
        double value = strtod(digits, NULL);
        if (!isfinite(value))
            return fault(r, r->p, "a number too large for a double");
        *out = json_real(value);
    }
    if (!*out)
        return error_oom(r->err, 0, r->name);
    r->p = end;
    return FLUX1_OK;
}

static flux1_status read_value(reader *r, json_t **out);

/* One `"key": value` into the object. */
static flux1_status read_member(reader *r, json_t *object)
{
    text key;
    json_t *value = NULL;
    const char *at = r->p;
    if (r->p == r->end || *r->p != '"')
        return unexpected(r, "a key in quotes");
    flux1_status st = read_string(r, &key);
    if (st == FLUX1_OK && json_object_getn(object, key.bytes, key.length))
        st = fault(r, at, "the key \"%.*s\" stands there twice", key.length < 1000 ? (int)key.length : 1000, key.bytes);
    skip_space(r);
    if (st == FLUX1_OK && (r->p == r->end || *r->p != ':'))
        st = unexpected(r, "':'");
    if (st == FLUX1_OK) {
        r->p++;
        st = read_value(r, &value);
    }
    /* takes the value over, also when it fails */
    if (st == FLUX1_OK && json_object_setn_new_nocheck(object, key.bytes, key.length, value) != 0)
        st = error_oom(r->err, 0, r->name);
    free(key.owned);
    return st;
}

static flux1_status read_element(reader *r, json_t *array)
{
    json_t *value = NULL;
    TRY(read_value(r, &value));
    return json_array_append_new(array, value) == 0 ? FLUX1_OK : error_oom(r->err, 0, r->name);
}

/* An object or a list: r->p at its bracket. */
static flux1_status read_container(reader *r, json_t **out)
{
    bool object = *r->p == '{';
    char closing = object ? '}' : ']';
    if (++r->depth > DEPTH_MAX)
        return fault(r, r->p, "JSON nested more than %d levels deep; a model's own files are never that deep",
                     DEPTH_MAX);
    json_t *container = object ? json_object() : json_array();
    if (!container)
        return error_oom(r->err, 0, r->name);
    flux1_status st = FLUX1_OK;
    r->p++;
    skip_space(r);
    bool closed = r->p < r->end && *r->p == closing;
    while (st == FLUX1_OK && !closed) {
        st = object ? read_member(r, container) : read_element(r, container);
        skip_space(r);
        closed = st == FLUX1_OK && r->p < r->end && *r->p == closing;
        if (st != FLUX1_OK || closed)
            break;
        if (r->p == r->end || *r->p != ',')
            st = unexpected(r, object ? "',' or '}'" : "',' or ']'");
        else
            r->p++;
        skip_space(r);
    }
    if (st != FLUX1_OK) {
        json_decref(container);
        return st;
    }
    r->p++;
    r->depth--;
    *out = container;
    return FLUX1_OK;
}

static bool take_word(reader *r, const char *word)
{
    size_t length = strlen(word);
    if ((size_t)(r->end - r->p) < length || memcmp(r->p, word, length) != 0)
        return false;
    r->p += length;
    return true;
}

static flux1_status read_value(reader *r, json_t **out)
{
    text string;
    *out = NULL;
    skip_space(r);
    if (r->p == r->end)
        return unexpected(r, "a value");
    switch (*r->p) {
    case '{':
    case '[': return read_container(r, out);
    case '"': {
        flux1_status st = read_string(r, &string);
        if (st == FLUX1_OK && !(*out = json_stringn_nocheck(string.bytes, string.length)))
            st = error_oom(r->err, string.length, r->name);
        free(string.owned);
        return st;
    }
    case 't': *out = take_word(r, "true") ? json_true() : NULL; break;
    case 'f': *out = take_word(r, "false") ? json_false() : NULL; break;
    case 'n': *out = take_word(r, "null") ? json_null() : NULL; break;
    default:
        if (*r->p == '-' || (*r->p >= '0' && *r->p <= '9'))
            return read_number(r, out);
    }
    return *out ? FLUX1_OK : unexpected(r, "a value");
}

flux1_status json_parse(const char *bytes, size_t length, const char *name, json_t **out, flux1_error *err)
{
    *out = NULL;
    if (length == 0)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: the file is empty, it should be JSON", name);
    reader r = {.begin = bytes, .p = bytes, .end = bytes + length, .name = name, .err = err};
    skip_space(&r);
    if (r.p == r.end || (*r.p != '{' && *r.p != '['))
        return unexpected(&r, "an object or a list");
    json_t *root;
    TRY(read_container(&r, &root));
    skip_space(&r);
    if (r.p != r.end) {
        json_decref(root);
        return unexpected(&r, "the end of the file");
    }
    *out = root;
    return FLUX1_OK;
}
