/* The small text files below /proc and /sys in which a Linux kernel tells about a process and its machine. They are
 * read line by line through a fixed buffer, without malloc, since they are asked when memory is short too. A file that
 * is missing, unreadable or not as expected is `false`: what it would have said is not known.
 *
 * A file is named by two strings that are put together, a folder and the rest with its slash ("/memory.max"). */
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

/* The next line without its newline, valid until the next call; NULL at the end. Lines that do not fit into the buffer
 * are left out. */
char *sysfile_line(sysfile *f);

/* Reads a decimal number at *text, blanks before it skipped, and moves *text behind it. False where no digit is, as at
 * a sign, and for more than 64 bits. */
bool sysfile_number(const char **text, uint64_t *out);

/* The number of a line "key number" or "key number kB", then in bytes. `key` includes the colon where there is one. */
bool sysfile_value(const char *line, const char *key, uint64_t *out);

/* The value of a file's first line with that key; the number that is all of a file. */
bool sysfile_find(const char *folder, const char *name, const char *key, uint64_t *out);
bool sysfile_only(const char *folder, const char *name, uint64_t *out);

#endif
