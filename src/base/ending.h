#ifndef FLUX1_BASE_ENDING_H
#define FLUX1_BASE_ENDING_H

#include <stdbool.h>
#include <string.h>
#include <strings.h>

/* Whether a name ends so: all of it may be the ending. */
static inline bool ends_in(const char *name, const char *ending)
{
    const size_t n = strlen(name), m = strlen(ending);
    return n >= m && memcmp(name + n - m, ending, m) == 0;
}

/* The same in capitals or small letters (of ASCII), as endings of files are compared; something stands before it. */
static inline bool ends_in_any_case(const char *name, const char *ending)
{
    const size_t n = strlen(name), m = strlen(ending);
    return n > m && strcasecmp(name + n - m, ending) == 0;
}

#endif
