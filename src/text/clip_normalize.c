#include "text/clip_normalize.h"

#include "base/utf8.h"
#include "text/unicode.h"

#include <stdlib.h>

/* Each character by itself: no final sigma. */
static size_t lower_point(int32_t c, int32_t out[2])
{
    size_t low = 0, high = unicode_later_lower_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if ((int32_t)unicode_later_lower[middle][0] < c)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == unicode_later_lower_count || (int32_t)unicode_later_lower[low][0] != c)
        return unicode_lower_word(&c, 1, out);
    out[0] = (int32_t)unicode_later_lower[low][1];
    return 1;
}

/* Runs of white space become one space, characters their lower case, at most two of up to four bytes. */
static size_t write_points(const clip_steps *steps, const int32_t *points, size_t count, char *out)
{
    size_t n = 0;
    bool in_space = false;
    for (size_t i = 0; i < count; i++) {
        int32_t lower[2] = {points[i]};
        const bool space = steps->collapse_spaces && unicode_is_white_space(points[i]);
        size_t few = steps->lower ? lower_point(points[i], lower) : 1;
        if (space && !in_space)
            out[n++] = ' ';
        for (size_t k = 0; !space && k < few; k++)
            n += utf8_encode(lower[k], out + n);
        in_space = space;
    }
    return n;
}

flux1_status clip_normalize(const clip_steps *steps, const char *text, size_t bytes, char **out, size_t *out_bytes,
                            flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    size_t count = 0;
    int32_t *composed = NULL, *points = malloc((bytes + 1) * sizeof *points);
    *out = NULL;
    if (!points)
        return error_oom(err, bytes * sizeof *points, "a prompt");
    for (size_t at = 0; at < bytes; count++)
        at += utf8_decode(text + at, bytes - at, &points[count]);
    if (steps->compose)
        TRY_CLEANUP(unicode_nfc(points, count, &composed, &count, err));
    if (!(*out = malloc(8 * count + 1))) {
        st = error_oom(err, 8 * count + 1, "a prompt");
        goto cleanup;
    }
    *out_bytes = write_points(steps, composed ? composed : points, count, *out);
cleanup:
    free(points);
    free(composed);
    return st;
}
