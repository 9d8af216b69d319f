/* The reader. A container's children are kept on a stack until it closes and its size is known; then they are copied
 * behind one another into the document's memory. */
#include "base/json.h"

#include "base/checked.h"
#include "base/file.h"
#include "base/stand_in.h"
#include "base/utf8.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX ((size_t)64 << 20)
#define NUMBER_MAX 400 /* characters; the longest double written out has 309 digits */
#define CHUNK_LEAST ((size_t)1 << 10)
#define CHUNK_MOST ((size_t)1 << 20)

/* ---- the document's memory ---- */

typedef struct chunk {
    struct chunk *next;
    size_t used, size;
    max_align_t bytes[];
} chunk;

typedef struct document {
    json_value root;
    chunk *chunks; /* the first of them holds the document */
} document;

/* A child of a container that is still open. */
typedef struct child {
    json_member member;
    const char *at; /* where its key stands */
} child;

typedef struct reader {
    const char *begin, *p, *end;
    const char *name;
    bool python;
    int depth;
    chunk *chunks;
    child *stack;
    size_t stack_count, stack_capacity;
    flux1_error *err;
} reader;

/* Memory of the document; NULL after error_oom. */
static void *take(reader *r, size_t size)
{
    size_t room = 0, whole = 0;
    size = size_round_up(size, sizeof(void *));
    if (!r->chunks || size > r->chunks->size - r->chunks->used) {
        room = r->chunks ? r->chunks->size * 2 : (size_t)(r->end - r->begin);
        room = room < CHUNK_LEAST ? CHUNK_LEAST : room > CHUNK_MOST ? CHUNK_MOST : room;
        room = room < size ? size : room;
        chunk *c = size_add(room, sizeof *c, &whole) ? malloc(whole) : NULL;
        if (!c) {
            error_oom(r->err, whole, r->name);
            return NULL;
        }
        *c = (chunk){.next = r->chunks, .size = room};
        r->chunks = c;
    }
    void *taken = (char *)r->chunks->bytes + r->chunks->used;
    r->chunks->used += size;
    return taken;
}

static void free_chunks(chunk *c)
{
    while (c) {
        chunk *next = c->next;
        free(c);
        c = next;
    }
}

static flux1_status push(reader *r, const child *one)
{
    if (r->stack_count == r->stack_capacity) {
        size_t capacity = r->stack_capacity ? r->stack_capacity : 32, bytes = 0;
        child *grown = size_mul(capacity, 2, &capacity) && size_mul(capacity, sizeof *grown, &bytes)
                           ? realloc(r->stack, bytes)
                           : NULL;
        if (!grown)
            return error_oom(r->err, bytes, r->name);
        r->stack = grown;
        r->stack_capacity = capacity;
    }
    r->stack[r->stack_count++] = *one;
    return FLUX1_OK;
}

/* ---- faults ---- */

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

/* ---- texts ---- */

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

/* r->p at the opening quote. *out ends in NUL. */
static flux1_status read_string(reader *r, const char **out, uint32_t *length)
{
    const char *closing = NULL;
    bool escapes = false;
    r->p++;
    TRY(scan_string(r, &closing, &escapes));
    char *text = take(r, (size_t)(closing - r->p) + 1), *end = text;
    if (!text)
        return FLUX1_ERR_MEMORY;
    if (!escapes) {
        memcpy(text, r->p, (size_t)(closing - r->p));
        end += closing - r->p;
    }
    for (const char *p = r->p; escapes && p < closing;) {
        if (*p == '\\') {
            p++;
            TRY(unescape(r, &p, closing, &end));
        } else
            *end++ = *p++;
    }
    *end = '\0';
    *out = text;
    *length = (uint32_t)(end - text);
    r->p = closing + 1;
    return FLUX1_OK;
}

/* ---- numbers ---- */

static const char *skip_digits(const char *p, const char *end)
{
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p;
}

/* A number taken apart: [-] whole [. fraction] [e exponent]. */
typedef struct number {
    bool negative, real; /* real: it has a fraction or an exponent */
    const char *whole, *whole_end, *fraction, *fraction_end;
    int exponent; /* held within what no double needs */
} number;

