/* Names of the files a run writes. */
#ifndef FLUX1_CLI_OUTPUT_H
#define FLUX1_CLI_OUTPUT_H

#include "base/status.h"
#include "flux1.h"

#include <stdbool.h>
#include <stdint.h>

/* How the pictures of one request are named. */
typedef struct output_names {
    const char *output; /* --output; NULL: names are made up */
    const char *folder; /* of names that do not begin with '/'; NULL: the working folder */
    const char *prompt;
    flux1_format format; /* set by output_names_check */
    int count;
    int64_t before;     /* pictures of earlier lines, which a number in `output` counts too */
    const char *option; /* that gives the names, for messages; NULL: output */
} output_names;

/* Checks n->output and the format that is asked for ("png", "jpeg", "webp"; NULL: by --output's ending, else PNG), and
 * sets n->format. FLUX1_ERR_ARGUMENT: they contradict each other, no such format, or "-" for several pictures. */
flux1_status output_names_check(output_names *n, const char *format, flux1_error *err);

/* It has a %d or %03d for the picture's number. */
bool output_has_number(const char *output);

/* --output - */
bool output_is_stream(const output_names *n);

/* The name of picture `index`, malloc'd; NULL when out of memory. With output: output itself, with %d or %03d replaced
 * by before + index + 1, or of several pictures name-1.png, name-2.png, … Without: a name from prompt and seed
 * ("a-red-fox_seed42.png"), or "…_seed42-2.png" and so on, the first that no file has. */
char *output_name(const output_names *n, uint64_t seed, int index);

/* As output_name, but makes sure that a made-up name is nobody else's: *claimed says that an empty file of this name
 * was made, to be replaced, or removed again. */
char *output_claim(const output_names *n, uint64_t seed, int index, bool *claimed);

/* The names of a picture's file to try one after the other, from attempt 1: malloc'd; NULL: out of memory. */
typedef char *output_naming(const void *of, int attempt);

/* The first of these names that no file has, and an empty file of this name: *claimed. Otherwise the name of which
 * none could be made, for the reason in errno; NULL: out of memory. */
char *output_claim_new(output_naming *name, const void *of, bool *claimed);

/* Where the ending of a path's name begins: ".png"; "" if it has none. */
const char *output_ending(const char *path);

/* Makes --output-dir where it is not there. */
flux1_status output_make_folder(const output_names *n, flux1_error *err);

#endif
