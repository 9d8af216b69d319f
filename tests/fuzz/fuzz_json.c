/* JSON: any bytes give a tree or one sentence, by either set of rules; getters on whatever came out do the same, and
 * what is written of a tree is read as the same tree. */
#include "fuzz.h"

#include "base/json_write.h"

#include <stdlib.h>
#include <string.h>

/* The promise every refusal makes. */
static void check_refusal(flux1_status status, const flux1_error *err)
{
    if (status != FLUX1_OK &&
        (err->status != status || strncmp(err->message, "f.json", 6) != 0 || strlen(err->message) >= FLUX1_MESSAGE_MAX))
        abort();
}

static char *text_of(const json_value *root, json_style style)
{
    json_writer w = {.style = style};
    char *text;
    json_put_value(&w, NULL, root);
    if (json_take(&w, "a tree", &text, NULL) != FLUX1_OK)
        abort();
    return text;
}

/* Reads by Python's rules; the text of what came out, NULL if nothing did. */
static char *read_again(const char *bytes, size_t size, json_style style)
{
    json_value *root = NULL;
    flux1_error err = {0};
    flux1_status st = json_parse_python(bytes, size, "f.json", &root, &err);
    check_refusal(st, &err);
    if ((st == FLUX1_OK) != (root != NULL))
        abort();
    char *text = root ? text_of(root, style) : NULL;
    json_free(root);
    return text;
}

/* Python's rules give the same tree, and that tree's text gives it again. */
static void check_writing(const char *bytes, size_t size, const json_value *strict)
{
    char *once = read_again(bytes, size, JSON_INDENTED);
    if (!once && strict)
        abort();
    if (!once)
        return;
    char *twice = read_again(once, strlen(once), JSON_INDENTED),
         *again = strict ? text_of(strict, JSON_INDENTED) : NULL;
    if (!twice || strcmp(once, twice) != 0 || (again && strcmp(once, again) != 0))
        abort();
    free(once);
    free(twice);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_value *root = NULL;
    flux1_error err = {0};
    flux1_status st = json_parse((const char *)data, size, "f.json", &root, &err);
    check_refusal(st, &err);
    if ((st == FLUX1_OK) != (root != NULL))
        abort();
    check_writing((const char *)data, size, root);
    if (!root)
        return 0;

    const char *key = "in_channels", *text = NULL;
    const json_value *value;
    int64_t integer = 0, list[4];
    double real = 0;
    bool flag = false;
    for (size_t i = 0; (value = json_object_at(root, i, &key)); i++) {
        size_t count = 0;
        check_refusal(json_get_int(root, "f.json", key, 1, 1000, &integer, &err), &err);
        check_refusal(json_get_real(root, "f.json", key, &real, &err), &err);
        check_refusal(json_get_bool(root, "f.json", key, &flag, &err), &err);
        check_refusal(json_get_string(root, "f.json", key, &text, &err), &err);
        check_refusal(json_get_ints(root, "f.json", key, 0, 1000, list, 4, &count, &err), &err);
        check_refusal(json_require(root, "f.json", key, &err), &err);
        if (count > 4 || integer < 0 || integer > 1000 || real != real)
            abort();
    }
    check_refusal(json_get_int(root, "f.json", "in_channels", 1, 1000, &integer, &err), &err);
    json_free(root);
    return 0;
}
