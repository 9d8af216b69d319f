/* The mini model that comes with flux1: found beside the program, in the source tree or where it is installed. */
#include "cli/builtin.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef FLUX1_SOURCE_MODELS /* the source tree's models/, as CMake knows it */
#define FLUX1_SOURCE_MODELS ""
#endif

#define MINI_MODEL "mini-schnell"

/* The folder of this program's file, or "" where the system does not tell. */
static void program_folder(char *out, size_t room)
{
    ssize_t n = readlink("/proc/self/exe", out, room - 1);
    out[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(out, '/');
    if (slash)
        *slash = '\0';
}

static bool try_folder(const char *models, char *out, size_t room)
{
    char index[BUILTIN_PATH_MAX + 32];
    int n = snprintf(out, room, "%s/" MINI_MODEL, models);
    if (!models[0] || n < 0 || (size_t)n >= room)
        return false;
    snprintf(index, sizeof index, "%s/model_index.json", out);
    return file_exists(index);
}

bool builtin_model(char *out, size_t room)
{
    char folder[BUILTIN_PATH_MAX], models[BUILTIN_PATH_MAX + 32];
    const char *chosen = getenv("FLUX1_MODELS");
    if (chosen)
        return try_folder(chosen, out, room);
    program_folder(folder, sizeof folder);
    snprintf(models, sizeof models, "%s/../models", folder);
    if (folder[0] && try_folder(models, out, room))
        return true;
    snprintf(models, sizeof models, "%s/../share/flux1/models", folder);
    if (folder[0] && try_folder(models, out, room))
        return true;
    return try_folder(FLUX1_SOURCE_MODELS, out, room);
}
