/* GGUF files: what the parser accepts must really lie in the block it was given; every accepted tensor that decodes is
 * read through. */
#include "fuzz.h"
#include "fuzz_view.h"

#include "weights/gguf.h"

#include <stdlib.h>
#include <string.h>

static void check_entry(const gguf *g, const gguf_entry *entry, const uint8_t *data, size_t size)
{
    if (gguf_find(g, entry->name) != entry)
        abort();
    check_view(&entry->view, data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gguf g;
    flux1_error err = {0};
    flux1_status st = gguf_parse(data, size, "f.gguf", &g, &err);
    if (st != FLUX1_OK && (err.status != st || strncmp(err.message, "f.gguf: ", 8) != 0 || g.count != 0))
        abort();
    for (size_t i = 0; i < g.count; i++)
        check_entry(&g, &g.entry[i], data, size);
    gguf_free(&g);
    return 0;
}
