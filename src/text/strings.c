#include "text/strings.h"

#include "base/checked.h"

#include <stdlib.h>
#include <string.h>

static int compare(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t n = a_length < b_length ? a_length : b_length;
    int order = n ? memcmp(a, b, n) : 0;
    return order ? order : a_length < b_length ? -1 : a_length > b_length;
}

/* Equal strings keep their order: the copies lie in the blob one behind the other. */
static int by_bytes(const void *a, const void *b)
{
    const string_entry *x = a, *y = b;
    int order = compare(x->bytes, x->length, y->bytes, y->length);
    return order ? order : x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static void keep_last_of_equals(string_table *t)
{
    size_t kept = 0;
    for (size_t i = 0; i < t->count; i++) {
        if (i + 1 < t->count &&
            compare(t->entries[i].bytes, t->entries[i].length, t->entries[i + 1].bytes, t->entries[i + 1].length) == 0)
            continue;
        t->entries[kept++] = t->entries[i];
    }
    t->count = kept;
}

static void index_first_bytes(string_table *t)
{
    size_t i = 0;
    for (unsigned b = 0; b < 257; b++) {
        while (i < t->count && (unsigned char)t->entries[i].bytes[0] < b)
            i++;
        t->first[b] = (uint32_t)i;
    }
}

flux1_status string_table_build(const string_entry *entries, size_t count, const char *what, string_table *out,
                                flux1_error *err)
{
    size_t total = 0, bytes;
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < count; i++)
        if (!size_add(total, entries[i].length, &total))
            return error_oom(err, 0, what);
    if (count > INT32_MAX || !size_mul(count + 1, sizeof *out->entries, &bytes))
        return error_set(err, FLUX1_ERR_LIMIT, "%s: %zu entries are more than a vocabulary can have", what, count);
    out->entries = malloc(bytes);
    out->blob = malloc(total + 1);
    if (!out->entries || !out->blob) {
        string_table_free(out);
        return error_oom(err, bytes + total, what);
    }
    char *next = out->blob;
    for (size_t i = 0; i < count; i++) {
        if (entries[i].length == 0)
            continue;
        memcpy(next, entries[i].bytes, entries[i].length);
        out->entries[out->count++] = (string_entry){next, entries[i].length, entries[i].value};
        next += entries[i].length;
    }
    qsort(out->entries, out->count, sizeof *out->entries, by_bytes);
    keep_last_of_equals(out);
    index_first_bytes(out);
    return FLUX1_OK;
}

void string_table_free(string_table *t)
{
    free(t->entries);
    free(t->blob);
    memset(t, 0, sizeof *t);
}

bool string_table_find(const string_table *t, const char *bytes, size_t length, uint32_t *value)
{
    if (length == 0 || t->count == 0)
        return false;
    size_t low = t->first[(unsigned char)bytes[0]], high = t->first[(unsigned char)bytes[0] + 1];
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare(t->entries[middle].bytes, t->entries[middle].length, bytes, length);
        if (order == 0) {
            *value = t->entries[middle].value;
            return true;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

/* First entry in [low, high) whose byte at `depth` is at least `byte`; an entry that ends at `depth` comes before all.
 */
static uint32_t lower_bound(const string_table *t, uint32_t low, uint32_t high, uint32_t depth, unsigned byte)
{
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const string_entry *e = &t->entries[middle];
        if (e->length <= depth || (unsigned char)e->bytes[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool string_walk_step(const string_table *t, string_walk *w, unsigned char byte, const string_entry **entry)
{
    *entry = NULL;
    if (w->depth == 0) {
        w->low = t->first[byte];
        w->high = t->first[byte + 1];
    } else {
        w->low = lower_bound(t, w->low, w->high, w->depth, byte);
        w->high = lower_bound(t, w->low, w->high, w->depth, byte + 1u);
    }
    w->depth++;
    if (w->low >= w->high)
        return false;
    if (t->entries[w->low].length == w->depth)
        *entry = &t->entries[w->low];
    return true;
}
