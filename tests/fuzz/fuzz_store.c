/* Files of one part or several: name maps, scales, shares of fused tensors. The input is a file (fuzz_file.h). Every
 * item's ends are decoded. */
#include "fuzz.h"
#include "fuzz_file.h"

#include "weights/recipe.h"

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
    fuzz_file_write(data, size);
    for (int part = 0; part <= MODEL_PARTS; part++) {
        store *s;
        flux1_error err = {0};
        flux1_status st = part < MODEL_PARTS ? store_open_part(fuzz_path, (model_part)part, &s, &err)
                                             : store_open_file(fuzz_path, &s, &err);
        if (st != FLUX1_OK) {
            if (s || err.status != st || !strstr(err.message, fuzz_path))
                abort();
            continue;
        }
        for (size_t i = 0; i < store_count(s); i++)
            check_item(store_at(s, i));
        store_close(s);
    }
    return 0;
}
