#include "weights/adapter_delta.h"

#include "weights/recipe.h"

/* strength · alpha/rank · up·down, one row of down after the other. */
flux1_status adapter_delta_rows(const adapter_file *f, model_part part, const char *layer, float strength,
                                int64_t first, int64_t rows, int64_t cols, float *delta, float *scratch, bool *changes,
                                flux1_error *err)
{
    const adapter_term *t = adapter_find(f, part, layer);
    *changes = t != NULL;
    if (!t)
        return FLUX1_OK;
    const weight_recipe up = recipe_whole(WEIGHT_LINEAR, &t->up), down = recipe_whole(WEIGHT_LINEAR, t->down);
    const float scale = strength * t->scale;
    for (int64_t k = 0; k < down.rows; k++) {
        TRY(recipe_decode(&down, k, 0, cols, scratch, err));
        for (int64_t r = 0; r < rows; r++) {
            float factor, *row = delta + r * cols;
            TRY(recipe_decode(&up, first + r, k, 1, &factor, err));
            factor *= scale;
            for (int64_t i = 0; i < cols; i++)
                row[i] += factor * scratch[i];
        }
    }
    return FLUX1_OK;
}
