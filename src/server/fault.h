/* What a client is told about a request that cannot be served: a kind, the field that it is about, and one sentence. */
#ifndef FLUX1_SERVER_FAULT_H
#define FLUX1_SERVER_FAULT_H

#include "base/json_write.h"

/* kind, HTTP status, and as OpenAI's clients know them: the error's "type", its "code" ("": null), and that where the
 * error is about a field */
#define FAULT_MAP(X)                                                    \
    X(NONE, 200, "", "", "")                                            \
    X(INVALID, 400, "invalid_request_error", "", "invalid_value")       \
    X(KEY, 401, "authentication_error", "invalid_api_key", "")          \
    X(FORBIDDEN, 403, "invalid_request_error", "", "")                  \
    X(NOT_FOUND, 404, "not_found_error", "", "model_not_found")         \
    X(METHOD, 405, "invalid_request_error", "", "")                     \
    X(TOO_LARGE, 413, "invalid_request_error", "", "")                  \
    X(CONTENT_TYPE, 415, "invalid_request_error", "", "")               \
    X(UNPROCESSABLE, 422, "invalid_request_error", "", "invalid_value") \
    X(BUSY, 429, "rate_limit_error", "rate_limit_exceeded", "")         \
    X(SERVER, 500, "server_error", "", "")                              \
    X(UNAVAILABLE, 503, "unavailable_error", "", "")                    \
    X(STORAGE, 507, "server_error", "", "")

typedef enum fault_kind {
#define FAULT_ENUM(kind, http, type, code, field_code) FAULT_##kind,
    FAULT_MAP(FAULT_ENUM)
#undef FAULT_ENUM
} fault_kind;

#define FAULT_PARAM 48
#define FAULT_MESSAGE 1024

typedef struct fault {
    fault_kind kind;
    char param[FAULT_PARAM]; /* "": none */
    char message[FAULT_MESSAGE];
} fault;

/* Always false, for "return fault_set(…)". param may be NULL. */
bool fault_set(fault *f, fault_kind kind, const char *param, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Of a file that a request names and that could not be opened. FAULT_UNAVAILABLE: it could not be read, be it for a
 * moment or until its operator does something (permissions, a link that leads nowhere): not the request's fault. */
fault_kind fault_kind_of_file(flux1_status status);

int fault_http(const fault *f);

/* {"message", "type", "param", "code"} */
void fault_put(json_writer *w, const char *key, const fault *f);

#endif
