/* For a sub-block, some inverse scales near the one that just spans its values are tried. Each gives levels, and for
 * these levels the scale (and minimum) of the least squared error is a linear regression; the best is kept. Sums run in
 * 8 lanes in any instruction set, so that the results are the same. Included once per instruction set, which defines
 * SEARCH, the name of the table. */
#include "tensor/encode_search.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 8
#define SPAN_TRIES 16
#define SIGNED_TRIES 19
#define ROUND 0x1.8p23f /* adding and subtracting it rounds to the nearest whole number, |x| < 2^22 */

typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t lane_bits __attribute__((vector_size(4 * LANES)));

#define FILL(value) ((lanes){0} + (value))
#define CHOOSE(which, a, b) ((lanes)(((which) & (lane_bits)(a)) | (~(which) & (lane_bits)(b))))
#define LESSER(a, b) CHOOSE((a) < (b), a, b)
#define GREATER(a, b) CHOOSE((a) > (b), a, b)
#define LOAD(into, from) memcpy(&(into), from, sizeof(lanes))

typedef struct sums {
    float x, xx; /* of the values */
    float l, ll, lx;
} sums;

static float total(const lanes *v)
{
    float a[LANES];
    memcpy(a, v, sizeof a);
    return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
}

/* `least` is 0 where all values are above. */
static void values_sums(const float *x, int n, float *least, float *most, sums *out)
{
    lanes v, low = {0}, high, xs = {0}, xxs = {0};
    LOAD(high, x);
    for (int i = 0; i < n; i += LANES) {
        LOAD(v, x + i);
        low = LESSER(v, low);
        high = GREATER(v, high);
        xs += v;
        xxs += v * v;
    }
    *least = low[0];
    *most = high[0];
    for (int k = 1; k < LANES; k++) {
        *least = low[k] < *least ? low[k] : *least;
        *most = high[k] > *most ? high[k] : *most;
    }
    out->x = total(&xs);
    out->xx = total(&xxs);
}

static void level_sums(const float *x, int n, float factor, float least, float top, sums *out)
{
    lanes v, l = {0}, ll = {0}, lx = {0};
    const lanes highest = FILL(top);
    for (int i = 0; i < n; i += LANES) {
        LOAD(v, x + i);
        lanes level = ((v - least) * factor + ROUND) - ROUND;
        level = LESSER(level, highest);
        l += level;
        ll += level * level;
        lx += level * v;
    }
    out->l = total(&l);
    out->ll = total(&ll);
    out->lx = total(&lx);
}

/* The regression for given levels; returns the squared error. */
static float regress(const sums *s, int n, encode_fit *out)
{
    const float d = (float)n * s->ll - s->l * s->l;
    float scale = 0, low = 1;
    if (d > 0) {
        scale = ((float)n * s->lx - s->x * s->l) / d;
        low = (s->ll * s->x - s->l * s->lx) / d;
    }
    if (low > 0) {
        low = 0;
        scale = s->ll > 0 ? s->lx / s->ll : 0;
    }
    scale = scale > 0 ? scale : 0;
    *out = (encode_fit){scale, -low};
    return s->xx - 2 * scale * s->lx - 2 * low * s->x + scale * scale * s->ll + 2 * scale * low * s->l +
           (float)n * low * low;
}

static encode_fit span(const float *x, int n, float top)
{
    float least, most, best_error = INFINITY;
    sums s;
    values_sums(x, n, &least, &most, &s);
    encode_fit best = {0, -least}, one;
    if (most <= least || !isfinite(top / (most - least)))
        return best;
    for (int k = 0; k < SPAN_TRIES; k++) {
        level_sums(x, n, (top + 0.125f * (float)(k - SPAN_TRIES / 2)) / (most - least), least, top, &s);
        const float error = regress(&s, n, &one);
        if (error < best_error) {
            best_error = error;
            best = one;
        }
    }
    return best;
}

static void signed_sums(const float *x, float factor, float top, float *ll, float *lx)
{
    lanes v, a = {0}, b = {0};
    const lanes lowest = FILL(-top), highest = FILL(top - 1);
    for (int i = 0; i < 16; i += LANES) {
        LOAD(v, x + i);
        lanes level = (v * factor + ROUND) - ROUND;
        level = LESSER(level, highest);
        level = GREATER(level, lowest);
        a += level * level;
        b += level * v;
    }
    *ll = total(&a);
    *lx = total(&b);
}

/* For given levels the error is Σx² - lx²/ll at the best scale, lx/ll. */
static float signed_scale(const float *x, float top)
{
    float least, most, best = 0, gain = 0, ll, lx;
    sums unused;
    values_sums(x, 16, &least, &most, &unused);
    const float extreme = most > -least ? most : least;
    if (extreme == 0 || !isfinite(top / extreme))
        return 0;
    for (int k = 0; k < SIGNED_TRIES; k++) {
        signed_sums(x, -(top + 0.1f * (float)(k - SIGNED_TRIES / 2)) / extreme, top, &ll, &lx);
        if (ll > 0 && lx * lx > gain * ll) {
            gain = lx * lx / ll;
            best = lx / ll;
        }
    }
    return best;
}

const encode_search SEARCH = {span, signed_scale};
