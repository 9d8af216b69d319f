/* The file of an entry of the cache of prepared weights: the blocks of one part of a model for one rank, or for all (of
 * cards), in the form that a kind of device gave them.
 *
 *     0    magic                 all numbers are 64 bits, the lowest byte first
 *     8    bytes of the header, a multiple of 4096: here the first block begins
 *     16   bytes of the file
 *     24   key of the entry, two numbers
 *     40   number of blocks
 *     48   bytes of the description
 *     56   checksum of the header with this number zero
 *     64   a row per block: key (two numbers), offset, bytes, checksum of its bytes
 *          the description: a JSON object, for people
 *
 * Blocks begin at multiples of 4096, in the order of their rows, with zeros between them. */
#ifndef FLUX1_WEIGHTS_PREPARED_FORMAT_H
#define FLUX1_WEIGHTS_PREPARED_FORMAT_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#define PREPARED_ALIGN ((uint64_t)4096)
#define PREPARED_HEAD ((size_t)64)             /* bytes before the rows */
#define PREPARED_HEADER_MOST ((size_t)4 << 20) /* a header is not longer */

/* A block's form: what is asked for, and, in an entry, where it lies. */
typedef struct prepared_block {
    uint64_t key[2];
    uint64_t bytes;
    uint64_t offset, checksum;
} prepared_block;

typedef struct prepared_header {
    uint64_t key[2];
    uint64_t header_bytes, file_bytes;
    prepared_block *block; /* [count] */
    size_t count;
    char *description;
} prepared_header;

/* Places the blocks, whose keys and bytes are set, and names the entry: its key follows from theirs. `description` is
 * copied. FLUX1_ERR_LIMIT if that is too much, FLUX1_ERR_MEMORY. */
flux1_status prepared_header_make(const prepared_block *block, size_t count, const char *description,
                                  prepared_header *out, flux1_error *err);

/* Writes header_bytes bytes to `out`. */
void prepared_header_write(const prepared_header *h, unsigned char *out);

/* How long the header is, from a file's first PREPARED_HEAD bytes; 0: it is not such a file. */
size_t prepared_header_bytes(const unsigned char *head);

/* Reads a header of `size` bytes; nothing in it is believed. FLUX1_ERR_FORMAT says what is wrong, FLUX1_ERR_MEMORY.
 * After a failure there is nothing to free. */
flux1_status prepared_header_read(const unsigned char *bytes, size_t size, prepared_header *out, flux1_error *err);

void prepared_header_free(prepared_header *h);

#endif
