#include "cli/step_check.h"

#include "base/clock.h"
#include "cli/console.h"

#include <inttypes.h>
#include <math.h>

flux1_status step_check_make(step_check *s, flux1_context *c, const flux1_model *m, const flux1_generate_params *params)
{
    flux1_generate_params full = *params;
    const double start = clock_seconds();
    full.step_cache = 0;
    full.image = NULL;
    full.undecoded = NULL; /* its latents are not the request's */
    full.dump = full.profile = NULL;
    full.preview_every = 0;
    const flux1_status st = flux1_generate(c, m, &full, &s->full);
    s->count = st == FLUX1_OK ? params->count : 0;
    s->seconds = clock_seconds() - start;
    return st;
}

void step_check_tell(const step_check *s, const flux1_image *image)
{
    if (image->index >= s->count)
        return;
    const flux1_image *full = &s->full[image->index];
    const size_t n = 3 * (size_t)image->width * (size_t)image->height;
    double squares = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)image->pixels[i] - full->pixels[i];
        squares += d * d;
        size += (double)full->pixels[i] * full->pixels[i];
    }
    if (squares == 0)
        print_note("seed %" PRIu64 ": the picture is that of the full run", image->seed);
    else
        print_note("seed %" PRIu64 ": %.1f dB PSNR from the full run's picture (relative L2 %.3g)", image->seed,
                   10 * log10(255.0 * 255.0 * (double)n / squares), sqrt(squares / (size > 0 ? size : 1)));
}

void step_check_free(step_check *s)
{
    flux1_images_free(s->full, s->count);
    *s = (step_check){0};
}
