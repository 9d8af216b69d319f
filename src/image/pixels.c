#include "image/pixels.h"

#include <string.h>

void pixels_to_bytes(const float *restrict values, size_t count, uint8_t *restrict bytes)
{
    const float one_apart = 0x1p23f; /* from here on floats are whole numbers: adding it rounds half to even, and leaves
                                        the sum's lowest byte in its lowest bits */
    for (size_t i = 0; i < count; i++) {
        float v = values[i] / 2 + 0.5f;
        uint32_t bits;
        v = v < 0 ? 0 : v;
        v = (v > 1 ? 1 : v) * 255.0f + one_apart;
        memcpy(&bits, &v, sizeof bits);
        bytes[i] = (uint8_t)bits;
    }
}
