#include "server/routes.h"

#include <stdio.h>
#include <string.h>

static const route routes[] = {
#define ROUTE_ROW(method, path, who, bytes, handler, query, takes, answers, summary) \
    {method, path, ROUTE_##who, bytes, handler},
    ROUTE_TABLE(ROUTE_ROW)
#undef ROUTE_ROW
};

static bool matches(const route *r, const char *path, char argument[ARGUMENT_ROOM])
{
    const char *pattern = r->path, *star = strchr(pattern, '*');
    const size_t before = star ? (size_t)(star - pattern) : 0;
    argument[0] = '\0';
    if (!star)
        return strcmp(pattern, path) == 0;
    if (strncmp(pattern, path, before) != 0)
        return false;
    const bool rest = star[1] == '*';
    const size_t part = rest ? strlen(path + before) : strcspn(path + before, "/");
    if (part == 0 || part >= ARGUMENT_ROOM || strcmp(path + before + part, star + 1 + rest) != 0)
        return false;
    memcpy(argument, path + before, part);
    argument[part] = '\0';
    return r->handler != webui_list || webui_has_list(argument);
}

/* Whether one row has this very path: rows with a * do not count then. */
static bool has_own_row(const char *path)
{
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (strcmp(routes[i].path, path) == 0)
            return true;
    return false;
}

const route *route_find(const char *method, const char *path, char argument[ARGUMENT_ROOM], char methods[64])
{
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    const bool own = !strchr(path, '*') && has_own_row(path);
    size_t used = 0;
    methods[0] = '\0';
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        const route *r = &routes[i];
        if ((own && strchr(r->path, '*')) || !matches(r, path, argument))
            continue;
        if (strcmp(r->method, wanted) == 0)
            return r;
        if (used + strlen(r->method) + 3 < 64)
            used += (size_t)snprintf(methods + used, 64 - used, "%s%s", used ? ", " : "", r->method);
    }
    return NULL;
}

static bool is_served(const char *path)
{
    char argument[ARGUMENT_ROOM];
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (matches(&routes[i], path, argument))
            return true;
    return false;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

bool route_near(const char *path, char near[ARGUMENT_ROOM])
{
    char plain[2 * ARGUMENT_ROOM];
    const char *found = NULL;
    size_t n = strlen(path);
    while (n > 0 && path[n - 1] == '/')
        n--;
    if (n == 0 || n >= sizeof plain)
        return false;
    snprintf(plain, sizeof plain, "%.*s", (int)n, path);
    for (const char *at = plain; !found && (at = strchr(at, '/')); at++)
        found = is_served(at) ? at : NULL;
    for (size_t i = 0; !found && i < sizeof routes / sizeof *routes; i++)
        found =
            plain[0] == '/' && !strchr(routes[i].path, '*') && ends_with(routes[i].path, plain) ? routes[i].path : NULL;
    return found && snprintf(near, ARGUMENT_ROOM, "%s", found) < ARGUMENT_ROOM;
}
