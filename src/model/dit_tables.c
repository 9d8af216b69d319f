#include "model/dit_tables.h"

#include "base/half.h"

#include <math.h>
#include <string.h>

static float time_frequency(int i)
{
    /* torch's expf differs from a correctly rounded one at two of its 128 points (reference values of torch 2.13) */
    if (i == 12)
        return f32_from_bits(0x3ed7e89bu);
    if (i == 106)
        return f32_from_bits(0x39ff4fadu);
    float exponent = (float)-9.210340371976184 * (float)i / 128.0f; /* −ln 10000 */
    return (float)exp((double)exponent);
}

void time_embedding(float t, float out[TIME_CHANNELS])
{
    for (int i = 0; i < TIME_CHANNELS / 2; i++) {
        float phase = t * time_frequency(i);
        out[i] = (float)cos((double)phase);
        out[TIME_CHANNELS / 2 + i] = (float)sin((double)phase);
    }
}

/* cos and sin of one position on an axis of `size` columns. */
static void rotate(double position, int64_t size, float *out)
{
    for (int64_t d = 0; d < size; d += 2) {
        const double angle = position * (1.0 / pow(10000.0, (double)d / (double)size));
        *out++ = (float)cos(angle);
        *out++ = (float)sin(angle);
    }
}

enum { SEEN = 256 };

static int place_of(float id) { return id >= 0 && id < 0x1p30f ? (int)id % SEEN : 0; }

/* A picture has thousands of tokens but few positions on each axis: what an earlier row of the same position has is
 * taken from there (for a picture of 1024² 2 ms instead of 15). */
void rope_table(const dit_config *c, const float *ids, int64_t rows, float *out)
{
    int64_t seen[ROPE_AXES_MAX][SEEN], at = 0; /* the last row whose position has this place */
    memset(seen, -1, sizeof seen);
    for (int64_t r = 0; r < rows; r++)
        for (size_t a = 0; a < c->axis_count; at += c->axes[a], a++) {
            const float id = ids[r * DIT_ID_AXES + (int64_t)a];
            int64_t *place = &seen[a][place_of(id)];
            if (*place >= 0 && ids[*place * DIT_ID_AXES + (int64_t)a] == id)
                memcpy(out + at, out + at - (r - *place) * c->head_dim, (size_t)c->axes[a] * sizeof *out);
            else
                rotate((double)id, c->axes[a], out + at);
            *place = r;
        }
}
