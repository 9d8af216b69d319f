#include "server/random.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

bool random_bytes(void *out, size_t count) { return getentropy(out, count) == 0; }

bool random_name(char out[RANDOM_NAME])
{
    uint64_t number = 0;
    const bool good = random_bytes(&number, sizeof number);
    snprintf(out, RANDOM_NAME, "%016" PRIx64, number);
    return good;
}
