/* The linear estimate behind cheap previews: a latent cell's colour as a linear function of its channels, the same for
 * all cells, enlarged to the picture's size. It is fitted to one VAE (preview.c) and kept with the model, and by the
 * identity of the VAE's files also between runs (weights/small_cache.h). */
#ifndef FLUX1_PIPELINE_PROJECTION_H
#define FLUX1_PIPELINE_PROJECTION_H

#include "weights/store.h"

enum { PROJECTION_CHANNELS = 64, PROJECTION_SETTINGS = 3 }; /* channels: at most; FLUX.1 has 16 */

typedef struct projection {
    int64_t channels;
    /* root mean square of the difference to the VAE's picture, in 255ths, of a latent that it was not fitted to */
    double error;
    float weight[PROJECTION_CHANNELS + 1][3]; /* red, green, blue about −1 to 1, a row a channel; behind them a bias */
} projection;

/* Offset of channel 0 of latent cell (y, x) in packed tokens of a latent w cells wide; channel k is 4·k values on. */
static inline int64_t latent_cell(int64_t channels, int64_t w, int64_t y, int64_t x)
{
    return ((y / 2) * (w / 2) + x / 2) * 4 * channels + 2 * (y % 2) + x % 2;
}

/* Sets p->weight, for p->channels, by least squares over n cells: values [n, channels], colours [n, 3]. */
flux1_status projection_solve(projection *p, const float *values, const float *colours, size_t n, flux1_error *err);

/* What estimates of h × w cells are drawn on, `scale` pixels a cell. */
typedef struct projection_canvas {
    int64_t h, w, scale;
    uint8_t *pixels; /* [h·scale, w·scale, 3] */
    float *work;
} projection_canvas;
flux1_status projection_canvas_create(int64_t h, int64_t w, int64_t scale, projection_canvas *out, flux1_error *err);
void projection_canvas_free(projection_canvas *c); /* harmless on a zeroed one */

/* The estimate for a packed latent into c->pixels. Colours are taken as those of the cells' middles, and between these
 * they change linearly. Allocates nothing. */
void projection_draw(const projection *p, const float *tokens, projection_canvas *c);

/* Root mean square of the differences of two pictures' bytes. */
double picture_distance(const uint8_t *a, const uint8_t *b, size_t bytes);

/* ---- kept ---- */

/* A model's one. From any thread. */
typedef struct projection_place projection_place;
projection_place *projection_place_create(void); /* NULL: out of memory */
void projection_place_free(projection_place *p); /* NULL is fine */

/* What is known for a VAE with these weights and settings (what the picture depends on beside them),
 * by this process or an earlier one. It lives as long as the place. NULL: nothing. */
const projection *projection_known(projection_place *place, const store *vae,
                                   const double settings[PROJECTION_SETTINGS]);
/* Makes *p the place's, unless another thread was quicker, and notes it for later runs. Returns the place's. */
const projection *projection_note(projection_place *place, const store *vae, const double settings[PROJECTION_SETTINGS],
                                  const projection *p);

#endif
