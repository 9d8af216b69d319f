/* Texts of jobs that have ended while the disk was full: told from memory until they can be written. */
#ifndef FLUX1_SERVER_UNWRITTEN_H
#define FLUX1_SERVER_UNWRITTEN_H

#include <stdint.h>

typedef struct unwritten {
    struct unwritten *next;
    uint64_t bytes; /* of the job's pictures */
    char *text;
    char id[];
} unwritten;

/* In place of the job's last one. Dropped if memory lacks. */
void unwritten_add(unwritten **list, const char *id, const char *text, uint64_t bytes);
const char *unwritten_text(const unwritten *list, const char *id); /* NULL: there is none */
void unwritten_drop(unwritten **list, const char *id);
void unwritten_free(unwritten **list);

#endif
