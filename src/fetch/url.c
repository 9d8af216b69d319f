#include "fetch/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool url_is_web(const char *url) { return strncasecmp(url, "http://", 7) == 0 || strncasecmp(url, "https://", 8) == 0; }

flux1_status url_endpoint(char **out, flux1_error *err)
{
    const char *text = getenv("HF_ENDPOINT");
    builder b = {0};
    *out = NULL;
    if (!text || !text[0])
        text = "https://huggingface.co";
    size_t n = strlen(text);
    while (n > 0 && text[n - 1] == '/')
        n--;
    if (!url_is_web(text) || strcspn(text, " \t\r\n?#") < strlen(text))
        return error_set(err, FLUX1_ERR_ARGUMENT,
                         "HF_ENDPOINT is \"%.200s\": it should be an address such as https://huggingface.co", text);
    builder_add_bytes(&b, text, n);
    return builder_take(&b, "the hub's address", out, err);
}

void url_quote(builder *b, const char *text, const char *safe)
{
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || strchr("_.-~", c);
        if (plain || strchr(safe, c))
            builder_add_bytes(b, text, 1);
        else
            builder_format(b, "%%%02X", c);
    }
}

/* Bytes of "scheme://host:port" at the beginning. */
static size_t origin_length(const char *url)
{
    const char *host = strstr(url, "://");
    return host ? (size_t)(host + 3 - url) + strcspn(host + 3, "/?#") : strlen(url);
}

bool url_same_origin(const char *a, const char *b)
{
    size_t n = origin_length(a);
    return n == origin_length(b) && strncasecmp(a, b, n) == 0;
}

const char *url_host(const char *url, char *out, size_t room)
{
    const char *scheme = strstr(url, "://"), *host = scheme ? scheme + 3 : "";
    int n = (int)strcspn(host, "/?#");
    for (int i = n - 1; i > 0; i--)
        if (host[i - 1] == '@') { /* a name and password in front */
            host += i;
            n -= i;
            break;
        }
    snprintf(out, room, "%.*s", n ? n : 1, n ? host : "?");
    return out;
}

bool url_is_relative(const char *location)
{
    size_t scheme = strcspn(location, ":/?#");
    return location[0] && location[scheme] != ':' && strncmp(location, "//", 2) != 0;
}
