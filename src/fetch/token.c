#include "fetch/token.h"

#include "base/file.h"
#include "base/hub.h"

#include <stdlib.h>
#include <string.h>

#define TOKEN_MAX 4096

/* Without blanks and line ends around it; *out stays NULL if nothing is left. */
static flux1_status clean(const char *text, const char *source, char **out, flux1_error *err)
{
    text += strspn(text, " \t\r\n");
    size_t n = strlen(text);
    while (n > 0 && strchr(" \t\r\n", text[n - 1]))
        n--;
    for (size_t i = 0; i < n; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return error_set(err, FLUX1_ERR_ARGUMENT,
                             "the token in %s has blanks or control characters in it: it should be one word (hf_…)",
                             source);
    if (n == 0)
        return FLUX1_OK;
    *out = strndup(text, n);
    return *out ? FLUX1_OK : error_oom(err, n + 1, "the token");
}

static flux1_status from_file(char **token, const char **source, flux1_error *err)
{
    char *path = NULL, *text = NULL;
    size_t size;
    if (hub_token_path(&path, NULL) != FLUX1_OK) /* no home folder: no token */
        return FLUX1_OK;
    flux1_status st = FLUX1_OK;
    if (file_exists(path) && (st = file_read(path, TOKEN_MAX, &text, &size, err)) == FLUX1_OK) {
        *source = "the hub's token file";
        st = clean(text, *source, token, err);
    }
    free(text);
    free(path);
    return st;
}

flux1_status token_find(char **token, const char **source, flux1_error *err)
{
    static const char *const variables[] = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"};
    *token = NULL;
    *source = "";
    if (hub_is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN"))
        return FLUX1_OK;
    for (int i = 0; i < 2 && !*token; i++) {
        const char *value = getenv(variables[i]);
        *source = variables[i];
        if (value)
            TRY(clean(value, *source, token, err));
    }
    return *token ? FLUX1_OK : from_file(token, source, err);
}
