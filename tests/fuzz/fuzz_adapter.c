/* Keys of adapters: the input is a key. What is found fits into its bounds. */
#include "fuzz.h"

#include "weights/adapter_names.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    adapter_targets t;
    char *name = malloc(size + 1);
    if (!name)
        return 0;
    memcpy(name, data, size);
    name[size] = '\0';
    const adapter_key key = adapter_key_read(name);
    if (key.base > strlen(name))
        abort();
    adapter_targets_find(name, key.base, &t);
    if (t.count < 0 || t.count > ADAPTER_TARGETS_MAX)
        abort();
    for (int i = 0; i < t.count; i++)
        if (strlen(t.name[i]) >= NAME_BYTES_MAX)
            abort();
    adapter_stranger(name);
    free(name);
    return 0;
}
