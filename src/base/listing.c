#include "base/listing.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static flux1_status keep(listing *l, size_t *room, const char *name, flux1_error *err)
{
    if (l->count == *room) {
        const size_t more = *room ? 2 * *room : 64;
        char **larger = realloc(l->name, more * sizeof *larger);
        if (!larger)
            return error_oom(err, more * sizeof *larger, "the names of a folder");
        l->name = larger;
        *room = more;
    }
    if (!(l->name[l->count] = strdup(name)))
        return error_oom(err, strlen(name) + 1, "the names of a folder");
    l->count++;
    return FLUX1_OK;
}

flux1_status listing_read(const char *folder, listing *out, flux1_error *err)
{
    size_t room = 0;
    *out = (listing){0};
    DIR *d = opendir(folder);
    if (!d)
        return error_io(err, folder, "list");
    flux1_status st = FLUX1_OK;
    const struct dirent *e = NULL;
    while (st == FLUX1_OK && !out->cut && (errno = 0, e = readdir(d))) {
        if (e->d_name[0] == '.')
            continue;
        out->cut = out->count == LISTING_MAX;
        if (!out->cut)
            st = keep(out, &room, e->d_name, err);
    }
    if (!e && errno != 0) /* the disk failed in its midst */
        st = error_io(err, folder, "list");
    closedir(d);
    if (st != FLUX1_OK)
        listing_free(out);
    else if (out->count > 1)
        qsort(out->name, out->count, sizeof *out->name, by_bytes);
    return st;
}

void listing_free(listing *l)
{
    for (size_t i = 0; i < l->count; i++)
        free(l->name[i]);
    free(l->name);
    *l = (listing){0};
}
