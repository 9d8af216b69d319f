/* What is served: one row a method and path. A * stands for one part of the path, which the handler finds in
 * exchange.argument. */
#ifndef FLUX1_SERVER_ROUTES_H
#define FLUX1_SERVER_ROUTES_H

#include "server/exchange.h"

#define BODY_JSON ((size_t)1 << 20)
#define BODY_PICTURES ((size_t)64 << 20) /* pictures as base64, or as they are */

/* method, path, who may (OPEN: everybody, also while the model loads; READY: with the key, once it is open; ANY: with
 * the key), bytes of the body, handler */
#define ROUTE_TABLE(X)                                                          \
    X("GET", "/", OPEN, 0, page_get)                                            \
    X("GET", "/health", OPEN, 0, health_get)                                    \
    X("GET", "/metrics", ANY, 0, metrics_get)                                   \
    X("GET", "/api/info", READY, 0, info_get)                                   \
    X("GET", "/api/jobs", READY, 0, jobs_get)                                   \
    X("POST", "/api/jobs", READY, BODY_JSON, jobs_post)                         \
    X("GET", "/api/jobs/*", READY, 0, job_get)                                  \
    X("DELETE", "/api/jobs/*", READY, 0, job_delete)                            \
    X("GET", "/api/jobs/*/events", READY, 0, job_events)                        \
    X("GET", "/api/files/*", READY, 0, file_get)                                \
    X("POST", "/api/png-info", READY, BODY_PICTURES, png_info_post)             \
    X("GET", "/v1/models", READY, 0, openai_models)                             \
    X("GET", "/v1/models/*", READY, 0, openai_model)                            \
    X("POST", "/v1/images/generations", READY, BODY_JSON, openai_generations)   \
    X("POST", "/v1/images/edits", READY, BODY_PICTURES, openai_edits)           \
    X("POST", "/v1/images/variations", READY, BODY_PICTURES, openai_variations) \
    X("POST", "/sdapi/v1/txt2img", READY, BODY_JSON, webui_txt2img)             \
    X("POST", "/sdapi/v1/img2img", READY, BODY_PICTURES, webui_img2img)         \
    X("GET", "/sdapi/v1/progress", READY, 0, webui_progress)                    \
    X("POST", "/sdapi/v1/interrupt", READY, BODY_JSON, webui_interrupt)         \
    X("POST", "/sdapi/v1/png-info", READY, BODY_PICTURES, webui_png_info)       \
    X("GET", "/sdapi/v1/options", READY, 0, webui_options_get)                  \
    X("POST", "/sdapi/v1/options", READY, BODY_JSON, webui_options_post)        \
    X("GET", "/sdapi/v1/sd-models", READY, 0, webui_models)                     \
    X("GET", "/sdapi/v1/loras", READY, 0, webui_loras)                          \
    X("GET", "/sdapi/v1/*", READY, 0, webui_list)                               \
    X("POST", "/sdapi/v1/refresh-checkpoints", READY, BODY_JSON, webui_nothing) \
    X("POST", "/sdapi/v1/refresh-loras", READY, BODY_JSON, webui_nothing)

#define ROUTE_HANDLER(method, path, who, bytes, handler) exchange_fn handler;
ROUTE_TABLE(ROUTE_HANDLER)
#undef ROUTE_HANDLER

typedef enum route_access { ROUTE_OPEN, ROUTE_ANY, ROUTE_READY } route_access;

typedef struct route {
    const char *method, *path;
    route_access access;
    size_t body;
    exchange_fn *handler;
} route;

/* NULL: there is no such path (*methods is ""), or it has other methods only, which *methods then lists. HEAD is GET.
 * argument: the part that * stands for. */
const route *route_find(const char *method, const char *path, char argument[ARGUMENT_ROOM], char methods[64]);

#endif
