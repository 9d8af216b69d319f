#include "weights/variant.h"

#include "base/listing.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Whether `name` is `before`, a variant, `after`. Shards (model.fp16-00001-of-00002.safetensors) have an index. */
static bool take(const char *name, const char *before, const char *after, char out[VARIANT_ROOM])
{
    const size_t n = strlen(name), first = strlen(before), last = strlen(after);
    if (n < first + last + 2 || n - first - last >= VARIANT_ROOM || strncmp(name, before, first) != 0 ||
        strcmp(name + n - last, after) != 0)
        return false;
    snprintf(out, VARIANT_ROOM, "%.*s", (int)(n - first - last), name + first);
    return out[0] == '.' && !strpbrk(out + 1, ".-");
}

flux1_status variant_find(const char *folder, const char *stem, char out[VARIANT_ROOM], flux1_error *err)
{
    listing l;
    char index[80], one[VARIANT_ROOM];
    flux1_status st = FLUX1_OK;
    out[0] = '\0';
    TRY(listing_read(folder, &l, err));
    snprintf(index, sizeof index, "%s.safetensors.index", stem);
    for (size_t i = 0; st == FLUX1_OK && i < l.count; i++) {
        if (!take(l.name[i], index, ".json", one) && !take(l.name[i], stem, ".safetensors", one))
            continue;
        if (out[0] && strcmp(out, one) != 0)
            st = error_set(err, FLUX1_ERR_MODEL,
                           "%s: has the variants \"%s\" and \"%s\" of %s.safetensors; give the one to use that name",
                           folder, out + 1, one + 1, stem);
        else
            snprintf(out, VARIANT_ROOM, "%s", one);
    }
    listing_free(&l);
    return st;
}
