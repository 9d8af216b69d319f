#include "pipeline/trained.h"

#include "base/file.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>

#define SIDE_MOST 1000000 /* pixels: more is taken as a mistake */

static flux1_status read_sizes(const json_value *root, const char *path, trained_sizes *out, flux1_error *err)
{
    const json_value *sizes = json_object_get(root, "sizes");
    if (!json_is_object(root))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: it should be an object, such as {\"sizes\": {\"min\": 256}}",
                         path);
    if (!sizes || json_is_null(sizes))
        return FLUX1_OK;
    if (!json_is_object(sizes))
        return error_set(err, FLUX1_ERR_FORMAT,
                         "%s: \"sizes\" should be an object, such as {\"min\": 256, \"max\": 1536, \"multiple\": 16}",
                         path);
    TRY(json_get_int(sizes, path, "min", 1, SIDE_MOST, &out->min, err));
    TRY(json_get_int(sizes, path, "max", 1, SIDE_MOST, &out->max, err));
    TRY(json_get_int(sizes, path, "multiple", 1, SIDE_MOST, &out->multiple, err));
    if (out->max && out->min > out->max)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"min\" is %lld, more than \"max\", %lld", path,
                         (long long)out->min, (long long)out->max);
    return FLUX1_OK;
}

flux1_status trained_read(const char *folder, trained_sizes *out, flux1_error *err)
{
    json_value *root = NULL;
    bool there = false;
    *out = (trained_sizes){0};
    char *path = path_join(folder, "flux1.json");
    if (!path)
        return error_oom(err, 0, "a path");
    flux1_status st = file_find(path, &there, err);
    if (st == FLUX1_OK && there)
        st = json_parse_file(path, &root, err);
    if (st == FLUX1_OK && there)
        st = read_sizes(root, path, out, err);
    json_free(root);
    free(path);
    return st;
}

const char *trained_describe(const trained_sizes *t, char out[TRAINED_ROOM])
{
    char range[64] = "", multiple[64] = "";
    if (t->min && t->min == t->max)
        snprintf(range, sizeof range, " of %lld pixels", (long long)t->min);
    else if (t->min && t->max)
        snprintf(range, sizeof range, " of %lld to %lld pixels", (long long)t->min, (long long)t->max);
    else if (t->min || t->max)
        snprintf(range, sizeof range, " of at %s %lld pixels", t->min ? "least" : "most",
                 (long long)(t->min ? t->min : t->max));
    if (t->multiple)
        snprintf(multiple, sizeof multiple, "%s in multiples of %lld", range[0] ? "," : "", (long long)t->multiple);
    snprintf(out, TRAINED_ROOM, "%s%s%s", range[0] || multiple[0] ? "sides" : "", range, multiple);
    return out;
}

static bool side_is_far(const trained_sizes *t, int64_t side)
{
    return (t->min && 4 * side < 3 * t->min) || (t->max && 4 * side > 5 * t->max) ||
           (t->multiple && side % t->multiple);
}

bool trained_is_far(const trained_sizes *t, int64_t width, int64_t height)
{
    return side_is_far(t, width) || side_is_far(t, height);
}
