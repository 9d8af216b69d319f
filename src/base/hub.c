#include "base/hub.h"

#include "base/builder.h"
#include "base/file.h"
#include "base/utf8.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* ---- names ---- */

static bool is_alphanumeric(char c) { return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z'); }

/* What is wrong with an organisation's or repository's name of n bytes; NULL: nothing. */
static const char *name_fault(const char *name, size_t n)
{
    if (n == 0)
        return "a part of the name is empty";
    if (n > HUB_NAME_MAX)
        return "a part of the name is longer than 96 characters";
    for (size_t i = 0; i < n; i++) {
        if (!is_alphanumeric(name[i]) && !strchr("._-", name[i]))
            return "a name has letters, digits, '.', '_' and '-' only";
        if (i > 0 && name[i] == name[i - 1] && (name[i] == '.' || name[i] == '-'))
            return "a name must not contain \"..\" or \"--\"";
    }
    if (strchr(".-", name[0]) || strchr(".-", name[n - 1]))
        return "a name must not begin or end with '.' or '-'";
    if (n >= 4 && memcmp(name + n - 4, ".git", 4) == 0)
        return "a name must not end in \".git\"";
    return NULL;
}

/* What is wrong with one part of a revision, by git's rules for references. */
static const char *reference_part_fault(const char *part, size_t n)
{
    if (n == 0)
        return "its revision is empty or has an empty part";
    if (part[0] == '.' || part[0] == '-' || part[n - 1] == '.' || (n >= 5 && memcmp(part + n - 5, ".lock", 5) == 0))
        return "a part of a revision must not begin with '.' or '-' or end with '.' or \".lock\"";
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)part[i] <= ' ' || part[i] == 0x7f || strchr("~^:?*[\\@", part[i]))
            return "a revision must not contain blanks, control characters or any of ~ ^ : ? * [ \\ @";
        if (i > 0 && part[i] == '.' && part[i - 1] == '.')
            return "a revision must not contain \"..\"";
    }
    return NULL;
}

static const char *revision_fault(const char *revision)
{
    if (strlen(revision) > HUB_REVISION_MAX)
        return "its revision is longer than 200 characters";
    if (!utf8_valid(revision, strlen(revision)))
        return "its revision is not UTF-8";
    for (const char *part = revision;; part++) {
        size_t n = strcspn(part, "/");
        const char *fault = reference_part_fault(part, n);
        part += n;
        if (fault || !*part)
            return fault;
    }
}

flux1_status hub_name_parse(const char *text, hub_name *out, flux1_error *err)
{
    const char *at = strchr(text, '@'), *slash = strchr(text, '/');
    size_t length = at ? (size_t)(at - text) : strlen(text);
    const char *fault;
    *out = (hub_name){.revision = "main"};
    if (!slash || slash >= text + length)
        fault = "a repository is named org/name";
    else if (memchr(slash + 1, '/', (size_t)(text + length - slash - 1)))
        fault = "a repository is named org/name, with one slash";
    else if (!(fault = name_fault(text, (size_t)(slash - text))) &&
             !(fault = name_fault(slash + 1, (size_t)(text + length - slash - 1))) && at)
        fault = revision_fault(at + 1);
    if (fault)
        return error_set(err, FLUX1_ERR_ARGUMENT, "\"%.300s\" is not a repository of the Hugging Face hub: %s", text,
                         fault);
    memcpy(out->repository, text, length);
    if (at)
        memcpy(out->revision, at + 1, strlen(at + 1) + 1);
    return FLUX1_OK;
}

bool hub_path_valid(const char *path)
{
    size_t length = strlen(path);
    if (length == 0 || length > HUB_PATH_MAX || !utf8_valid(path, length))
        return false;
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)path[i] < ' ' || path[i] == 0x7f || path[i] == '\\')
            return false;
    for (const char *part = path;; part++) {
        size_t n = strcspn(part, "/");
        if (n == 0 || n > 255 || (n <= 2 && strspn(part, ".") >= n))
            return false;
        part += n;
        if (!*part)
            return true;
    }
}

bool hub_is_commit(const char *text)
{
    return strlen(text) == HUB_COMMIT && strspn(text, "0123456789abcdef") == HUB_COMMIT;
}

/* ---- the environment ---- */

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

static const char *home_folder(void)
{
    const char *home = variable("HOME");
    const struct passwd *user = home ? NULL : getpwuid(getuid());
    return user ? user->pw_dir : home;
}

/* Copies the variable named at *at ("$NAME" or "${NAME}") and moves *at past it; one that is not set stays as it
 * stands. */
static void expand_variable(builder *b, const char **at)
{
    const bool braces = (*at)[1] == '{';
    const char *name = *at + 1 + braces;
    size_t n = 0;
    while (is_alphanumeric(name[n]) || name[n] == '_')
        n++;
    const char *end = name + n + braces;
    const char *value = NULL;
    if (n > 0 && (!braces || name[n] == '}')) {
        char *key = strndup(name, n);
        value = key ? getenv(key) : NULL;
        free(key);
    } else
        end = *at + 1;
    if (value)
        builder_add(b, value);
    else
        builder_add_bytes(b, *at, (size_t)(end - *at));
    *at = end;
}

