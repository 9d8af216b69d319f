/* Hashes of bytes that differ if the bytes do: for finding data by content and for finding damage, not against somebody
 * who looks for two inputs of one hash. XXH3 (github.com/Cyan4973/xxHash), the same on every machine. */
#ifndef FLUX1_BASE_HASH_H
#define FLUX1_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash_bytes(const void *bytes, size_t count);

/* 128 bits of bytes that come piece by piece. hash_begin: NULL if there is no memory; hash_end frees. */
typedef struct hash_stream hash_stream;
hash_stream *hash_begin(void);
void hash_add(hash_stream *h, const void *bytes, size_t count);
void hash_end(hash_stream *h, uint64_t out[2]); /* NULL is fine */

#endif