static int read_exponent(const char *p, const char *end)
{
    bool negative = *p == '-';
    int value = 0;
    for (p += *p == '-' || *p == '+'; p < end; p++)
        value = value < 100000 ? value * 10 + (*p - '0') : value;
    return negative ? -value : value;
}

/* The number at r->p by JSON's grammar, or a fault; r->p moves behind it. */
static flux1_status scan_number(reader *r, number *out)
{
    const char *p = r->p;
    *out = (number){.negative = *p == '-'};
    p += out->negative;
    out->whole = p;
    out->whole_end = out->fraction = out->fraction_end = p = skip_digits(p, r->end);
    if (p == out->whole || (*out->whole == '0' && p - out->whole > 1))
        return fault(r, r->p, "not valid JSON: a malformed number");
    if (p < r->end && *p == '.') {
        out->real = true;
        out->fraction = ++p;
        out->fraction_end = p = skip_digits(p, r->end);
        if (p == out->fraction)
            return fault(r, r->p, "not valid JSON: a malformed number");
    }
    if (p < r->end && (*p == 'e' || *p == 'E')) {
        const char *exponent = ++p, *digits = p + (p < r->end && (*p == '+' || *p == '-'));
        out->real = true;
        p = skip_digits(digits, r->end);
        if (p == digits)
            return fault(r, r->p, "not valid JSON: a malformed number");
        out->exponent = read_exponent(exponent, p);
    }
    if (p - r->p > NUMBER_MAX)
        return fault(r, r->p, "a number of %zu characters, at most %d are read", (size_t)(p - r->p), NUMBER_MAX);
    r->p = p;
    return FLUX1_OK;
}

