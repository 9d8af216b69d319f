/* json_value a.0.b < JSON: prints the value at that path (a list's or object's count with # at the end); exit 1 if the
 * text is not one JSON value or has none there. */
#include <jansson.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    json_error_t fault;
    json_t *root = json_loadf(stdin, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &fault), *at = root;
    if (!root) {
        fprintf(stderr, "not JSON: %s (line %d)\n", fault.text, fault.line);
        return 1;
    }
    bool count = false;
    for (char *step = argc > 1 ? strtok(argv[1], ".") : NULL; step && at; step = strtok(NULL, ".")) {
        if (strcmp(step, "#") == 0)
            count = true;
        else
            at = json_is_array(at) ? json_array_get(at, (size_t)atol(step)) : json_object_get(at, step);
    }
    if (!at) {
        json_decref(root);
        return 1;
    }
    if (count)
        printf("%zu\n", json_is_array(at) ? json_array_size(at) : json_object_size(at));
    else if (json_is_string(at))
        puts(json_string_value(at));
    else {
        json_dumpf(at, stdout, JSON_ENCODE_ANY);
        puts("");
    }
    json_decref(root);
    return 0;
}
