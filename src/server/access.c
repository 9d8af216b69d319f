#include "server/access.h"

#include "server/base64.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- keys ---- */

/* Without an early end: the time depends on the length of what was given alone. */
static bool same_key(const char *given, size_t n, const char *key)
{
    const size_t length = strlen(key);
    unsigned char differs = n != length;
    for (size_t i = 0; i < n; i++)
        differs |= (unsigned char)(given[i] ^ key[length ? i % length : 0]);
    return !differs && length > 0;
}

static bool is_key(const server_settings *settings, const char *given, size_t n)
{
    bool any = false;
    for (int i = 0; i < settings->key_count; i++)
        any |= same_key(given, n, settings->keys[i]);
    return any;
}

static bool is_password(const server_settings *settings, const char *text)
{
    uint8_t *bytes = NULL;
    size_t count = 0;
    if (!base64_read(text, strlen(text), &bytes, &count))
        return false;
    const char *colon = memchr(bytes, ':', count);
    const bool good = colon && is_key(settings, colon + 1, count - (size_t)(colon + 1 - (const char *)bytes));
    free(bytes);
    return good;
}

static bool is_authorised(const server_settings *settings, const char *authorization)
{
    if (strncasecmp(authorization, "Bearer ", 7) == 0) {
        const char *key = authorization + 7 + strspn(authorization + 7, " ");
        return is_key(settings, key, strlen(key));
    }
    return strncasecmp(authorization, "Basic ", 6) == 0 && is_password(settings, authorization + 6);
}

bool access_key(const server_settings *settings, const char *authorization, const char *api_key, fault *f)
{
    if (settings->key_count == 0)
        return true;
    if (!authorization && !api_key)
        return fault_set(f, FAULT_KEY, NULL, "this server needs a key: Authorization: Bearer KEY");
    return (api_key && is_key(settings, api_key, strlen(api_key))) ||
           (authorization && is_authorised(settings, authorization)) ||
           fault_set(f, FAULT_KEY, NULL, "the key is not one of this server's");
}

/* ---- names ---- */

/* The name without port, and without the brackets of IPv6. False: it is none. */
static bool bare_name(const char *host, char *out, size_t room)
{
    const bool bracket = host[0] == '[';
    const char *end = bracket ? strchr(host, ']') : strrchr(host, ':');
    const size_t n = end ? (size_t)(end - host) - bracket : strlen(host) - bracket;
    if (n >= room || (bracket && !end))
        return false;
    memcpy(out, host + bracket, n);
    out[n] = '\0';
    return true;
}

/* The list has this very name. */
static bool is_named(const char *list, const char *name)
{
    for (const char *at = list; at && *at;) {
        const size_t n = strcspn(at, ",");
        if (n == strlen(name) && strncasecmp(at, name, n) == 0)
            return true;
        at += n;
        at += *at == ',';
    }
    return false;
}

static bool is_listed(const char *list, const char *name) { return is_named(list, "*") || is_named(list, name); }

static bool is_address(const char *name)
{
    unsigned char room[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, name, room) == 1 || inet_pton(AF_INET6, name, room) == 1;
}

static bool host_fits(const server_settings *settings, const char *host)
{
    char name[256];
    if (settings->key_count > 0 || settings->socket) /* a browser has no key of its own, and reaches no Unix socket */
        return true;
    return bare_name(host, name, sizeof name) &&
           (is_address(name) || strcasecmp(name, "localhost") == 0 || is_listed(settings->host, name) ||
            is_listed(settings->allow_host, name));
}

/* "http://my.page:3000" → "my.page:3000"; NULL: it has none, such as "null", of a page without a host. */
static const char *host_of(const char *origin)
{
    const char *scheme = strstr(origin, "://");
    return scheme ? scheme + 3 : NULL;
}

static bool is_same_host(const char *host, const char *origin)
{
    const char *its = host_of(origin);
    return its && host && strcasecmp(its, host) == 0;
}

/* What of an origin is looked for in the list: "my.page", or "null". False: it is none. */
static bool name_of_origin(const char *origin, char *out, size_t room)
{
    const char *host = strcmp(origin, "null") == 0 ? origin : host_of(origin);
    return host && bare_name(host, out, room);
}

static bool origin_fits(const server_settings *settings, const char *host, const char *origin)
{
    char name[256];
    return is_same_host(host, origin) ||
           (name_of_origin(origin, name, sizeof name) && is_listed(settings->allow_host, name));
}

bool access_names(const server_settings *settings, const char *host, const char *origin, fault *f)
{
    if (host && !host_fits(settings, host))
        return fault_set(f, FAULT_FORBIDDEN, NULL,
                         "the name \"%.100s\" is not one of this server's: use its address, or allow the name with "
                         "--allow-host",
                         host);
    if (!origin || origin_fits(settings, host, origin))
        return true;
    if (!host_of(origin))
        return fault_set(f, FAULT_FORBIDDEN, NULL,
                         "a page without a host, such as a local file (Origin: null), may not use this server: allow "
                         "it with --allow-host null");
    return fault_set(f, FAULT_FORBIDDEN, NULL,
                     "a page of \"%.100s\" may not use this server: allow it with --allow-host", origin);
}

bool access_shares(const server_settings *settings, const char *host, const char *origin)
{
    char name[256];
    return origin && !is_same_host(host, origin) && name_of_origin(origin, name, sizeof name) &&
           (settings->key_count > 0 ? is_listed(settings->allow_host, name) : is_named(settings->allow_host, name));
}

static bool begins(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

bool access_site(const server_settings *settings, const char *path, const char *site, const char *origin, fault *f)
{
    const bool computes =
        begins(path, "/v1/") || begins(path, "/sdapi/") || (begins(path, "/api/") && !begins(path, "/api/files/"));
    if (!computes || settings->key_count > 0 || origin || !site || strcasecmp(site, "cross-site") != 0 ||
        is_listed(settings->allow_host, "*"))
        return true;
    return fault_set(f, FAULT_FORBIDDEN, NULL, "a page of another site may not use this server");
}
