#include "fetch/http.h"

#include "base/clock.h"
#include "fetch/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define REDIRECTS_MAX 10
#define REFUSED_BYTES_MAX ((size_t)1 << 20) /* of the page that comes with an error */
#define FIRST_WAIT 0.5                      /* seconds before the first repetition; then twice as many each time */
#define LONGEST_WAIT 8.0
#define LONGEST_RETRY_AFTER 600.0
#define CONNECT_SECONDS 15L
#define STALL_SECONDS 10L /* as in huggingface_hub, if HF_HUB_DOWNLOAD_TIMEOUT does not say otherwise */

struct http {
    const fetch_libraries *lib;
    CURLM *multi;
    http_call *first; /* all calls, under way or waiting */
};

flux1_status http_open(const fetch_libraries *lib, http **out, flux1_error *err)
{
    http *h = *out = calloc(1, sizeof *h);
    if (h) {
        h->lib = lib;
        h->multi = lib->curl_multi_init();
    }
    if (h && h->multi)
        return FLUX1_OK;
    free(h);
    *out = NULL;
    return error_oom(err, 0, "a connection");
}

static void unlink_call(http *h, http_call *c)
{
    http_call **at = &h->first;
    while (*at && *at != c)
        at = &(*at)->next;
    if (*at)
        *at = c->next;
    c->owner = NULL;
}

/* Takes the call off the connection; it may be begun again. */
static void detach(http *h, http_call *c)
{
    if (c->easy) {
        h->lib->curl_multi_remove_handle(h->multi, c->easy);
        h->lib->curl_easy_cleanup(c->easy);
    }
    c->easy = NULL;
    if (c->headers)
        h->lib->curl_slist_free_all(c->headers);
    c->headers = NULL;
}

void http_drop(http *h, http_call *c)
{
    if (!http_busy(c))
        return;
    detach(h, c);
    unlink_call(h, c);
}

void http_close(http *h)
{
    if (!h)
        return;
    while (h->first)
        http_drop(h, h->first);
    h->lib->curl_multi_cleanup(h->multi);
    free(h);
}

void http_begin(http *h, http_call *c)
{
    c->owner = h;
    c->attempts = c->redirects = 0;
    c->not_before = 0;
    c->sent_token = c->token;
    c->next = h->first;
    h->first = c;
}

bool http_busy(const http_call *c) { return c->owner != NULL; }

void http_call_free(http_call *c)
{
    free(c->url);
    c->url = NULL;
}

/* ---- what libcurl calls ---- */

/* The value of a header named `name`, without blanks around it; NULL if this line has another one. */
static const char *header_value(const char *line, size_t length, const char *name, size_t *bytes)
{
    size_t n = strlen(name);
    if (length <= n || line[n] != ':' || strncasecmp(line, name, n) != 0)
        return NULL;
    const char *value = line + n + 1, *end = line + length;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (unsigned char)end[-1] <= ' ')
        end--;
    *bytes = (size_t)(end - value);
    return value;
}

static void keep_text(const char *value, size_t n, char *out, size_t room)
{
    if (n >= room)
        n = room - 1;
    memcpy(out, value, n);
    out[n] = '\0';
}

/* As huggingface_hub: W/"x" and "x" are x. */
static void keep_etag(const char *value, size_t n, char out[HTTP_ETAG_MAX])
{
    while (n > 0 && (*value == 'W' || *value == '/'))
        value++, n--;
    while (n > 0 && *value == '"')
        value++, n--;
    while (n > 0 && value[n - 1] == '"')
        n--;
    keep_text(value, n, out, HTTP_ETAG_MAX);
}

/* A whole number of bytes; -1 if it is none or too large. */
static int64_t parse_size(const char *text, size_t n)
{
    int64_t value = 0;
    for (size_t i = 0; i < n; i++)
        if (text[i] < '0' || text[i] > '9' || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, text[i] - '0', &value))
            return -1;
    return n > 0 ? value : -1;
}

