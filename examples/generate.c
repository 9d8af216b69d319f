/* A picture from a prompt, with nothing but the public interface:
 *   cc generate.c $(pkg-config --cflags --libs flux1) -o generate && ./generate MODEL_FOLDER "a red fox" fox.png */
#include <flux1.h>

#include <stdio.h>

static int show(void *user, const flux1_progress *now)
{
    (void)user;
    fprintf(stderr, "\r%-14s %3.0f %%", now->stage_name, 100 * now->fraction);
    return 0; /* anything else would cancel */
}

int main(int argc, char **argv)
{
    flux1_context *context = NULL;
    flux1_model *model = NULL;
    flux1_image *image = NULL;
    flux1_generate_params params;
    if (argc != 4) {
        fprintf(stderr, "usage: %s MODEL_FOLDER PROMPT FILE.png\n", argv[0]);
        return 2;
    }
    flux1_generate_params_defaults(&params);
    params.prompt = argv[2];
    params.seed = 42;
    params.progress = show;

    flux1_status st = flux1_context_create(NULL, &context);
    if (st == FLUX1_OK)
        st = flux1_model_open(context, argv[1], &model);
    if (st == FLUX1_OK)
        st = flux1_generate(context, model, &params, &image);
    if (st == FLUX1_OK)
        st = flux1_image_write_png(context, image, model, &params, argv[3]);
    if (st == FLUX1_OK)
        fprintf(stderr, "\n%s: %d×%d, seed %llu\n", argv[3], image->width, image->height,
                (unsigned long long)image->seed);
    else
        fprintf(stderr, "\n%s: %s\n", flux1_status_name(st), context ? flux1_context_message(context) : "");

    if (image)
        flux1_images_free(image, 1);
    flux1_model_close(model);
    flux1_context_destroy(context);
    return st != FLUX1_OK;
}
