/* flux1.json beside model_index.json: which sizes of pictures a model was trained for.
 *
 *     {"sizes": {"min": 256, "max": 1536, "multiple": 16}}
 *
 * min, max: pixels of the shortest and of the longest side; multiple: of which the sides were multiples. Each may be
 * left out, as the file may; other keys are ignored. */
#ifndef FLUX1_PIPELINE_TRAINED_H
#define FLUX1_PIPELINE_TRAINED_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct trained_sizes {
    int64_t min, max, multiple; /* 0: not said */
} trained_sizes;

/* Of a pipeline folder; all 0 where there is no such file. FLUX1_ERR_FORMAT names what is of a wrong type, or smaller
 * than it may be. */
flux1_status trained_read(const char *folder, trained_sizes *out, flux1_error *err);

enum { TRAINED_ROOM = 160 };

/* "sides of 256 to 1536 pixels, in multiples of 16"; "" where nothing is said. */
const char *trained_describe(const trained_sizes *t, char out[TRAINED_ROOM]);

/* Whether a side is more than a quarter outside the range, or no multiple: pictures of that size may fall apart. */
bool trained_is_far(const trained_sizes *t, int64_t width, int64_t height);

#endif
