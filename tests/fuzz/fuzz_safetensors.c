/* Safetensors files: what the parser accepts must really lie in the block it was given; every accepted float tensor is
 * read through. */
#include "fuzz.h"
#include "fuzz_view.h"

#include "weights/safetensors.h"

#include <stdlib.h>
#include <string.h>

static void check_entry(const safetensors *s, const safetensors_entry *entry, const uint8_t *data, size_t size)
{
    if (safetensors_find(s, entry->name) != entry)
        abort();
    check_view(&entry->view, data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    safetensors s;
    flux1_error err = {0};
    flux1_status st = safetensors_parse(data, size, "f.safetensors", &s, &err);
    if (st != FLUX1_OK && (err.status != st || strncmp(err.message, "f.safetensors: ", 15) != 0 || s.count != 0))
        abort();
    for (size_t i = 0; i < s.count; i++)
        check_entry(&s, &s.entry[i], data, size);
    safetensors_free(&s);

    /* without the 8 bytes of length, which a fuzzer rarely gets right: the input is the header and 16 bytes of data
     * follow */
    size_t whole = 8 + size + 16;
    uint8_t *file = calloc(1, whole);
    if (!file)
        return 0;
    for (int i = 0; i < 8; i++)
        file[i] = (uint8_t)((uint64_t)size >> (8 * i));
    if (size)
        memcpy(file + 8, data, size);
    if (safetensors_parse(file, whole, "f.safetensors", &s, &err) == FLUX1_OK)
        for (size_t i = 0; i < s.count; i++)
            check_entry(&s, &s.entry[i], file, whole);
    safetensors_free(&s);
    free(file);
    return 0;
}
