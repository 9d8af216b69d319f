#include "cli/readable.h"

#include "base/ending.h"
#include "base/json.h"
#include "base/utf8.h"
#include "cli/console.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define CELL 160
#define COLUMNS 24

/* 12345678 → "12.35 M" in the given base and unit. */
static void scaled(double value, double base, const char *unit, char out[CELL])
{
    static const char *const prefixes[] = {"", "k", "M", "G", "T", "P"};
    int p = 0;
    while (fabs(value) >= base && p < 5) {
        value /= base;
        p++;
    }
    const char *binary = base > 1000 && p > 0 ? "i" : "";
    snprintf(out, CELL, p == 0 ? "%.0f %s%s%s" : "%.2f %s%s%s", value, base > 1000 && p == 1 ? "K" : prefixes[p],
             binary, unit);
}

/* The key says what a number counts. */
static void number_text(const char *key, const json_value *value, char out[CELL])
{
    double x = json_number_value(value);
    if (strstr(key, "bytes") || ends_in(key, "memory"))
        scaled(x, 1024, "B", out);
    else if (ends_in(key, "flops_per_second"))
        scaled(x, 1000, "FLOP/s", out);
    else if (strstr(key, "flop"))
        scaled(x, 1000, "FLOP", out);
    else if (strstr(key, "share") || strstr(key, "fraction"))
        snprintf(out, CELL, "%.1f %%", 100 * x);
    else if (strstr(key, "seconds"))
        snprintf(out, CELL, x > 0 && x < 0.01 ? "%.6f s" : "%.3f s", x);
    else if (json_is_integer(value))
        snprintf(out, CELL, "%lld", (long long)json_integer_value(value));
    else
        snprintf(out, CELL, "%.6g", x);
}

static bool is_leaf(const json_value *value) { return !json_is_object(value) && !json_is_array(value); }

static void leaf_text(const char *key, const json_value *value, char out[CELL])
{
    if (json_is_string(value)) {
        snprintf(out, CELL, "%s", json_string_value(value));
        out[utf8_valid_prefix(out, strlen(out))] = '\0'; /* no half character */
        utf8_blank_controls(out, '?', "");
    } else if (json_is_number(value))
        number_text(key, value, out);
    else
        snprintf(out, CELL, "%s", json_is_true(value) ? "yes" : json_is(value, JSON_FALSE) ? "no" : "-");
}

/* Width in characters, not bytes. */
static int text_width(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += !utf8_continues(*text);
    return n;
}

/* The key as it is printed; numbers of bytes have units of their own. */
static const char *label(const char *key, const json_value *value, char out[CELL])
{
    const size_t n = strlen(key), unit = strlen("_bytes");
    if (!json_is_number(value) || n >= CELL || !ends_in(key, "bytes"))
        return key;
    if (strcmp(key, "bytes") == 0)
        return "size";
    if (!ends_in(key, "_bytes"))
        return key;
    snprintf(out, CELL, "%.*s", (int)(n - unit), key);
    return out;
}

static int label_width(const char *key, const json_value *value)
{
    char cut[CELL];
    return text_width(label(key, value, cut));
}

static void print_key(const char *key, const json_value *value, int indent, int width)
{
    int characters = 0;
    bool control;
    char cut[CELL];
    key = label(key, value, cut);
    printf("%*s", indent, "");
    for (size_t n; (n = utf8_next(key, &control)) > 0; key += n, characters++) {
        if (control || *key == '_')
            putchar(control ? '?' : ' ');
        else
            fwrite(key, 1, n, stdout);
    }
    printf("%*s", width > characters ? width - characters : 0, "");
}

/* Adds a row's keys that are new. False: it is no row of leaves, or there are too many columns. */
static bool add_columns(const json_value *row, const char *keys[COLUMNS], int *columns)
{
    const char *key;
    const json_value *value;
    if (!json_is_object(row))
        return false;
    for (size_t i = 0; (value = json_object_at(row, i, &key)); i++) {
        int c = 0;
        while (c < *columns && strcmp(keys[c], key) != 0)
            c++;
        if (!is_leaf(value) || c == COLUMNS)
            return false;
        keys[c] = key;
        *columns += c == *columns;
    }
    return true;
}

