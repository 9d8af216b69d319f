/* Random numbers that nobody can guess, for seeds and names. */
#ifndef FLUX1_SERVER_RANDOM_H
#define FLUX1_SERVER_RANDOM_H

#include <stdbool.h>
#include <stddef.h>

#define RANDOM_NAME 17 /* room for 16 hexadecimal digits */

bool random_bytes(void *out, size_t count); /* at most 256; false: the system gives none */
bool random_name(char out[RANDOM_NAME]);

#endif
