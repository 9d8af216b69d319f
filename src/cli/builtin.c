/* The mini model that comes with flux1: found beside the program, in the source tree or where it is installed. */
#include "cli/builtin.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MINI_MODEL "mini-schnell"

/* Where models/ may lie: as built in the source tree, as installed, and (whatever the build folder) the source tree as
 * CMake knows it. */
static const struct place {
    bool beside; /* below the folder that holds the program's folder */
    const char *path;
} places[] = {{true, "/models"}, {true, "/share/flux1/models"}, {false, FLUX1_SOURCE_MODELS}};

/* The folder that holds the program's folder ("" for /): /usr of /usr/bin/flux1. Links are followed. False where the
 * system does not tell. */
static bool program_prefix(char *out, size_t room)
{
    ssize_t n = readlink("/proc/self/exe", out, room - 1);
    out[n > 0 ? n : 0] = '\0';
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(out, '/');
        if (slash)
            *slash = '\0';
    }
    return n > 0;
}

static bool try_folder(const char *prefix, const char *models, builder *looked, char *out, size_t room)
{
    char index[BUILTIN_PATH_MAX + 32];
    int n = snprintf(out, room, "%s%s", prefix, models);
    if (n < 0 || (size_t)n + sizeof "/" MINI_MODEL > room)
        return false;
    if (!looked->text || !strstr(looked->text, out)) /* build/ in the source tree: two places are one */
        builder_format(looked, "%s%s", looked->length ? ", " : "", out);
    snprintf(out + n, room - (size_t)n, "/" MINI_MODEL);
    snprintf(index, sizeof index, "%s/model_index.json", out);
    return file_exists(index);
}

bool builtin_model(char *out, size_t room, builder *looked)
{
    char prefix[BUILTIN_PATH_MAX];
    const char *chosen = getenv("FLUX1_MODELS");
    bool known = program_prefix(prefix, sizeof prefix);
    if (chosen && !chosen[0]) {
        builder_add(looked, "FLUX1_MODELS (it is empty)");
        return false;
    }
    if (chosen)
        return try_folder("", chosen, looked, out, room);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if ((known || !places[i].beside) &&
            try_folder(places[i].beside ? prefix : "", places[i].path, looked, out, room))
            return true;
    return false;
}