/* False if it does not fit 64 bits. */
static bool integer_of(const number *n, json_value *out)
{
    uint64_t value = 0;
    for (const char *p = n->whole; p < n->whole_end; p++) {
        unsigned digit = (unsigned)(*p - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    if (n->negative && value > (uint64_t)INT64_MAX + 1)
        return false;
    if (n->negative)
        *out = (json_value){.kind = JSON_INTEGER, .integer = value ? -(int64_t)(value - 1) - 1 : 0};
    else if (value <= INT64_MAX)
        *out = (json_value){.kind = JSON_INTEGER, .integer = (int64_t)value};
    else
        *out = (json_value){.kind = JSON_UNSIGNED, .large = value};
    return true;
}

/* strtod reads the locale's point, so it is given none: the digits in front and behind as one integer, and an exponent
 * that makes up for it. */
static double real_of(const number *n)
{
    char digits[NUMBER_MAX + 32];
    size_t whole = (size_t)(n->whole_end - n->whole), fraction = (size_t)(n->fraction_end - n->fraction);
    memcpy(digits, n->whole, whole);
    memcpy(digits + whole, n->fraction, fraction);
    snprintf(digits + whole + fraction, sizeof digits - whole - fraction, "e%d", n->exponent - (int)fraction);
    double value = strtod(digits, NULL);
    return n->negative ? -value : value;
}

static flux1_status read_number(reader *r, json_value *out)
{
    number n;
    const char *at = r->p;
    TRY(scan_number(r, &n));
    /* an integer beyond 64 bits is a double: tokenizer_config.json has "model_max_length": 1e30 spelled out */
    if (!n.real && integer_of(&n, out))
        return FLUX1_OK;
    *out = (json_value){.kind = JSON_REAL, .real = real_of(&n)};
    return isfinite(out->real) || r->python ? FLUX1_OK : fault(r, at, "a number too large for a double");
}

static bool take_word(reader *r, const char *word)
{
    size_t length = strlen(word);
    if ((size_t)(r->end - r->p) < length || memcmp(r->p, word, length) != 0)
        return false;
    r->p += length;
    return true;
}

/* The values that are words. */
static bool read_word(reader *r, json_value *out)
{
    static const struct {
        const char *word;
        bool python;
        json_value value;
    } words[] = {
        {"true", false, {.kind = JSON_TRUE}},
        {"false", false, {.kind = JSON_FALSE}},
        {"null", false, {.kind = JSON_NULL}},
        {"NaN", true, {.kind = JSON_REAL, .real = NAN}},
        {"Infinity", true, {.kind = JSON_REAL, .real = INFINITY}},
        {"-Infinity", true, {.kind = JSON_REAL, .real = -INFINITY}},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if ((r->python || !words[i].python) && take_word(r, words[i].word)) {
            *out = words[i].value;
            return true;
        }
    return false;
}

/* ---- containers ---- */

/* Equal keys keep their order: the members lie one behind the other. */
static int by_key(const void *a, const void *b)
{
    const json_member *const *x = a, *const *y = b;
    int order = strcmp((*x)->key, (*y)->key);
    return order ? order : *x < *y ? -1 : *x > *y;
}

static void sort_members(json_member *members, size_t count, const json_member **sorted)
{
    for (size_t i = 0; i < count; i++)
        sorted[i] = &members[i];
    qsort(sorted, count, sizeof *sorted, by_key);
}

/* Of members with one key, Python keeps the first one's place and the last one's value. Returns how many are left. */
static size_t merge_duplicates(json_member *members, size_t count, const json_member **sorted)
{
    size_t left = 0;
    for (size_t i = 0, next; i < count; i = next) {
        for (next = i + 1; next < count && strcmp(sorted[next]->key, sorted[i]->key) == 0; next++)
            members[sorted[next] - members].key = NULL;
        members[sorted[i] - members].value = sorted[next - 1]->value;
    }
    for (size_t i = 0; i < count; i++)
        if (members[i].key)
            members[left++] = members[i];
    return left;
}

/* The first key that stood before: its member's index, `count` if there is none. */
static size_t first_duplicate(const json_member *members, size_t count, const json_member **sorted)
{
    size_t found = count;
    for (size_t i = 1; i < count; i++)
        if (strcmp(sorted[i - 1]->key, sorted[i]->key) == 0 && (size_t)(sorted[i] - members) < found)
            found = (size_t)(sorted[i] - members);
    return found;
}

static flux1_status close_object(reader *r, size_t first, json_value *out)
{
    size_t count = r->stack_count - first;
    *out = (json_value){.kind = JSON_OBJECT};
    if (count == 0)
        return FLUX1_OK;
    json_member *members = take(r, count * (sizeof *members + sizeof(json_member *)));
    if (!members)
        return FLUX1_ERR_MEMORY;
    for (size_t i = 0; i < count; i++)
        members[i] = r->stack[first + i].member;
    const json_member **sorted = (const json_member **)(members + count);
    sort_members(members, count, sorted);
    size_t twice = first_duplicate(members, count, sorted);
    if (twice < count && !r->python)
        return fault(r, r->stack[first + twice].at, "the key \"%.1000s\" is given twice", members[twice].key);
    if (twice < count) {
        count = merge_duplicates(members, count, sorted);
        sort_members(members, count, (const json_member **)(members + count));
    }
    out->count = (uint32_t)count;
    out->member = members;
    return FLUX1_OK;
}

static flux1_status close_array(reader *r, size_t first, json_value *out)
{
    size_t count = r->stack_count - first;
    *out = (json_value){.kind = JSON_ARRAY, .count = (uint32_t)count};
    if (count == 0)
        return FLUX1_OK;
    json_value *elements = take(r, count * sizeof *elements);
    if (!elements)
        return FLUX1_ERR_MEMORY;
    for (size_t i = 0; i < count; i++)
        elements[i] = r->stack[first + i].member.value;
    out->element = elements;
    return FLUX1_OK;
}

static flux1_status read_value(reader *r, json_value *out);

/* One `"key": value`, or one element, onto the stack. */
static flux1_status read_child(reader *r, bool object)
{
    child one = {.at = r->p};
    uint32_t length;
    if (object) {
        if (r->p == r->end || *r->p != '"')
            return unexpected(r, "a key in quotes");
        TRY(read_string(r, &one.member.key, &length));
        skip_space(r);
        if (r->p == r->end || *r->p != ':')
            return unexpected(r, "':'");
        r->p++;
    }
    TRY(read_value(r, &one.member.value));
    return push(r, &one);
}

/* An object or a list: r->p at its bracket. */
static flux1_status read_container(reader *r, json_value *out)
{
    bool object = *r->p == '{';
    char closing = object ? '}' : ']';
    size_t first = r->stack_count;
    if (++r->depth > JSON_DEPTH_MAX)
        return fault(r, r->p, "JSON nested more than %d levels deep", JSON_DEPTH_MAX);
    r->p++;
    skip_space(r);
    while (r->p == r->end || *r->p != closing || r->stack_count > first) {
        TRY(read_child(r, object));
        skip_space(r);
        if (r->p < r->end && *r->p == closing)
            break;
        if (r->p == r->end || *r->p != ',')
            return unexpected(r, object ? "',' or '}'" : "',' or ']'");
        r->p++;
        skip_space(r);
    }
    r->p++;
    r->depth--;
    TRY(object ? close_object(r, first, out) : close_array(r, first, out));
    r->stack_count = first;
    return FLUX1_OK;
}

static flux1_status read_value(reader *r, json_value *out)
{
    skip_space(r);
    if (r->p == r->end)
        return unexpected(r, "a value");
    if (*r->p == '{' || *r->p == '[')
        return read_container(r, out);
    if (*r->p == '"') {
        *out = (json_value){.kind = JSON_STRING};
        return read_string(r, &out->string, &out->count);
    }
    if (read_word(r, out))
        return FLUX1_OK;
    if (*r->p == '-' || (*r->p >= '0' && *r->p <= '9'))
        return read_number(r, out);
    return unexpected(r, "a value");
}

/* ---- the whole ---- */

static flux1_status read_document(reader *r, document **out)
{
    document *d = take(r, sizeof *d);
    if (!d)
        return FLUX1_ERR_MEMORY;
    skip_space(r);
    if (r->p == r->end || (*r->p != '{' && *r->p != '['))
        return unexpected(r, "an object or a list");
    TRY(read_container(r, &d->root));
    skip_space(r);
    if (r->p != r->end)
        return unexpected(r, "the end of the file");
    d->chunks = r->chunks;
    r->chunks = NULL;
    *out = d;
    return FLUX1_OK;
}

static flux1_status parse(bool python, const char *bytes, size_t length, const char *name, json_value **out,
                          flux1_error *err)
{
    document *d = NULL;
    *out = NULL;
    if (length == 0)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: the file is empty, it should be JSON", name);
    if (length >= UINT32_MAX)
        return error_set(err, FLUX1_ERR_LIMIT, "%s: %zu bytes of JSON, at most 4 GB are read", name, length);
    reader r = {.begin = bytes, .p = bytes, .end = bytes + length, .name = name, .python = python, .err = err};
    flux1_status st = read_document(&r, &d);
    free_chunks(r.chunks);
    free(r.stack);
    if (st == FLUX1_OK)
        *out = &d->root;
    return st;
}

flux1_status json_parse(const char *bytes, size_t length, const char *name, json_value **out, flux1_error *err)
{
    return parse(false, bytes, length, name, out, err);
}

flux1_status json_parse_python(const char *bytes, size_t length, const char *name, json_value **out, flux1_error *err)
{
    return parse(true, bytes, length, name, out, err);
}

flux1_status json_parse_file(const char *path, json_value **out, flux1_error *err)
{
    char *bytes;
    size_t size;
    *out = NULL;
    TRY(file_read(path, FILE_BYTES_MAX, &bytes, &size, err));
    flux1_status st = stand_in_check(path, bytes, size, err);
    if (st == FLUX1_OK)
        st = json_parse_python(bytes, size, path, out, err);
    free(bytes);
    return st;
}

void json_free(json_value *root)
{
    if (root)
        free_chunks(((document *)(void *)root)->chunks);
}
