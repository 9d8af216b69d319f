/* Files: looked for, read, and written under a temporary name that becomes the real one only when complete. */
#ifndef FLUX1_BASE_FILE_H
#define FLUX1_BASE_FILE_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

/* A file and its state: a file that was modified or replaced since has another identity, also if its time of
 * modification was put back (nobody can set the time of change). Another mode or one more link makes another identity
 * too. No padding: it may be hashed and compared as bytes. */
typedef struct file_identity {
    uint64_t device, inode, size;
    int64_t seconds, nanoseconds;                 /* last modification */
    int64_t changed_seconds, changed_nanoseconds; /* last change of content or of what is said about the file */
} file_identity;

#define FILE_DEVICE_NONE UINT64_MAX /* device of an identity that no file has */

struct stat;
file_identity file_identity_of(const struct stat *info);
bool file_identity_same(const file_identity *a, const file_identity *b);

/* Opens a regular file for reading and tells which it is. FLUX1_ERR_IO. */
flux1_status file_open_regular(const char *path, int *descriptor, file_identity *identity, flux1_error *err);

/* Reads a whole file of at most `limit` bytes into malloc'd memory and appends a NUL. FLUX1_ERR_IO, FLUX1_ERR_LIMIT,
 * FLUX1_ERR_MEMORY. */
flux1_status file_read(const char *path, size_t limit, char **bytes, size_t *size, flux1_error *err);

/* Whether something of any type is there. FLUX1_ERR_IO where that is no answer: a folder that may not be entered, a
 * link to something that is not there, links in a circle. */
flux1_status file_find(const char *path, bool *there, flux1_error *err);

bool file_exists(const char *path); /* of any type; false also where file_find fails */
bool file_is_directory(const char *path);
bool file_exists_in(const char *folder, const char *name); /* folder/name; false for a path longer than PATH_MAX */

/* malloc'd "a/b"; NULL when out of memory. */
char *path_join(const char *a, const char *b);

/* A file being written. file_begin creates flux1-<random>.tmp beside the target (exclusive, mode by umask); write to
 * `stream`; file_commit flushes, fsyncs, renames and frees; file_abandon closes, removes the temporary file and frees.
 * Either ends it. A link stays a link: what it points to is written, also where that is not there yet.
 *
 * A target that cannot be renamed over (a bind mount, another user's file in a sticky folder, a file in a folder
 * without permission) keeps its place: file_begin opens it, or says why that cannot be done, and file_commit replaces
 * its content. Only a failure in the midst of that can leave it half-written, and the message says so. */
typedef struct file_writer {
    FILE *stream;
    char *temporary; /* NULL: it has no name */
    char *path;
    bool in_place;
    int target; /* in place: the target's descriptor */
} file_writer;

flux1_status file_begin(const char *path, file_writer *out, flux1_error *err);
flux1_status file_commit(file_writer *writer, flux1_error *err); /* on failure abandons */
void file_abandon(file_writer *writer);                          /* harmless on a zeroed writer */

/* All of these in one. */
flux1_status file_write(const char *path, const void *bytes, size_t size, flux1_error *err);

/* The file that a writer of `path` replaces or makes, so that two spellings of it compare equal: absolute, without
 * links, also in a folder that is not there yet. malloc'd; NULL: none can be written there, or no memory. */
char *file_place(const char *path);

/* Whether a writer of `a` replaces `b`. */
bool file_same_place(const char *a, const char *b);

/* Whether file_begin can begin, before long work whose result the file is to take. What is there stays as it is. */
flux1_status file_check_writable(const char *path, flux1_error *err);

/* Makes a folder, with a mode that the umask narrows, and those above it (0777) where they are not there; `path` is
 * changed back before the end. FLUX1_ERR_IO. */
flux1_status folder_make(char *path, mode_t mode, flux1_error *err);

/* Makes the folder "name-XXXXXX", X being random, for its owner alone, in the folder TMPDIR if that is absolute, else
 * in /tmp. FLUX1_ERR_IO; `path` is "" then. */
flux1_status folder_make_temporary(const char *name, char *path, size_t room, flux1_error *err);

#endif
