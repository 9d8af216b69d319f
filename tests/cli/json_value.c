/* json_value a.0.b < JSON: prints the value at that path (a list's or object's count with # at the end); exit 1 if the
 * text is not one JSON value or has none there. */
#include "base/json_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *read_all(FILE *f, size_t *size)
{
    char *text = NULL;
    size_t capacity = 0;
    *size = 0;
    do {
        if (capacity - *size < 4096 && !(text = realloc(text, capacity = 2 * capacity + 8192)))
            abort();
        *size += fread(text + *size, 1, capacity - *size, f);
    } while (!feof(f) && !ferror(f));
    return text;
}

static void print(const json_value *value)
{
    char *text = NULL;
    json_writer w = {.style = JSON_LINE};
    json_put_value(&w, NULL, value);
    if (json_take(&w, "the value", &text, NULL) == FLUX1_OK)
        puts(text);
    free(text);
}

int main(int argc, char **argv)
{
    flux1_error err = {0};
    json_value *root = NULL;
    size_t size;
    char *text = read_all(stdin, &size);
    if (json_parse(text, size, "standard input", &root, &err) != FLUX1_OK)
        fprintf(stderr, "%s\n", err.message);
    const json_value *at = root;
    bool count = false;
    for (char *step = argc > 1 ? strtok(argv[1], ".") : NULL; step && at; step = strtok(NULL, ".")) {
        if (strcmp(step, "#") == 0)
            count = true;
        else
            at = json_is_array(at) ? json_array_get(at, (size_t)atol(step)) : json_object_get(at, step);
    }
    int status = at ? 0 : 1;
    if (at && count)
        printf("%zu\n", json_array_size(at) + json_object_size(at));
    else if (json_is_string(at))
        puts(json_string_value(at));
    else if (at)
        print(at);
    json_free(root);
    free(text);
    return status;
}
