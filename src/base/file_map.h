/* Whole files for reading: mapped, or read into memory where the file system does not map files. */
#ifndef FLUX1_BASE_FILE_MAP_H
#define FLUX1_BASE_FILE_MAP_H

#include "base/file.h"
#include "base/guard.h"

/* A whole regular file. An empty one has bytes == NULL, size 0. */
typedef struct file_map {
    const unsigned char *bytes;
    size_t size;
    file_identity identity;
    bool in_memory; /* it was read: mapping it failed */
    guard *guard;   /* NULL where it was */
} file_map;

/* FLUX1_ERR_IO, FLUX1_ERR_MEMORY; FLUX1_ERR_LIMIT for a file that cannot be mapped and does not fit into memory. */
flux1_status file_map_open(const char *path, file_map *out, flux1_error *err);
void file_map_close(file_map *map);

/* To be asked after the bytes were used: FLUX1_ERR_IO if the file has become shorter since it was opened, or could not
 * be read. Zeros stand where bytes are gone, and what was made of them is to be given up. `path`: of the file, for
 * messages; one that is another file by now does not matter. From any thread. */
flux1_status file_map_check(const file_map *map, const char *path, flux1_error *err);

/* Asks the kernel to read [bytes, bytes + length) ahead; a hint, never fails. */
void file_map_will_need(const void *bytes, size_t length);

/* Reads [bytes, bytes + length) into this process's memory; what cannot be read is left to whoever uses it. */
void file_map_read(const void *bytes, size_t length);

/* The process does not use these pages of a file for now: they no longer count as its own, nor do those that the kernel
 * has mapped around them. Their bytes are found again when they are used. */
void file_map_wont_need(const void *bytes, size_t length);

/* The same of many in turn: those that meet the one before go with it in one call, which is what each costs where
 * threads share the memory. Begin with {0}; after the last one comes file_map_gathered. */
typedef struct file_map_range {
    uintptr_t begin, end;
} file_map_range;
void file_map_gather(file_map_range *before, const void *bytes, size_t length);
void file_map_gathered(file_map_range *before);

#endif
