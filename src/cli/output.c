#include "cli/output.h"

#include "base/builder.h"
#include "base/file.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SLUG_MAX 48
#define NAMES_MAX 100000 /* of one prompt and seed; beyond it something else is wrong */

/* Where the ending begins ("" if there is none). */
static const char *extension(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
    return dot && dot != name ? dot : name + strlen(name);
}

/* The prompt's ASCII letters and digits, small, with one dash between words: "A red fox, at dawn!" →
 * "a-red-fox-at-dawn". */
static void slug(const char *prompt, char out[SLUG_MAX + 1])
{
    size_t n = 0, word = 0; /* word: where the last whole word ends */
    for (; *prompt; prompt++) {
        unsigned char c = (unsigned char)*prompt;
        if (c < 0x80 && isalnum(c)) {
            if (n == SLUG_MAX) {
                n = word ? word : n;
                break;
            }
            out[n++] = (char)tolower(c);
        } else if (n > 0 && n < SLUG_MAX && out[n - 1] != '-') {
            word = n;
            out[n++] = '-';
        }
    }
    while (n > 0 && out[n - 1] == '-')
        n--;
    out[n] = '\0';
    if (n == 0)
        strcpy(out, "image");
}

static char *take(builder *b)
{
    char *name;
    builder_take(b, "a file name", &name, NULL);
    return name;
}

char *output_name(const char *output, const char *prompt, uint64_t seed, int index, int count)
{
    builder b = {0};
    if (output && count == 1) {
        builder_add(&b, output);
        return take(&b);
    }
    if (output) {
        const char *ending = extension(output);
        builder_add_bytes(&b, output, (size_t)(ending - output));
        builder_format(&b, "-%d%s", index + 1, ending);
        return take(&b);
    }
    char words[SLUG_MAX + 1], *name = NULL;
    slug(prompt, words);
    for (int again = 1; again <= NAMES_MAX; again++) {
        builder_format(&b, "%s_seed%" PRIu64, words, seed);
        if (again > 1)
            builder_format(&b, "-%d", again);
        builder_add(&b, ".png");
        if (!(name = take(&b)) || !file_exists(name))
            break;
        if (again < NAMES_MAX)
            free(name);
    }
    return name;
}

flux1_status output_check_format(const char *output, flux1_error *err)
{
    static const char *const others[] = {".jpg", ".jpeg", ".webp", ".gif", ".bmp",
                                         ".tif", ".tiff", ".avif", ".jxl", ".ppm"};
    if (strcmp(output, "-") == 0)
        return error_set(err, FLUX1_ERR_ARGUMENT,
                         "--output -: writing to standard output is not supported; name a file");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcasecmp(extension(output), others[i]) == 0)
            return error_set(err, FLUX1_ERR_ARGUMENT,
                             "--output %s: only PNG is supported; name a file that ends in .png", output);
    return FLUX1_OK;
}

flux1_status output_check_writable(const char *path, flux1_error *err)
{
    file_writer w;
    flux1_status st = file_begin(path, &w, err);
    file_abandon(&w);
    return st;
}
