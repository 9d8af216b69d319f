#include "model/dit_tables.h"

#include "base/half.h"

#include <math.h>

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

void rope_table(const dit_config *c, const float *ids, int64_t rows, float *out)
{
    for (int64_t r = 0; r < rows; r++, ids += DIT_ID_AXES)
        for (size_t a = 0; a < c->axis_count; a++)
            for (int64_t d = 0; d < c->axes[a]; d += 2) {
                double angle = (double)ids[a] * (1.0 / pow(10000.0, (double)d / (double)c->axes[a]));
                *out++ = (float)cos(angle);
                *out++ = (float)sin(angle);
            }
}