/* "bytes 5-9/10" */
static void keep_range(const char *value, size_t n, http_reply *reply)
{
    char text[80];
    keep_text(value, n, text, sizeof text);
    size_t digits = strncasecmp(text, "bytes ", 6) == 0 ? strcspn(text + 6, "-") : 0;
    const char *slash = strchr(text, '/');
    reply->from = parse_size(text + 6, digits);
    reply->total = slash ? parse_size(slash + 1, strlen(slash + 1)) : -1;
}

static void keep_header(http_reply *reply, const char *line, size_t length)
{
    const char *v;
    size_t n;
    if ((v = header_value(line, length, "Content-Length", &n)))
        reply->length = parse_size(v, n);
    else if ((v = header_value(line, length, "Content-Range", &n)))
        keep_range(v, n, reply);
    else if ((v = header_value(line, length, "X-Linked-Size", &n)))
        reply->linked_size = parse_size(v, n);
    else if ((v = header_value(line, length, "ETag", &n)))
        keep_etag(v, n, reply->etag);
    else if ((v = header_value(line, length, "X-Linked-Etag", &n)))
        keep_etag(v, n, reply->linked_etag);
    else if ((v = header_value(line, length, "X-Repo-Commit", &n)))
        keep_text(v, n, reply->commit, sizeof reply->commit);
    else if ((v = header_value(line, length, "X-Error-Code", &n)))
        keep_text(v, n, reply->error_code, sizeof reply->error_code);
    else if ((v = header_value(line, length, "X-Error-Message", &n)))
        keep_text(v, n, reply->error_message, sizeof reply->error_message);
    else if ((v = header_value(line, length, "Location", &n)))
        keep_text(v, n, reply->location, sizeof reply->location);
}

static bool is_success(const http_call *c) { return c->reply.code >= 200 && c->reply.code < 300; }

/* Before a reply. What the hub said of a file in front of a redirect within it stays: not all servers repeat it. */
static void reset_reply(http_call *c)
{
    const http_reply before = c->reply;
    c->reply = (http_reply){.length = -1, .from = -1, .total = -1, .linked_size = -1};
    if (!c->stay || c->redirects == 0)
        return;
    c->reply.linked_size = before.linked_size;
    memcpy(c->reply.linked_etag, before.linked_etag, sizeof before.linked_etag);
    memcpy(c->reply.commit, before.commit, sizeof before.commit);
}

/* Once a good reply; false stops the call. */
static bool begin_body(http_call *c)
{
    if (c->begun || !is_success(c))
        return !c->stopped;
    c->begun = true;
    c->stopped = c->begin && !c->begin(c);
    return !c->stopped;
}

static size_t on_header(char *line, size_t one, size_t length, void *user)
{
    http_call *c = user;
    (void)one;
    if (length >= 5 && memcmp(line, "HTTP/", 5) == 0) { /* of the last reply, should there be several */
        const char *code = memchr(line, ' ', length);
        reset_reply(c);
        if (code && line + length - code >= 4)
            c->reply.code = (long)parse_size(code + 1, 3);
    } else
        keep_header(&c->reply, line, length);
    return length;
}

static size_t on_body(char *bytes, size_t one, size_t count, void *user)
{
    http_call *c = user;
    (void)one;
    if (!begin_body(c))
        return 0;
    if (is_success(c)) {
        if (c->body && !c->body(c, (const unsigned char *)bytes, count)) {
            c->stopped = true;
            return 0;
        }
        c->moved = true;
    } else if ((c->refused_bytes += count) > REFUSED_BYTES_MAX)
        return 0; /* the code is known: enough read */
    return count;
}

/* ---- sending ---- */

static long stall_seconds(void)
{
    const char *text = getenv("HF_HUB_DOWNLOAD_TIMEOUT");
    long seconds = text ? strtol(text, NULL, 10) : 0;
    return seconds > 0 && seconds < 86400 ? seconds : STALL_SECONDS;
}

static const char *certificates(void)
{
    const char *path = getenv("REQUESTS_CA_BUNDLE");
    if (!path || !path[0])
        path = getenv("CURL_CA_BUNDLE");
    return path && path[0] ? path : NULL;
}

static bool add_header(const fetch_libraries *lib, http_call *c, const char *text)
{
    struct curl_slist *more = lib->curl_slist_append(c->headers, text);
    c->headers = more ? more : c->headers;
    return more != NULL;
}

