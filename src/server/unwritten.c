#include "server/unwritten.h"

#include <stdlib.h>
#include <string.h>

static void free_first(unwritten **at)
{
    unwritten *gone = *at;
    *at = gone->next;
    free(gone->text);
    free(gone);
}

void unwritten_add(unwritten **list, const char *id, const char *text, uint64_t bytes)
{
    const size_t length = strlen(id);
    unwritten *u = malloc(sizeof *u + length + 1);
    unwritten_drop(list, id);
    if (!u)
        return;
    *u = (unwritten){.next = *list, .bytes = bytes, .text = strdup(text)};
    memcpy(u->id, id, length + 1);
    *list = u;
    if (!u->text)
        free_first(list);
}

const char *unwritten_text(const unwritten *list, const char *id)
{
    while (list && strcmp(list->id, id) != 0)
        list = list->next;
    return list ? list->text : NULL;
}

void unwritten_drop(unwritten **list, const char *id)
{
    while (*list && strcmp((*list)->id, id) != 0)
        list = &(*list)->next;
    if (*list)
        free_first(list);
}

void unwritten_free(unwritten **list)
{
    while (*list)
        free_first(list);
}
