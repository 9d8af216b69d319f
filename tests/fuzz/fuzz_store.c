/* Files of one part or several: name maps, scales, shares of fused tensors. The input is a GGUF file, or a safetensors
 * header, a line feed and the data. Every item's ends are decoded. */
#include "fuzz.h"

#include "weights/recipe.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/flux1_fuzz_XXXXXX";
static int file = -1;

static void remove_file(void) { unlink(path); }

static void write_file(const uint8_t *data, size_t size)
{
    if (file < 0) {
        file = mkstemp(path);
        atexit(remove_file);
    }
    const uint8_t *line = size ? memchr(data, '\n', size) : NULL;
    const size_t header = line ? (size_t)(line - data) : size;
    uint8_t length[8] = {(uint8_t)header, (uint8_t)(header >> 8), (uint8_t)(header >> 16)};
    bool whole = size >= 4 && memcmp(data, "GGUF", 4) == 0;
    if (file < 0 || ftruncate(file, 0) != 0 || lseek(file, 0, SEEK_SET) != 0)
        abort();
    ssize_t written = whole ? write(file, data, size) : write(file, length, 8);
    if (!whole && written == 8) {
        written = write(file, data, header);
        if (line)
            written = write(file, line + 1, size - header - 1);
    }
    if (written < 0)
        abort();
}

static void check_item(const store_tensor *t)
{
    float x;
    flux1_error err;
    const weight_recipe r = recipe_whole(WEIGHT_LINEAR, t);
    if (r.count == 0 || !tensor_decodes(&t->view))
        return;
    if (recipe_decode(&r, 0, 0, 1, &x, &err) != FLUX1_OK ||
        recipe_decode(&r, r.rows - 1, r.cols - 1, 1, &x, &err) != FLUX1_OK)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 1 << 20)
        return 0;
    write_file(data, size);
    for (int part = 0; part <= MODEL_PARTS; part++) {
        store *s;
        flux1_error err = {0};
        flux1_status st =
            part < MODEL_PARTS ? store_open_part(path, (model_part)part, &s, &err) : store_open_file(path, &s, &err);
        if (st != FLUX1_OK) {
            if (s || err.status != st || !strstr(err.message, path))
                abort();
            continue;
        }
        for (size_t i = 0; i < store_count(s); i++)
            check_item(store_at(s, i));
        store_close(s);
    }
    return 0;
}
