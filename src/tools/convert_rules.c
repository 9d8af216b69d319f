#include "tools/convert.h"

#include "weights/store_base.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const convert_type convert_types[] = {
#define ROW(name, type, scaled, file_type) {name, DTYPE_##type, scaled, file_type},
    CONVERT_TYPE_MAP(ROW)
#undef ROW
};
enum { TYPES = sizeof convert_types / sizeof *convert_types };

static void unknown_type(const char *name, size_t length, char *problem, size_t size)
{
    size_t used = (size_t)snprintf(problem, size, "unknown type \"%.*s\"; it should be one of ",
                                   (int)(length < 40 ? length : 40), name);
    for (int i = 0; i < TYPES && used < size; i++)
        used += (size_t)snprintf(problem + used, size - used, "%s%s", i ? ", " : "", convert_types[i].name);
}

const convert_type *convert_type_named(const char *name, size_t length, bool is_gguf, char *problem, size_t size)
{
    int i = 0;
    while (i < TYPES &&
           (strlen(convert_types[i].name) != length || strncasecmp(convert_types[i].name, name, length) != 0))
        i++;
    if (i == TYPES) {
        unknown_type(name, length, problem, size);
        return NULL;
    }
    const convert_type *t = &convert_types[i];
    if (is_gguf && t->file_type < 0)
        snprintf(problem, size, "GGUF has no type %s; write a .safetensors file", t->name);
    else if (!is_gguf && !dtype_describe(t->type)->in_safetensors)
        snprintf(problem, size, "safetensors has no type %s; write a .gguf file", t->name);
    else
        return t;
    return NULL;
}

/* ---- a file of rules ---- */

#define BLANKS " \t\r"

/* The next word of a line; NULL behind the last and at a comment. */
static const char *next_word(const char **at, size_t *length)
{
    const char *word = *at + strspn(*at, BLANKS);
    *length = strcspn(word, BLANKS "\n#");
    *at = word + *length;
    return *length ? word : NULL;
}

static flux1_status bad_line(const char *name, int line, const char *what, flux1_error *err)
{
    return error_set(err, FLUX1_ERR_FORMAT, "%s: line %d: %s", name, line, what);
}

static flux1_status parse_line(const char *line, int number, const char *name, bool is_gguf, convert_rules *out,
                               flux1_error *err)
{
    char problem[512];
    size_t pattern_length, length;
    const char *pattern = next_word(&line, &pattern_length);
    if (!pattern)
        return FLUX1_OK;
    const char *word = next_word(&line, &length);
    if (!word)
        return bad_line(name, number, "a type is missing; a line is a pattern and a type, such as \"*.bias f32\"", err);
    const convert_type *type = convert_type_named(word, length, is_gguf, problem, sizeof problem);
    if (!type)
        return bad_line(name, number, problem, err);
    if (next_word(&line, &length))
        return bad_line(name, number, "there is more than a pattern and a type", err);
    TRY(grow((void **)&out->rule, &out->room, out->count, sizeof *out->rule, err));
    convert_rule *r = &out->rule[out->count];
    *r = (convert_rule){.pattern = strndup(pattern, pattern_length), .type = type, .line = number};
    if (!r->pattern)
        return error_oom(err, pattern_length, name);
    out->count++;
    return FLUX1_OK;
}

flux1_status convert_rules_parse(const char *text, const char *name, bool is_gguf, convert_rules *out, flux1_error *err)
{
    int number = 1;
    *out = (convert_rules){0};
    for (; text; number++) {
        const char *end = strchr(text, '\n');
        TRY(parse_line(text, number, name, is_gguf, out, err));
        text = end ? end + 1 : NULL;
    }
    return out->count ? FLUX1_OK : error_set(err, FLUX1_ERR_FORMAT, "%s: there is no rule in it", name);
}

void convert_rules_free(convert_rules *r)
{
    for (size_t i = 0; i < r->count; i++)
        free(r->rule[i].pattern);
    free(r->rule);
    *r = (convert_rules){0};
}

convert_rule *convert_rules_find(const convert_rules *r, const char *name, const char *other)
{
    for (size_t i = 0; i < r->count; i++)
        if (fnmatch(r->rule[i].pattern, name, 0) == 0 || fnmatch(r->rule[i].pattern, other, 0) == 0)
            return &r->rule[i];
    return NULL;
}
