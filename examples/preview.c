/* Two pictures of one model at the same time, each on a context and a thread of its own: the first shows its progress
 * and writes previews, the second is cancelled in its midst.
 *   cc preview.c -pthread $(pkg-config --cflags --libs flux1) -o preview
 *   ./preview MODEL_FOLDER "a red fox" fox.png */
#include <flux1.h>

#include <pthread.h>
#include <stdio.h>

typedef struct painter {
    flux1_context *context, *writer; /* a context is busy while it draws: previews are written by another one */
    const flux1_model *model;
    flux1_generate_params params;
    const char *path;
    int previews;
} painter;

/* On the painter's own thread, several times a step. */
static int show(void *user, const flux1_progress *now)
{
    painter *p = user;
    if (!now->preview)
        return 0;
    p->previews++;
    fprintf(stderr, "step %d of %d: preview of %d×%d\n", now->step, now->steps, now->preview->width,
            now->preview->height);
    /* the file always has the newest; without a model and params it has no metadata */
    return flux1_image_write_png(p->writer, now->preview, NULL, NULL, p->path) != FLUX1_OK; /* 1 would cancel */
}

static int stop_at_the_first_step(void *user, const flux1_progress *now)
{
    (void)user;
    return now->stage == FLUX1_STAGE_DENOISE && now->step == 1;
}

static void *draw(void *user)
{
    painter *p = user;
    flux1_image *image = NULL;
    flux1_status st = flux1_generate(p->context, p->model, &p->params, &image);
    if (st == FLUX1_OK)
        st = flux1_image_write_png(p->context, image, p->model, &p->params, p->path);
    if (st == FLUX1_ERR_CANCELLED)
        fprintf(stderr, "%s: cancelled\n", p->path);
    else if (st != FLUX1_OK)
        fprintf(stderr, "%s: %s\n", flux1_status_name(st), flux1_context_message(p->context));
    else
        fprintf(stderr, "%s: done, %d previews\n", p->path, p->previews);
    flux1_images_free(image, image ? 1 : 0);
    return NULL;
}

static flux1_status prepare(painter *p, const char *prompt, const char *path, uint64_t seed)
{
    flux1_context_params half;
    flux1_context_params_defaults(&half);
    half.threads = 1; /* each has its share of the machine */
    flux1_generate_params_defaults(&p->params);
    p->params.prompt = prompt;
    p->params.seed = seed;
    p->params.preview_every = 1;
    p->params.progress = show;
    p->params.progress_user = p;
    p->path = path;
    flux1_status st = flux1_context_create(&half, &p->context);
    return st == FLUX1_OK ? flux1_context_create(&half, &p->writer) : st;
}

int main(int argc, char **argv)
{
    painter first = {0}, second = {0};
    flux1_model *model = NULL;
    pthread_t thread;
    if (argc != 4) {
        fprintf(stderr, "usage: %s MODEL_FOLDER PROMPT FILE.png\n", argv[0]);
        return 2;
    }
    flux1_status st = prepare(&first, argv[2], argv[3], 42);
    if (st == FLUX1_OK)
        st = prepare(&second, argv[2], "cancelled.png", 43);
    second.params.progress = stop_at_the_first_step;
    if (st == FLUX1_OK)
        st = flux1_model_open(first.context, argv[1], &model); /* any number of contexts may use it */
    if (st != FLUX1_OK)
        fprintf(stderr, "%s: %s\n", flux1_status_name(st), flux1_context_message(first.context));
    first.model = second.model = model;
    if (st == FLUX1_OK && pthread_create(&thread, NULL, draw, &second) == 0) {
        draw(&first);
        pthread_join(thread, NULL);
    }
    flux1_model_close(model);
    painter *const all[] = {&first, &second};
    for (int i = 0; i < 2; i++) {
        flux1_context_destroy(all[i]->writer);
        flux1_context_destroy(all[i]->context);
    }
    return st != FLUX1_OK;
}
