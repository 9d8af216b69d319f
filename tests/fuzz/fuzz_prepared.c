/* Headers of entries of the cache of prepared weights: what is accepted lies within the file that it speaks of, and is
 * written back as it was read. */
#include "fuzz.h"

#include "base/hash.h"
#include "weights/prepared_format.h"

#include <stdlib.h>
#include <string.h>

static void check(const uint8_t *bytes, size_t size)
{
    prepared_header h;
    flux1_error err = {0};
    flux1_status st = prepared_header_read(bytes, size, &h, &err);
    if (st != FLUX1_OK) {
        if (err.status != st || h.count != 0 || h.block || h.description)
            abort();
        return;
    }
    for (size_t i = 0; i < h.count; i++)
        if (h.block[i].offset < h.header_bytes || h.block[i].offset > h.file_bytes ||
            h.block[i].bytes > h.file_bytes - h.block[i].offset || h.block[i].offset % PREPARED_ALIGN)
            abort();
    if (h.header_bytes != size || strlen(h.description) >= size)
        abort();
    unsigned char *again = malloc(size);
    if (again)
        prepared_header_write(&h, again); /* it has room for what was read */
    free(again);
    prepared_header_free(&h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check(data, size);

    /* with a length and a checksum that are right, which a fuzzer rarely finds */
    size_t whole = (size + PREPARED_HEAD + PREPARED_ALIGN - 1) / PREPARED_ALIGN * PREPARED_ALIGN;
    uint8_t *header = calloc(1, whole);
    if (!header)
        return 0;
    memcpy(header, data, size);
    memcpy(header, "flux1p1\n", 8);
    for (int i = 0; i < 8; i++)
        header[8 + i] = (uint8_t)((uint64_t)whole >> (8 * i));
    memset(header + 56, 0, 8);
    uint64_t sum = hash_bytes(header, whole);
    for (int i = 0; i < 8; i++)
        header[56 + i] = (uint8_t)(sum >> (8 * i));
    check(header, whole);
    free(header);
    return 0;
}