static bool set_headers(const fetch_libraries *lib, http_call *c)
{
    bool good = add_header(lib, c, "Accept-Encoding: identity"); /* ranges and sizes are of the file itself */
    if (good && c->sent_token) {
        builder b = {0};
        char *line;
        builder_format(&b, "Authorization: Bearer %s", c->sent_token);
        good = builder_take(&b, "a header", &line, NULL) == FLUX1_OK && add_header(lib, c, line);
        free(line);
    }
    if (good)
        lib->curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers);
    return good;
}

static void set_range(const fetch_libraries *lib, http_call *c)
{
    char range[64];
    if (c->from <= 0 && c->to < 0)
        return;
    if (c->to < 0)
        snprintf(range, sizeof range, "%lld-", (long long)c->from);
    else
        snprintf(range, sizeof range, "%lld-%lld", (long long)c->from, (long long)c->to);
    lib->curl_easy_setopt(c->easy, CURLOPT_RANGE, range);
}

/* Sends a call; false if there is no memory. */
static bool send_call(http *h, http_call *c)
{
    const fetch_libraries *lib = h->lib;
    c->moved = c->stopped = c->begun = false;
    c->detail[0] = '\0';
    c->refused_bytes = 0;
    reset_reply(c);
    c->easy = lib->curl_easy_init();
    if (!c->easy || !set_headers(lib, c))
        return false;
    lib->curl_easy_setopt(c->easy, CURLOPT_URL, c->url);
    lib->curl_easy_setopt(c->easy, CURLOPT_PRIVATE, (void *)c);
    lib->curl_easy_setopt(c->easy, CURLOPT_NOBODY, c->head ? 1L : 0L);
    lib->curl_easy_setopt(c->easy, CURLOPT_NOSIGNAL, 1L);
    lib->curl_easy_setopt(c->easy, CURLOPT_USERAGENT, "flux1");
    /* parts of a file gain by connections of their own: HTTP/2 would put all on one */
    lib->curl_easy_setopt(c->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    lib->curl_easy_setopt(c->easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    lib->curl_easy_setopt(c->easy, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
    lib->curl_easy_setopt(c->easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    lib->curl_easy_setopt(c->easy, CURLOPT_LOW_SPEED_TIME, stall_seconds());
    lib->curl_easy_setopt(c->easy, CURLOPT_BUFFERSIZE, 256L * 1024);
    lib->curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, c->detail);
    lib->curl_easy_setopt(c->easy, CURLOPT_HEADERFUNCTION, on_header);
    lib->curl_easy_setopt(c->easy, CURLOPT_HEADERDATA, (void *)c);
    lib->curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_body);
    lib->curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, (void *)c);
    if (certificates())
        lib->curl_easy_setopt(c->easy, CURLOPT_CAINFO, certificates());
    set_range(lib, c);
    return lib->curl_multi_add_handle(h->multi, c->easy) == CURLM_OK;
}

/* ---- the end of a call ---- */

static void finish(http *h, http_call *c, http_outcome outcome)
{
    detach(h, c);
    unlink_call(h, c);
    c->end(c, outcome);
}

/* Whether asking again could help. */
static bool passes(CURLcode code)
{
    return code != CURLE_URL_MALFORMAT && code != CURLE_OUT_OF_MEMORY && code != CURLE_PEER_FAILED_VERIFICATION &&
           code != CURLE_SSL_CACERT_BADFILE && code != CURLE_COULDNT_RESOLVE_PROXY && code != CURLE_SSL_ISSUER_ERROR;
}

static bool busy_code(long code) { return code == 408 || code == 429 || (code >= 500 && code != 501 && code != 505); }

/* Puts the call back to be sent later, or ends it. */
static void repeat_later(http *h, http_call *c, http_outcome outcome, double asked)
{
    double seconds = FIRST_WAIT;
    c->attempts = c->moved ? 1 : c->attempts + 1;
    for (int i = 1; i < c->attempts && seconds < LONGEST_WAIT; i++)
        seconds *= 2;
    seconds = asked > seconds ? asked : seconds;
    if (c->attempts >= c->attempts_max || asked > LONGEST_RETRY_AFTER) {
        finish(h, c, outcome);
        return;
    }
    detach(h, c);
    c->not_before = clock_seconds() + seconds;
    if (c->wait)
        c->wait(c, seconds);
}

/* Goes to where the reply points; false if it must not. */
static bool redirect(http *h, http_call *c)
{
    char *target = NULL;
    h->lib->curl_easy_getinfo(c->easy, CURLINFO_REDIRECT_URL, &target);
    if (!target || !url_is_web(target)) {
        snprintf(c->why, sizeof c->why, "it is redirected to no usable address");
        return false;
    }
    if (strncasecmp(c->url, "https:", 6) == 0 && strncasecmp(target, "https:", 6) != 0) {
        snprintf(c->why, sizeof c->why, "it is redirected from https to http");
        return false;
    }
    if (++c->redirects > REDIRECTS_MAX) {
        snprintf(c->why, sizeof c->why, "it is redirected more than %d times", REDIRECTS_MAX);
        return false;
    }
    char *copy = strdup(target);
    if (!copy) {
        snprintf(c->why, sizeof c->why, "out of memory");
        return false;
    }
    if (!url_same_origin(c->url, copy))
        c->sent_token = NULL; /* and never again for this call */
    free(c->url);
    c->url = copy;
    detach(h, c);
    c->not_before = 0;
    return true;
}

static void complete(http *h, http_call *c, CURLcode code)
{
    char host[256];
    const long status = c->reply.code;
    if (c->stopped) {
        finish(h, c, HTTP_STOPPED);
    } else if (code != CURLE_OK && c->refused_bytes <= REFUSED_BYTES_MAX) {
        snprintf(c->why, sizeof c->why, "%s: %s", url_host(c->url, host, sizeof host),
                 c->detail[0] ? c->detail : h->lib->curl_easy_strerror(code));
        passes(code) ? repeat_later(h, c, HTTP_FAILED, 0) : finish(h, c, HTTP_FAILED);
    } else if (status >= 200 && status < 300) {
        finish(h, c, begin_body(c) ? HTTP_DONE : HTTP_STOPPED);
    } else if (status >= 300 && status < 400 && c->reply.location[0]) {
        if (c->stay && !url_is_relative(c->reply.location))
            finish(h, c, HTTP_DONE);
        else if (!redirect(h, c))
            finish(h, c, HTTP_FAILED);
    } else if (busy_code(status)) {
        curl_off_t asked = 0;
        h->lib->curl_easy_getinfo(c->easy, CURLINFO_RETRY_AFTER, &asked);
        snprintf(c->why, sizeof c->why, "%s: HTTP %ld", url_host(c->url, host, sizeof host), status);
        repeat_later(h, c, HTTP_REFUSED, (double)asked);
    } else
        finish(h, c, HTTP_REFUSED);
}

/* Sends what is due; returns the seconds until the next one is. */
static double send_due(http *h, double seconds)
{
    const double now = clock_seconds();
    http_call *next;
    for (http_call *c = h->first; c; c = next) {
        next = c->next;
        if (c->easy)
            continue;
        if (c->not_before > now) {
            seconds = c->not_before - now < seconds ? c->not_before - now : seconds;
        } else if (!send_call(h, c)) {
            snprintf(c->why, sizeof c->why, "out of memory");
            finish(h, c, HTTP_FAILED);
        }
    }
    return seconds;
}

flux1_status http_turn(http *h, double seconds, flux1_error *err)
{
    int running, left;
    seconds = send_due(h, seconds);
    CURLMcode code = h->lib->curl_multi_perform(h->multi, &running);
    bool ended = false;
    for (CURLMsg *m; (m = h->lib->curl_multi_info_read(h->multi, &left));) {
        char *user = NULL;
        if (m->msg != CURLMSG_DONE)
            continue;
        h->lib->curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &user);
        complete(h, (http_call *)(void *)user, m->data.result);
        ended = true;
    }
    if (code == CURLM_OK && !ended && seconds > 0)
        code = h->lib->curl_multi_poll(h->multi, NULL, 0, (int)(1000 * seconds) + 1, NULL);
    return code == CURLM_OK ? FLUX1_OK : error_set(err, FLUX1_ERR_IO, "libcurl failed (code %d)", (int)code);
}
