/* JSON configs: any bytes give a tree or one sentence; getters on whatever came out do the same. */
#include "fuzz.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

/* The promise every refusal makes. */
static void check_refusal(flux1_status status, const flux1_error *err)
{
    if (status != FLUX1_OK &&
        (err->status != status || strncmp(err->message, "f.json", 6) != 0 || strlen(err->message) >= FLUX1_MESSAGE_MAX))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *root = NULL;
    flux1_error err = {0};
    flux1_status st = json_parse((const char *)data, size, "f.json", &root, &err);
    check_refusal(st, &err);
    if ((st == FLUX1_OK) != (root != NULL))
        abort();
    if (!root)
        return 0;

    const char *key = "in_channels", *text = NULL;
    json_t *value;
    int64_t integer = 0, list[4];
    double real = 0;
    bool flag = false;
    json_object_foreach (root, key, value) {
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
    json_decref(root);
    return 0;
}
