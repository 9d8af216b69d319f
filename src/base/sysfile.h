/* The small text files below /proc and /sys in which a Linux kernel describes a process and its machine. They are read
 * line by line through a fixed buffer, without malloc, so that this works when memory is short. For a file that is
 * missing, unreadable or not as expected, functions return false.
 *
 * A file is named by two strings that are concatenated: a folder, and the rest with its slash ("/memory.max"). */
#ifndef FLUX1_BASE_SYSFILE_H
#define FLUX1_BASE_SYSFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SYSFILE_PATH 4096
#define SYSFILE_LINE 8192

typedef struct sysfile {
    int descriptor;
    size_t at, have;
    char bytes[SYSFILE_LINE];
} sysfile;

bool sysfile_open(sysfile *f, const char *folder, const char *name);
void sysfile_close(sysfile *f);

/* The next line without its newline, valid until the next call; NULL at the end. Lines longer than the buffer are
 * skipped. */
char *sysfile_line(sysfile *f);

/* Reads a decimal number at *text after skipping blanks, and moves *text past it. False if there is no digit (also at a
 * sign), or for more than 64 bits. */
bool sysfile_number(const char **text, uint64_t *out);

/* The number of a line "key number", or in bytes of a line "key number kB". `key` includes the colon if there is one.
 */
bool sysfile_value(const char *line, const char *key, uint64_t *out);

/* _find: the value of a file's first line with that key. _only: the number that is the whole file. */
bool sysfile_find(const char *folder, const char *name, const char *key, uint64_t *out);
bool sysfile_only(const char *folder, const char *name, uint64_t *out);

#endif
