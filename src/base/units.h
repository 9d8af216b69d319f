/* Quantities as text, and sizes that people write. */
#ifndef FLUX1_BASE_UNITS_H
#define FLUX1_BASE_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BYTES_TEXT 16 /* a buffer of this size is enough for any number of bytes */

/* Writes bytes with three significant digits in the smallest binary unit that needs no more than three digits before
 * the point, and returns out: "45.3 KiB", "0.977 MiB" (1000 KiB), "7.50 GiB" … "999 YiB", and "999+ YiB" above. Up to
 * 1023 it is a whole number: "0 bytes", "1 byte", "812 bytes". The decimal point is a point in every locale. A negative
 * number has its sign in front; NaN gives "? bytes". room: size of out, at least 1; longer text is cut. */
const char *format_bytes(char *out, size_t room, double bytes);

/* A size such as "8G", "512M", "1.5GiB" or "4096": a number, perhaps a unit (K, M, G, T: powers of 1024), perhaps "B"
 * or, after a unit, "i" or "iB"; all in either case. From 1 to 2^63 - 1 bytes; false for anything else. */
bool parse_bytes(const char *text, uint64_t *out);

#endif