/* Objects whose members are all leaves make a table; a row need not have all of its columns. 0: they do not. */
static int table_columns(const json_value *list, const char *keys[COLUMNS])
{
    int columns = 0;
    const json_value *row;
    for (size_t r = 0; (row = json_array_get(list, r)); r++)
        if (!add_columns(row, keys, &columns))
            return 0;
    return columns;
}

static void print_cell(const char *text, int width, bool right)
{
    int pad = width > text_width(text) ? width - text_width(text) : 0;
    printf("%*s%s%*s", right ? pad : 0, "", text, right ? 0 : pad, "");
}

static const json_value *first_in_column(const json_value *list, const char *key)
{
    const json_value *row, *value = NULL;
    for (size_t r = 0; !value && (row = json_array_get(list, r)); r++)
        value = json_object_get(row, key);
    return value;
}

static void print_table(const json_value *list, const char *const keys[COLUMNS], int columns, int indent)
{
    int widths[COLUMNS];
    const json_value *row;
    char cell[CELL];
    for (int c = 0; c < columns; c++)
        widths[c] = label_width(keys[c], first_in_column(list, keys[c]));
    for (size_t r = 0; (row = json_array_get(list, r)); r++) {
        for (int c = 0; c < columns; c++) {
            leaf_text(keys[c], json_object_get(row, keys[c]), cell);
            widths[c] = text_width(cell) > widths[c] ? text_width(cell) : widths[c];
        }
    }
    for (int c = 0; c < columns; c++)
        print_key(keys[c], first_in_column(list, keys[c]), c ? 2 : indent, c + 1 < columns ? widths[c] : 0);
    putchar('\n');
    for (size_t r = 0; (row = json_array_get(list, r)); r++) {
        for (int c = 0; c < columns; c++) {
            const json_value *v = json_object_get(row, keys[c]);
            leaf_text(keys[c], v, cell);
            printf("%*s", c ? 2 : indent, "");
            print_cell(cell, c + 1 < columns || json_is_number(v) ? widths[c] : 0, json_is_number(v));
        }
        putchar('\n');
    }
}

static void print_object(const json_value *object, int indent);

/* Short lists of leaves stay on the key's line; everything else goes below it. */
static void print_member(const char *key, const json_value *value, int indent, int width)
{
    const char *keys[COLUMNS];
    int columns;
    char cell[CELL];
    const json_value *item;
    bool inline_value = is_leaf(value) || (json_is_array(value) && !json_is_object(json_array_get(value, 0)));
    print_key(key, value, indent, inline_value ? width : 0);
    if (is_leaf(value)) {
        if (!json_is_string(value))
            leaf_text(key, value, cell);
        fputs("  ", stdout);
        print_plain(json_is_string(value) ? json_string_value(value) : cell, "");
        putchar('\n');
        return;
    }
    if (json_is_object(value)) {
        puts("");
        print_object(value, indent + 2);
    } else if ((columns = table_columns(value, keys)) > 0) {
        puts("");
        print_table(value, keys, columns, indent + 2);
    } else if (json_array_size(value) == 0)
        puts("  none");
    else if (json_is_string(json_array_get(value, 0)) || !is_leaf(json_array_get(value, 0))) {
        puts("");
        for (size_t i = 0; (item = json_array_get(value, i)); i++) {
            if (json_is_object(item))
                print_object(item, indent + 2);
            else {
                printf("%*s", indent + 2, "");
                print_plain(json_is_string(item) ? json_string_value(item) : "", "");
                putchar('\n');
            }
        }
    } else {
        for (size_t i = 0; (item = json_array_get(value, i)); i++) {
            leaf_text(key, item, cell);
            printf("%s%s", i ? ", " : "  ", cell);
        }
        puts("");
    }
}

static void print_object(const json_value *object, int indent)
{
    const char *key;
    const json_value *value;
    int width = 0;
    for (size_t i = 0; (value = json_object_at(object, i, &key)); i++)
        width = label_width(key, value) > width ? label_width(key, value) : width;
    for (size_t i = 0; (value = json_object_at(object, i, &key)); i++)
        print_member(key, value, indent, width);
}

flux1_status readable_print(const char *json, flux1_error *err)
{
    json_value *root;
    TRY(json_parse(json, strlen(json), "the result", &root, err));
    if (json_is_object(root))
        print_object(root, 0);
    else
        puts(json);
    json_free(root);
    return FLUX1_OK;
}
