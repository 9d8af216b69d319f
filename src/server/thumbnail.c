#include "server/thumbnail.h"

#include <stdlib.h>

static int longer_side(const flux1_image *p) { return p->width > p->height ? p->width : p->height; }

bool thumbnail_pays(const flux1_image *picture) { return longer_side(picture) > THUMBNAIL_SIDE; }

static int shortened(int side, const flux1_image *picture)
{
    const int whole = longer_side(picture), small = (int)(((int64_t)side * THUMBNAIL_SIDE + whole / 2) / whole);
    return small > 0 ? small : 1;
}

/* Of `from` pixels in a row that become `to`, those that number i covers, also in part. */
typedef struct span {
    int64_t begin, end;
} span;

static span covered(int i, int from, int to)
{
    return (span){(int64_t)i * from / to, ((int64_t)(i + 1) * from + to - 1) / to};
}

static void draw_pixel(const flux1_image *picture, span x, span y, uint8_t *out)
{
    uint64_t sum[3] = {0};
    const uint64_t count = (uint64_t)((x.end - x.begin) * (y.end - y.begin));
    for (int64_t row = y.begin; row < y.end; row++) {
        const uint8_t *p = picture->pixels + 3 * (row * picture->width + x.begin);
        for (int64_t i = x.begin; i < x.end; i++, p += 3)
            for (int k = 0; k < 3; k++)
                sum[k] += p[k];
    }
    for (int k = 0; k < 3; k++)
        out[k] = (uint8_t)((sum[k] + count / 2) / count);
}

bool thumbnail_draw(const flux1_image *picture, flux1_image *small)
{
    *small = *picture;
    small->width = shortened(picture->width, picture);
    small->height = shortened(picture->height, picture);
    uint8_t *out = small->pixels = malloc(3 * (size_t)small->width * (size_t)small->height);
    for (int y = 0; out && y < small->height; y++)
        for (int x = 0; x < small->width; x++, out += 3)
            draw_pixel(picture, covered(x, picture->width, small->width), covered(y, picture->height, small->height),
                       out);
    return small->pixels != NULL;
}
