#include "pipeline/content.h"

#include "base/hash.h"

uint64_t content_of(const struct flux1_model *m)
{
    uint64_t sample[COMPONENTS];
    if (m->source.synthetic)
        return 0;
    for (int c = 0; c < COMPONENTS; c++)
        sample[c] = store_sample(m->store[c]);
    const uint64_t all = hash_bytes(sample, sizeof sample);
    return all ? all : 1;
}
