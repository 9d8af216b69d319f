#include "base/hash.h"

#include <stdlib.h>

#define XXH_INLINE_ALL /* nothing to link, and the compiler sees the sizes */
#include <xxhash.h>

struct hash_stream {
    XXH3_state_t state;
};

uint64_t hash_bytes(const void *bytes, size_t count) { return XXH3_64bits(bytes, count); }

hash_stream *hash_begin(void)
{
    hash_stream *h = aligned_alloc(_Alignof(hash_stream), sizeof *h);
    if (h) {
        XXH3_INITSTATE(&h->state);
        XXH3_128bits_reset(&h->state);
    }
    return h;
}

void hash_add(hash_stream *h, const void *bytes, size_t count) { XXH3_128bits_update(&h->state, bytes, count); }

void hash_end(hash_stream *h, uint64_t out[2])
{
    if (!h)
        return;
    XXH128_hash_t hash = XXH3_128bits_digest(&h->state);
    out[0] = hash.low64, out[1] = hash.high64;
    free(h);
}
