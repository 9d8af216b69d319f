/* Where the tests' data are: in the source tree, or where the environment says that they were carried with the programs
 * (bench/cuda/pack.sh). */
#ifndef FLUX1_TESTS_PLACES_H
#define FLUX1_TESTS_PLACES_H

#include <stdlib.h>

static inline const char *place_or(const char *variable, const char *otherwise)
{
    const char *moved = getenv(variable);
    return moved && *moved ? moved : otherwise;
}

static inline const char *test_data(void) { return place_or("FLUX1_TEST_DATA", TEST_DATA); }
static inline const char *test_models(void) { return place_or("FLUX1_TEST_MODELS", SOURCE_MODELS); }

#endif
