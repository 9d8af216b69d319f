/* Arithmetic on sizes that come from files and requests: every product and sum of dimensions goes through here.
 * Each returns false, and leaves *out alone, when the result does not fit. */
#ifndef FLUX1_BASE_CHECKED_H
#define FLUX1_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool size_mul(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

static inline bool size_add(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

static inline bool i64_mul(int64_t a, int64_t b, int64_t *out)
{
    int64_t r;
    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

static inline bool i64_add(int64_t a, int64_t b, int64_t *out)
{
    int64_t r;
    if (__builtin_add_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

/* Smallest multiple of `step` (a power of two) that is >= n; n must be <= SIZE_MAX - step. */
static inline size_t size_round_up(size_t n, size_t step) { return (n + step - 1) & ~(step - 1); }

static inline int64_t i64_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t i64_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t i64_max(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