/* Python's expandvars(expanduser(path)), joined with up to two further parts (NULL: none). */
static flux1_status expanded(const char *path, const char *first, const char *second, char **out, flux1_error *err)
{
    builder b = {0};
    const char *at = path;
    *out = NULL;
    if (at[0] == '~' && (at[1] == '/' || !at[1])) {
        const char *home = home_folder();
        if (!home)
            return error_set(err, FLUX1_ERR_IO, "the Hugging Face cache: no home folder is known; set HOME or HF_HOME");
        builder_add(&b, home);
        at++;
    }
    while (*at)
        if (*at == '$')
            expand_variable(&b, &at);
        else
            builder_add_bytes(&b, at++, 1);
    if (first)
        builder_format(&b, "/%s", first);
    if (second)
        builder_format(&b, "/%s", second);
    return builder_take(&b, "the Hugging Face cache's path", out, err);
}

/* Something in huggingface_hub's home folder: HF_HOME, else huggingface in XDG_CACHE_HOME, else in ~/.cache. */
static flux1_status in_home(const char *part, char **out, flux1_error *err)
{
    const char *home = variable("HF_HOME"), *cache = variable("XDG_CACHE_HOME");
    if (home)
        return expanded(home, part, NULL, out, err);
    return expanded(cache ? cache : "~/.cache", "huggingface", part, out, err);
}

flux1_status hub_cache_root(char **out, flux1_error *err)
{
    const char *root = variable("HF_HUB_CACHE");
    if (!root)
        root = variable("HUGGINGFACE_HUB_CACHE");
    return root ? expanded(root, NULL, NULL, out, err) : in_home("hub", out, err);
}

flux1_status hub_token_path(char **out, flux1_error *err)
{
    const char *path = variable("HF_TOKEN_PATH");
    return path ? expanded(path, NULL, NULL, out, err) : in_home("token", out, err);
}

bool hub_is_true(const char *variable)
{
    static const char *const yes[] = {"1", "on", "yes", "true"};
    const char *value = getenv(variable);
    for (size_t i = 0; value && i < sizeof yes / sizeof *yes; i++)
        if (strcasecmp(value, yes[i]) == 0)
            return true;
    return false;
}

/* ---- the disk ---- */

char *hub_repository_folder(const char *root, const hub_name *name)
{
    builder b = {0};
    char *folder;
    builder_format(&b, "%s/models--", root);
    for (const char *c = name->repository; *c; c++)
        builder_add_bytes(&b, *c == '/' ? "--" : c, *c == '/' ? 2 : 1);
    builder_take(&b, "the repository's folder", &folder, NULL);
    return folder;
}

flux1_status hub_commit(const char *repository_folder, const char *revision, char out[HUB_COMMIT + 1], flux1_error *err)
{
    builder b = {0};
    char *path = NULL, *text = NULL;
    size_t size;
    if (hub_is_commit(revision)) {
        memcpy(out, revision, HUB_COMMIT + 1);
        return FLUX1_OK;
    }
    builder_format(&b, "%s/refs/%s", repository_folder, revision);
    TRY(builder_take(&b, "the reference's path", &path, err));
    flux1_status st = file_read(path, 4096, &text, &size, err);
    if (st == FLUX1_OK) {
        text[strcspn(text, " \r\n")] = '\0';
        if (hub_is_commit(text))
            memcpy(out, text, HUB_COMMIT + 1);
        else
            st = error_set(err, FLUX1_ERR_FORMAT, "%s: does not hold a commit (40 hexadecimal digits)", path);
    }
    free(text);
    free(path);
    return st;
}

flux1_status hub_snapshot(const char *root, const hub_name *name, char **out, flux1_error *err)
{
    builder b = {0};
    char commit[HUB_COMMIT + 1];
    char *folder = hub_repository_folder(root, name);
    *out = NULL;
    if (!folder)
        return error_oom(err, 0, "the repository's folder");
    flux1_status st = FLUX1_OK;
    if (!file_is_directory(folder))
        st = error_set(err, FLUX1_ERR_IO, "%s: not in the Hugging Face cache (%s does not exist)", name->repository,
                       folder);
    else if ((st = hub_commit(folder, name->revision, commit, err)) == FLUX1_OK) {
        builder_format(&b, "%s/snapshots/%s", folder, commit);
        if ((st = builder_take(&b, "the snapshot's path", out, err)) == FLUX1_OK && !file_is_directory(*out)) {
            st = error_set(err, FLUX1_ERR_IO, "%s@%s: not in the Hugging Face cache (%s does not exist)",
                           name->repository, name->revision, *out);
            free(*out);
            *out = NULL;
        }
    }
    free(folder);
    return st;
}
