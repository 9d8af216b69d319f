#include "cli/taken.h"

#include "base/file.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

typedef struct taken_file {
    char *path;
    long number;
    struct taken_file *next;
} taken_file;

static int by_path(const void *a, const void *b)
{
    return strcmp(((const taken_file *)a)->path, ((const taken_file *)b)->path);
}

long taken_by(const taken *t, const char *path)
{
    taken_file key = {.path = file_place(path)};
    taken_file *const *found = key.path ? tfind(&key, &t->tree, by_path) : NULL;
    const long number = found ? (*found)->number : 0;
    free(key.path);
    return number;
}

void taken_add(taken *t, const char *path, long number)
{
    taken_file *f = calloc(1, sizeof *f);
    if (!f)
        return;
    f->number = number;
    f->next = t->files;
    f->path = file_place(path);
    taken_file *const *found = f->path ? tsearch(f, &t->tree, by_path) : NULL;
    if (found && *found == f) {
        t->files = f;
        return;
    }
    free(f->path);
    free(f);
}

void taken_free(taken *t)
{
    for (taken_file *f = t->files, *next; f; f = next) {
        next = f->next;
        tdelete(f, &t->tree, by_path);
        free(f->path);
        free(f);
    }
    *t = (taken){0};
}
