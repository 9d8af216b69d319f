#include "cli/step_check.h"

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/console.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

static size_t bytes_of(const flux1_image *image) { return 3 * (size_t)image->width * (size_t)image->height; }

static int fail(step_check *s)
{
    print_error("--step-cache-check: a temporary file cannot be written: %s", strerror(errno));
    s->failed = true;
    return 1;
}

static bool go_to(const step_check *s, const flux1_image *image)
{
    return fseeko(s->full, (off_t)image->index * (off_t)bytes_of(image), SEEK_SET) == 0;
}

/* user: the check. */
static int keep(void *user, const flux1_image *image)
{
    step_check *s = user;
    const size_t n = bytes_of(image);
    if (!go_to(s, image) || fwrite(image->pixels, 1, n, s->full) != n || fflush(s->full) != 0)
        return fail(s);
    return was_interrupted();
}

flux1_status step_check_make(step_check *s, flux1_context *c, const flux1_model *m, const flux1_generate_params *params)
{
    flux1_generate_params full = *params;
    const double start = clock_seconds();
    full.step_cache = 0;
    full.image = keep;
    full.image_user = s;
    full.undecoded = NULL; /* its latents are not the request's */
    full.dump = full.profile = NULL;
    full.preview_every = 0;
    flux1_status st = flux1_generate_check(c, m, params); /* before the other run's work, which plans itself */
    if (st != FLUX1_OK)
        return st;
    if (!(s->full = tmpfile())) {
        fail(s);
        return FLUX1_ERR_IO;
    }
    st = flux1_generate(c, m, &full, NULL);
    s->count = st == FLUX1_OK ? params->count : 0;
    s->seconds = clock_seconds() - start;
    return st;
}

/* Sums of squares, of the differences and of the full run's picture. */
static bool compare(const step_check *s, const flux1_image *image, double *squares, double *size)
{
    unsigned char full[3 * 1024];
    const size_t n = bytes_of(image);
    bool good = go_to(s, image);
    for (size_t at = 0; good && at < n; at += sizeof full) {
        const size_t count = n - at < sizeof full ? n - at : sizeof full;
        good = fread(full, 1, count, s->full) == count;
        for (size_t i = 0; good && i < count; i++) {
            const double d = (double)image->pixels[at + i] - full[i];
            *squares += d * d;
            *size += (double)full[i] * full[i];
        }
    }
    return good;
}

step_distance step_check_tell(const step_check *s, const flux1_image *image)
{
    double squares = 0, size = 0;
    if (image->index >= s->count)
        return (step_distance){0};
    if (!compare(s, image, &squares, &size)) {
        print_warning("seed %" PRIu64 ": not compared, as the temporary file cannot be read", image->seed);
        return (step_distance){0};
    }
    if (squares == 0) {
        print_note("seed %" PRIu64 ": the picture is that of the full run", image->seed);
        return (step_distance){.known = true, .psnr = INFINITY};
    }
    const step_distance d = {.known = true,
                             .relative_l2 = sqrt(squares / (size > 0 ? size : 1)),
                             .psnr = 10 * log10(255.0 * 255.0 * (double)bytes_of(image) / squares)};
    print_note("seed %" PRIu64 ": %.1f dB PSNR from the full run's picture (relative L2 %.3g)", image->seed, d.psnr,
               d.relative_l2);
    return d;
}

void step_check_free(step_check *s)
{
    if (s->full)
        fclose(s->full);
    *s = (step_check){0};
}
