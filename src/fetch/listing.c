#include "fetch/listing.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Sorts the names and drops repetitions. */
static void sort_names(hub_listing *l)
{
    size_t kept = 0;
    if (l->count == 0)
        return;
    qsort(l->names, l->count, sizeof *l->names, by_name);
    for (size_t i = 0; i < l->count; i++)
        if (kept > 0 && strcmp(l->names[i], l->names[kept - 1]) == 0)
            free(l->names[i]);
        else
            l->names[kept++] = l->names[i];
    l->count = kept;
}

static flux1_status take_names(const json_value *siblings, const char *name, hub_listing *l, flux1_error *err)
{
    const size_t count = json_array_size(siblings);
    l->names = calloc(count ? count : 1, sizeof *l->names);
    if (!l->names)
        return error_oom(err, count * sizeof *l->names, "a repository's listing");
    for (size_t i = 0; i < count; i++) {
        const char *path = json_string_value(json_object_get(json_array_get(siblings, i), "rfilename"));
        if (!path)
            return error_set(err, FLUX1_ERR_FORMAT, "%s: entry %zu of \"siblings\" has no \"rfilename\"", name, i);
        if (!hub_path_valid(path))
            l->left_out++;
        else if (!(l->names[l->count] = strdup(path)))
            return error_oom(err, strlen(path) + 1, "a repository's listing");
        else
            l->count++;
    }
    sort_names(l);
    return FLUX1_OK;
}

flux1_status hub_listing_parse(const char *bytes, size_t size, const char *name, hub_listing *out, flux1_error *err)
{
    json_value *root = NULL;
    *out = (hub_listing){0};
    flux1_status st = json_parse_python(bytes, size, name, &root, err);
    if (st != FLUX1_OK)
        return error_append(err, ". Is this the Hugging Face hub? HF_ENDPOINT says where it is");
    const char *commit = json_string_value(json_object_get(root, "sha"));
    const json_value *siblings = json_object_get(root, "siblings");
    if (!commit || !hub_is_commit(commit))
        st = error_set(err, FLUX1_ERR_FORMAT, "%s: \"sha\" is no commit (40 hexadecimal digits)", name);
    else if (!json_is_array(siblings))
        st = error_set(err, FLUX1_ERR_FORMAT, "%s: \"siblings\" should be a list of files", name);
    else {
        memcpy(out->commit, commit, HUB_COMMIT + 1);
        st = take_names(siblings, name, out, err);
    }
    json_free(root);
    if (st != FLUX1_OK)
        hub_listing_free(out);
    return st;
}

void hub_listing_free(hub_listing *l)
{
    for (size_t i = 0; i < l->count; i++)
        free(l->names[i]);
    free(l->names);
    *l = (hub_listing){0};
}
