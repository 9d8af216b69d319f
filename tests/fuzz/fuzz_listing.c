/* The hub's listing: any bytes give valid names, each once and in order, or one sentence; choosing among them chooses
 * something or gives one sentence. The input is a variant, a pattern and the listing, with line ends between them. */
#include "fuzz.h"

#include "fetch/choose.h"

#include <stdlib.h>
#include <string.h>

static void check_refusal(flux1_status st, const flux1_error *err)
{
    if (st != FLUX1_OK && (err->status != st || !err->message[0]))
        abort();
}

/* A line of the input, malloc'd; *data and *size move behind it. */
static char *take_line(const uint8_t **data, size_t *size)
{
    const uint8_t *end = *size ? memchr(*data, '\n', *size) : NULL;
    size_t n = end ? (size_t)(end - *data) : 0;
    char *line = strndup((const char *)*data, n < 64 ? n : 64);
    *data += end ? n + 1 : 0;
    *size -= end ? n + 1 : 0;
    return line;
}

static void choose(const hub_listing *l, const char *variant, const char *pattern)
{
    flux1_error err = {0};
    size_t count = 0;
    bool *chosen = malloc(l->count + 1);
    if (!chosen)
        return;
    memset(chosen, 0xFF, l->count + 1);
    flux1_status st = choose_files(l, "o/n", variant[0] ? variant : NULL, &pattern, pattern[0] != '\0', chosen, &err);
    check_refusal(st, &err);
    for (size_t i = 0; st == FLUX1_OK && i < l->count; i++)
        count += chosen[i];
    if (st == FLUX1_OK && count == 0)
        abort();
    free(chosen);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hub_listing l;
    flux1_error err = {0};
    char *variant = take_line(&data, &size), *pattern = take_line(&data, &size);
    flux1_status st = hub_listing_parse((const char *)data, size, "o/n", &l, &err);
    check_refusal(st, &err);
    for (size_t i = 0; i < l.count; i++)
        if (!hub_path_valid(l.names[i]) || (i > 0 && strcmp(l.names[i - 1], l.names[i]) >= 0))
            abort();
    if (st == FLUX1_OK && variant && pattern)
        choose(&l, variant, pattern);
    hub_listing_free(&l);
    free(variant);
    free(pattern);
    return 0;
}
