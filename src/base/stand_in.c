#include "base/stand_in.h"

#include <string.h>
#include <strings.h>

#define POINTER "not the file itself; fetch it with \"git lfs pull\" or from the model's page"
#define PAGE "a web page, not the file itself (the download may have needed a login); fetch it again"
#define ANSWER "a server's answer, not the file itself (the download may have needed a login); fetch it again"

/* Upper and lower case are alike. No file of a model begins so. */
static const struct {
    const char *beginning, *sentence;
} known[] = {
    {"version https://git-lfs.github.com/", "a Git LFS pointer, " POINTER},
    {"version https://hawser.github.com/", "a Git LFS pointer, " POINTER},
    {"# xet version", "a pointer of Git Xet, not the file itself; fetch it from the model's page"},
    {"<?xml", ANSWER},
    {"<error", ANSWER},
    {"<!", PAGE},
    {"<html", PAGE},
    {"<head", PAGE},
    {"<body", PAGE},
    {"<title", PAGE},
    {"<script", PAGE},
    {"<meta", PAGE},
    {"{\"error\":", ANSWER},
    {"{\"message\":", ANSWER},
    {"entry not found", ANSWER},
    {"repository not found", ANSWER},
    {"invalid username or password", ANSWER},
    {"access to model ", ANSWER},
    {"not found", ANSWER},
    {"404: not found", ANSWER},
    {"unauthorized", ANSWER},
    {"forbidden", ANSWER},
};

const char *stand_in_named(const void *bytes, size_t size)
{
    static const char mark[] = "\xEF\xBB\xBF"; /* of UTF-8 */
    const char *text = bytes, *end = text ? text + size : NULL;
    if (size >= sizeof mark - 1 && memcmp(text, mark, sizeof mark - 1) == 0)
        text += sizeof mark - 1;
    while (text < end && (*text == ' ' || *text == '\t' || *text == '\r' || *text == '\n'))
        text++;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const size_t n = strlen(known[i].beginning);
        if ((size_t)(end - text) >= n && strncasecmp(text, known[i].beginning, n) == 0)
            return known[i].sentence;
    }
    return NULL;
}

flux1_status stand_in_check(const char *path, const void *bytes, size_t size, flux1_error *err)
{
    const char *what = stand_in_named(bytes, size);
    return what ? error_set(err, FLUX1_ERR_FORMAT, "%s: %s", path, what) : FLUX1_OK;
}
