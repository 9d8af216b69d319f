#include "weights/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBERS_MAX 4

const name_map *name_map_of(model_part part)
{
    static const name_map *const maps[MODEL_PARTS] = {[MODEL_CLIP] = &names_clip,
                                                      [MODEL_T5] = &names_t5,
                                                      [MODEL_TRANSFORMER] = &names_transformer,
                                                      [MODEL_VAE] = &names_vae};
    return maps[part];
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Reads up to 6 digits. */
static bool number_at(const char **text, int *out)
{
    int n = 0, digits = 0;
    for (; is_digit(**text) && digits < 6; digits++)
        n = 10 * n + (*(*text)++ - '0');
    *out = n;
    return digits > 0 && !is_digit(**text);
}

/* The rest of `name` behind what the pattern covers; NULL if it does not. */
static const char *cover(const char *pattern, bool flat, const char *name, int number[NUMBERS_MAX])
{
    int count = 0;
    for (; *pattern; pattern++) {
        if (*pattern != '#' && *pattern != '~') {
            if ((flat && *pattern == '.' ? '_' : *pattern) != *name++)
                return NULL;
        } else if (count == NUMBERS_MAX || !number_at(&name, &number[count++])) {
            return NULL;
        }
    }
    return name;
}

static bool append(char out[NAME_BYTES_MAX], size_t *used, const char *text, size_t length)
{
    if (length >= NAME_BYTES_MAX - *used)
        return false;
    memcpy(out + *used, text, length);
    *used += length;
    out[*used] = '\0';
    return true;
}

/* The pattern with its numbers, then `rest`. */
static bool fill_in(const char *pattern, const int number[NUMBERS_MAX], int levels, const char *rest,
                    char out[NAME_BYTES_MAX])
{
    int next = 0;
    size_t used = 0;
    for (const char *p = pattern; *p; p++) {
        char digits[16];
        if (*p != '#' && *p != '~') {
            if (!append(out, &used, p, 1))
                return false;
            continue;
        }
        int n = number[next++];
        snprintf(digits, sizeof digits, "%d", *p == '~' ? levels - 1 - n : n);
        if (!append(out, &used, digits, strlen(digits)))
            return false;
    }
    return append(out, &used, rest, strlen(rest));
}

bool name_matches(const name_row *row, const char *name, int levels, char out[NAME_BYTES_MAX])
{
    int number[NUMBERS_MAX];
    const char *rest = cover(row->from, false, name, number);
    if (!rest || (*rest && strcmp(rest, ".weight") != 0 && strcmp(rest, ".bias") != 0))
        return false;
    return fill_in(row->to, number, levels, rest, out);
}

bool name_inverts(const name_row *row, const char *name, int levels, char out[NAME_BYTES_MAX])
{
    int number[NUMBERS_MAX], next = 0;
    const char *rest = cover(row->to, false, name, number);
    if (!rest || (*rest && strcmp(rest, ".weight") != 0 && strcmp(rest, ".bias") != 0))
        return false;
    for (const char *p = row->to; *p; p++) {
        if (*p == '~')
            number[next] = levels - 1 - number[next];
        next += *p == '#' || *p == '~';
    }
    return fill_in(row->from, number, levels, rest, out);
}

bool name_translates(const char *from, const char *to, bool flat, const char *name, char out[NAME_BYTES_MAX])
{
    int number[NUMBERS_MAX];
    const char *rest = cover(from, flat, name, number);
    return rest && !*rest && fill_in(to, number, 0, "", out);
}

int name_levels(const name_map *map, const char *name, int levels)
{
    const size_t length = map->levels ? strlen(map->levels) : 0;
    int n = 0;
    if (!map->levels || strncmp(name, map->levels, length) != 0)
        return levels;
    name += length;
    return number_at(&name, &n) && n + 1 > levels ? n + 1 : levels;
}

int name_levels_ours(const name_map *map, const char *name, int levels)
{
    for (size_t i = 0; map->levels && i < map->rows; i++) {
        const char *counted = strchr(map->row[i].to, '~');
        const size_t length = counted ? (size_t)(counted - map->row[i].to) : 0;
        const char *at = name + length;
        int n;
        if (counted && strncmp(name, map->row[i].to, length) == 0)
            return number_at(&at, &n) && n + 1 > levels ? n + 1 : levels;
    }
    return levels;
}

bool name_is_table(const char *name)
{
    static const char *const tables[] = {
        "*shared.weight",          "*embed_tokens.weight",       "*relative_attention_bias.weight",
        "*token_embedding.weight", "*position_embedding.weight", NULL};
    return name_listed(name, tables);
}

bool name_listed(const char *name, const char *const *list)
{
    const size_t length = strlen(name);
    for (; list && *list; list++) {
        const char *pattern = *list;
        if (pattern[0] != '*') {
            if (strcmp(name, pattern) == 0)
                return true;
            continue;
        }
        const size_t ending = strlen(++pattern);
        if (ending <= length && strcmp(name + length - ending, pattern) == 0)
            return true;
    }
    return false;
}
