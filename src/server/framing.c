#include "server/framing.h"

#include <microhttpd.h>
#include <string.h>
#include <strings.h>

typedef struct framing {
    int lengths, codings, hosts;
    bool spaced;  /* white space behind a header's name: others read it as none */
    bool unknown; /* another coding than chunked, of which the library takes no notice */
} framing;

static enum MHD_Result look_at(void *user, enum MHD_ValueKind kind, const char *name, const char *value)
{
    framing *r = user;
    (void)kind;
    r->lengths += strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0;
    r->hosts += strcasecmp(name, MHD_HTTP_HEADER_HOST) == 0;
    r->spaced |= name[0] && strchr(" \t", name[strlen(name) - 1]);
    if (strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0) {
        r->codings++;
        r->unknown |= !value || strcasecmp(value, "chunked") != 0;
    }
    return MHD_YES;
}

bool framing_check(struct MHD_Connection *connection, fault *f)
{
    framing r = {0};
    MHD_get_connection_values(connection, MHD_HEADER_KIND, look_at, &r);
    if (r.spaced)
        return fault_set(f, FAULT_INVALID, NULL, "there is white space between a header's name and its colon");
    if (r.hosts > 1)
        return fault_set(f, FAULT_INVALID, NULL, "there are %d Host headers: send one", r.hosts);
    if (r.unknown)
        return fault_set(f, FAULT_INVALID, NULL, "Transfer-Encoding must be chunked, or not there");
    if (r.lengths + r.codings > 1)
        return fault_set(f, FAULT_INVALID, NULL,
                         "the length of the body is told more than once: send one Content-Length, or "
                         "Transfer-Encoding: chunked");
    return true;
}

/* -1: it is none. */
static int digit_of(char c)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    const char *at = c ? strchr(digits, c) : NULL;
    return !at ? -1 : at - digits < 16 ? (int)(at - digits) : (int)(at - digits) - 6;
}

size_t framing_unescape(void *user, struct MHD_Connection *connection, char *text)
{
    char *out = text;
    (void)user, (void)connection;
    for (const char *at = text; *at; out++) {
        const int high = *at == '%' ? digit_of(at[1]) : -1, low = high < 0 ? -1 : digit_of(at[2]);
        const bool code = low >= 0 && high + low > 0;
        *out = code ? (char)(16 * high + low) : *at;
        at += code ? 3 : 1;
    }
    *out = '\0';
    return (size_t)(out - text);
}
