#include "cli/serve_keys.h"

#include "base/file.h"
#include "cli/cli.h"
#include "cli/console.h"

#include <stdlib.h>
#include <string.h>

#define FILE_MAX ((size_t)1 << 20)

static int add(serve_keys *k, const char *key)
{
    if (k->count == SERVE_KEYS_MAX) {
        print_error("--api-key: at most %d keys", SERVE_KEYS_MAX);
        return EXIT_USAGE;
    }
    k->key[k->count++] = key;
    return EXIT_DONE;
}

/* A key a line; empty lines and those that begin with # do not count. */
static int read_lines(serve_keys *k, const char *path)
{
    int status = EXIT_DONE;
    char *rest = k->file;
    for (char *line; status == EXIT_DONE && (line = strsep(&rest, "\n"));) {
        line += strspn(line, " \t");
        line[strcspn(line, "\r")] = '\0';
        for (size_t n = strlen(line); n > 0 && (line[n - 1] == ' ' || line[n - 1] == '\t'); n--)
            line[n - 1] = '\0';
        if (line[0] && line[0] != '#')
            status = add(k, line);
    }
    if (status == EXIT_DONE && k->count == 0) {
        print_error("--api-key-file %s: there is no key in it", path);
        status = EXIT_USAGE;
    }
    return status;
}

int serve_keys_read(const options *opt, serve_keys *out)
{
    const char *path = opt->values[OPT_API_KEY_FILE].text;
    flux1_error err = {0};
    size_t size;
    *out = (serve_keys){0};
    for (int i = 0; i < opt->keys; i++) {
        const int status = add(out, opt->key[i]);
        if (status != EXIT_DONE)
            return status;
    }
    if (!path)
        return EXIT_DONE;
    if (file_read(path, FILE_MAX, &out->file, &size, &err) != FLUX1_OK) {
        print_failure(err.status, "%s", err.message);
        return EXIT_FAILED;
    }
    return read_lines(out, path);
}

void serve_keys_free(serve_keys *k) { free(k->file); }
