#include "cli/lora_files.h"

#include "cli/cli.h"
#include "cli/console.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t path_length(const char *text, float *scale)
{
    const char *colon = strrchr(text, ':');
    char *end;
    *scale = 1;
    if (!colon || colon == text || !colon[1] || access(text, F_OK) == 0)
        return strlen(text);
    const float number = strtof(colon + 1, &end);
    if (*end || !isfinite(number))
        return strlen(text);
    *scale = number;
    return (size_t)(colon - text);
}

bool lora_split(const char *text, size_t *length, float *scale)
{
    *length = path_length(text, scale);
    const char *colon = text[*length] ? NULL : strrchr(text, ':');
    if (!colon || access(text, F_OK) == 0)
        return true;
    char *file = strndup(text, (size_t)(colon - text));
    const bool right = !file || access(file, F_OK) != 0;
    if (!right)
        print_error("--lora %s: after the last colon goes the scale, a finite number such as 0.8", text);
    free(file);
    return right;
}

int lora_files_of(const options *opt, lora_files *out)
{
    *out = (lora_files){0};
    for (; out->count < opt->loras; out->count++) {
        const int i = out->count;
        size_t length;
        const bool right = lora_split(opt->lora[i], &length, &out->file[i].scale);
        if (!right || !(out->path[i] = strndup(opt->lora[i], length))) {
            lora_files_free(out);
            return right ? report(NULL, FLUX1_ERR_MEMORY) : EXIT_USAGE;
        }
        out->file[i].path = out->path[i];
    }
    return EXIT_DONE;
}

void lora_files_free(lora_files *l)
{
    for (int i = 0; i < l->count; i++)
        free(l->path[i]);
    *l = (lora_files){0};
}
