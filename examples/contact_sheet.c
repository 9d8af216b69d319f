/* Twelve pictures on one sheet, with nothing but the public interface: prompts from a list, seeds 0, 1, 2, …, the
 * model's own size and steps, none left out. contact_sheet MODEL_FOLDER FILE.png */
#include <flux1.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 4, ROWS = 3, GAP = 4 };

static const char *const prompts[COLUMNS * ROWS] = {
    "a red fox beside a blue house at night",
    "two yellow ducks on a beach",
    "a penguin in the snow",
    "a castle in the desert",
    "a purple cow in the mountains",
    "three strawberries on a pink background",
    "a ghost in the forest",
    "a unicorn under a rainbow",
    "a big robot in the city",
    "a turtle under water",
    "a golden star on a purple background",
    "a sailboat at sunset",
};

static void put(flux1_image *sheet, const flux1_image *picture, int place)
{
    int left = place % COLUMNS * (picture->width + GAP), top = place / COLUMNS * (picture->height + GAP);
    for (int y = 0; y < picture->height; y++)
        memcpy(sheet->pixels + 3 * ((size_t)(top + y) * (size_t)sheet->width + (size_t)left),
               picture->pixels + 3 * (size_t)y * (size_t)picture->width, 3 * (size_t)picture->width);
}

/* White, as large as the first picture makes it. */
static int make_sheet(flux1_image *sheet, const flux1_image *first)
{
    sheet->width = COLUMNS * (first->width + GAP) - GAP;
    sheet->height = ROWS * (first->height + GAP) - GAP;
    size_t bytes = 3 * (size_t)sheet->width * (size_t)sheet->height;
    sheet->pixels = malloc(bytes);
    if (!sheet->pixels)
        return 0;
    memset(sheet->pixels, 255, bytes);
    return 1;
}

static flux1_status draw(flux1_context *context, const flux1_model *model, flux1_image *sheet)
{
    flux1_generate_params params;
    flux1_generate_params_defaults(&params);
    for (int i = 0; i < COLUMNS * ROWS; i++) {
        flux1_image *picture = NULL;
        params.prompt = prompts[i];
        params.seed = (uint64_t)i;
        flux1_status st = flux1_generate(context, model, &params, &picture);
        if (st == FLUX1_OK && !sheet->pixels && !make_sheet(sheet, picture))
            st = FLUX1_ERR_MEMORY;
        if (st == FLUX1_OK) {
            put(sheet, picture, i);
            printf("%2d  %s\n", i, prompts[i]);
        }
        if (picture)
            flux1_images_free(picture, 1);
        if (st != FLUX1_OK)
            return st;
    }
    return FLUX1_OK;
}

int main(int argc, char **argv)
{
    flux1_context *context = NULL;
    flux1_model *model = NULL;
    flux1_image sheet = {.size = sizeof sheet};
    if (argc != 3) {
        fprintf(stderr, "usage: %s MODEL_FOLDER FILE.png\n", argv[0]);
        return 2;
    }
    flux1_status st = flux1_context_create(NULL, &context);
    if (st == FLUX1_OK)
        st = flux1_model_open(context, argv[1], &model);
    if (st == FLUX1_OK)
        st = draw(context, model, &sheet);
    if (st == FLUX1_OK)
        st = flux1_image_write_png(context, &sheet, NULL, NULL, argv[2]);
    if (st != FLUX1_OK)
        fprintf(stderr, "%s: %s\n", flux1_status_name(st), context ? flux1_context_message(context) : "");
    free(sheet.pixels);
    flux1_model_close(model);
    flux1_context_destroy(context);
    return st != FLUX1_OK;
}
