/* What json-c does when an allocation fails, and with numbers and texts at the edge: why flux1 has a JSON reader of its
 * own (docs/decisions.md). Each point is a process of its own, since some crash.
 *
 *     cc tools/json_c_trial.c -o trial /usr/lib/x86_64-linux-gnu/libjson-c.a -lm \
 *        -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup && ./trial        (Debian: libjson-c-dev)
 */
#include <json-c/json.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);

static long fuse = -1;
static bool burnt;

static bool fails(void)
{
    bool now = fuse == 0;
    fuse -= fuse >= 0;
    burnt = burnt || now;
    return now;
}

void *__wrap_malloc(size_t size) { return fails() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t count, size_t size) { return fails() ? NULL : __real_calloc(count, size); }
void *__wrap_realloc(void *old, size_t size) { return fails() ? NULL : __real_realloc(old, size); }
char *__wrap_strdup(const char *text) { return fails() ? NULL : __real_strdup(text); }

static json_object *parse(const char *text, enum json_tokener_error *error)
{
    json_tokener *t = json_tokener_new_ex(64);
    if (!t)
        return NULL;
    json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    json_object *o = json_tokener_parse_ex(t, text, (int)strlen(text) + 1);
    *error = json_tokener_get_error(t);
    json_tokener_free(t);
    return o;
}

static const char *text_of(json_object *o) { return json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN); }

enum { REPORTED, WRONG, NO_FAILURE };

/* One failed allocation in parsing, or in writing what was parsed. */
static int try_point(bool writing, long point, const char *text, const char *whole)
{
    enum json_tokener_error error;
    fuse = writing ? -1 : point;
    json_object *o = parse(text, &error);
    fuse = writing ? point : -1;
    const char *written = o ? text_of(o) : NULL;
    if (!burnt)
        return NO_FAILURE;
    return !written ? REPORTED : strcmp(written, whole) != 0 ? WRONG : REPORTED;
}

static void count_points(bool writing, const char *text, const char *whole)
{
    int reported = 0, wrong = 0, crashed = 0;
    for (long point = 0;; point++) {
        int status = 0;
        pid_t child = fork();
        if (child == 0)
            _exit(try_point(writing, point, text, whole));
        waitpid(child, &status, 0);
        if (WIFEXITED(status) && WEXITSTATUS(status) == NO_FAILURE)
            break;
        crashed += WIFSIGNALED(status);
        wrong += WIFEXITED(status) && WEXITSTATUS(status) == WRONG;
        reported += WIFEXITED(status) && WEXITSTATUS(status) == REPORTED;
    }
    printf("%s, each allocation failing once: %d reported or harmless, %d wrong without an error, %d crashes\n",
           writing ? "writing" : "parsing", reported, wrong, crashed);
}

int main(void)
{
    static const char *const edges[] = {"[18446744073709551615]",
                                        "[1000000000000000019884624838656]",
                                        "[-9223372036854775809]",
                                        "[NaN, -Infinity]",
                                        "{\"a\":1,\"a\":2}",
                                        "{\"a\\u0000b\":1}",
                                        "[\"\\ud800\"]",
                                        "[1.]",
                                        "[\"a\nb\"]",
                                        "[1,]"};
    enum json_tokener_error error;
    char text[4096] = "{\"name\": \"";
    memset(text + strlen(text), 'x', 200);
    strcat(text, "\", \"list\": [");
    for (int i = 0; i < 60; i++)
        sprintf(text + strlen(text), "%d, ", i);
    strcat(text, "1], ");
    for (int i = 0; i < 40; i++)
        sprintf(text + strlen(text), "\"k%d\": %d, ", i, i);
    strcat(text, "\"z\": 1.5}");
    char *whole = strdup(text_of(parse(text, &error)));
    count_points(false, text, whole);
    count_points(true, text, whole);
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
        json_object *o = parse(edges[i], &error);
        printf("%-36s %s\n", edges[i], o ? text_of(o) : json_tokener_error_desc(error));
    }
    return 0;
}
