/* Several HTTP requests at once on one thread. Each is repeated by itself where that may help: a dropped connection, a
 * stall, a busy server (408, 429, 5xx; Retry-After is heeded). Redirects are followed here, and a token goes to the
 * server it was meant for only. Proxies come from the environment as libcurl reads it.
 *
 * Addresses must be http or https. The certificates are libcurl's, or those in REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE. */
#ifndef FLUX1_FETCH_HTTP_H
#define FLUX1_FETCH_HTTP_H

#include "fetch/libraries.h"

#include <stdbool.h>
#include <stdint.h>

#define HTTP_ETAG_MAX 200

typedef struct http http; /* the requests that are under way */
typedef struct http_call http_call;

/* What the headers of a reply say; texts that do not fit are cut. */
typedef struct http_reply {
    long code;
    int64_t length;                                       /* Content-Length; -1: not said */
    int64_t from, total;                                  /* Content-Range: bytes FROM-…/TOTAL; -1: not said */
    int64_t linked_size;                                  /* X-Linked-Size; -1: not said */
    char etag[HTTP_ETAG_MAX], linked_etag[HTTP_ETAG_MAX]; /* ETag and X-Linked-Etag, without W/ and quotes */
    char commit[64];                                      /* X-Repo-Commit */
    char error_code[64], error_message[256];              /* X-Error-Code, X-Error-Message */
    char location[4096];                                  /* as the server wrote it */
} http_reply;

typedef enum http_outcome {
    HTTP_DONE,    /* 2xx, and the whole body; with `stay` also a redirect to elsewhere */
    HTTP_REFUSED, /* another code: reply.code */
    HTTP_FAILED,  /* no connection, no end of stalls, not HTTP: `why` */
    HTTP_STOPPED  /* begin or body returned false */
} http_outcome;

struct http_call {
    /* What to ask; it may be changed by the functions below until they end the call. */
    char *url;         /* malloc'd, owned by the call */
    const char *token; /* for the first server; NULL: none. Must outlive the call */
    bool head;         /* HEAD instead of GET */
    bool stay; /* only redirects to a path on the same server are followed, as huggingface_hub asks for metadata */
    int64_t from, to; /* ask for these bytes, `to` included; from 0 to -1: for all; from N to -1: for the rest */
    int attempts_max; /* without progress */

    /* What happens, on the thread of http_turn. They may call http_begin, not http_drop. */
    bool (*begin)(http_call *c); /* a reply with a body begins: 2xx. May be NULL. False: stop */
    bool (*body)(http_call *c, const unsigned char *bytes, size_t count); /* NULL: the body is not wanted */
    void (*end)(http_call *c, http_outcome outcome);                      /* c may be freed or begun again here */
    void (*wait)(http_call *c, double seconds);                           /* it is repeated then; may be NULL */
    void *user;

    /* What came. */
    http_reply reply;
    char why[512]; /* of HTTP_FAILED, and of the failure before a wait */

    /* http.c's own. */
    http *owner;
    CURL *easy; /* NULL: waits to be begun */
    struct curl_slist *headers;
    const char *sent_token;
    int attempts, redirects;
    double not_before;
    char detail[CURL_ERROR_SIZE];
    size_t refused_bytes;
    bool moved, stopped, begun;
    http_call *next;
};

flux1_status http_open(const fetch_libraries *lib, http **out, flux1_error *err);
void http_close(http *h); /* drops all calls, without `end`; NULL is fine */

/* Adds a call; nothing is sent before http_turn. c must stay where it is until it has ended or was dropped. */
void http_begin(http *h, http_call *c);
void http_drop(http *h, http_call *c); /* ends it without `end`; harmless if it is not under way */
bool http_busy(const http_call *c);    /* between http_begin and its end */
void http_call_free(http_call *c);     /* frees what the call holds, not c; it must not be under way */

/* Moves data for at most `seconds`, less if something happened. */
flux1_status http_turn(http *h, double seconds, flux1_error *err);

#endif
