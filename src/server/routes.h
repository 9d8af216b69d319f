/* What is served: one row a method and path. A * stands for one part of the path, ** for all that is left of it
 * ("org/name" of a model); the handler finds it in exchange.argument. */
#ifndef FLUX1_SERVER_ROUTES_H
#define FLUX1_SERVER_ROUTES_H

#include "server/exchange.h"

#define BODY_JSON ((size_t)1 << 20)
#define BODY_UNREAD ((size_t)-1)         /* as large as pictures, and thrown away as it comes */
#define BODY_PICTURES ((size_t)64 << 20) /* pictures as base64, or as they are */

/* method, path, who may (OPEN: everybody, also while the model loads; READY: with the key, once it is open; ANY: with
 * the key), bytes of the body, handler; and for /openapi.json: what the query may say, the body's schema, the answers
 * ("STATUS CONTENT, …", contents separated by |), a sentence. A content is a schema (schemas.json, or a table of
 * fields), or a media type. */
#define ROUTE_TABLE(X)                                                                                                \
    X("GET", "/", OPEN, 0, page_get, "", "", "200 text/html", "The page.")                                            \
    X("GET", "/openapi.json", ANY, 0, openapi_get, "", "", "200 application/json", "This description.")               \
    X("GET", "/health", OPEN, 0, health_get, "", "", "200 Health", "Whether requests are taken.")                     \
    X("GET", "/metrics", ANY, 0, metrics_get, "", "", "200 text/plain", "Counts, in the text format of Prometheus.")  \
    X("GET", "/api/info", READY, 0, info_get, "model", "", "200 Info", "Version, model, defaults, limits, queue.")    \
    X("GET", "/api/jobs", READY, 0, jobs_get, "limit before", "", "200 Jobs", "Jobs, newest first.")                  \
    X("POST", "/api/jobs", READY, BODY_JSON, jobs_post, "", "JobRequest", "202 Job", "Gives a job to the queue.")     \
    X("GET", "/api/jobs/*", READY, 0, job_get, "", "", "200 Job", "A job.")                                           \
    X("DELETE", "/api/jobs/*", READY, 0, job_delete, "", "", "200 Job, 204",                                          \
      "Cancels a job, or forgets one that has ended.")                                                                \
    X("GET", "/api/jobs/*/events", READY, 0, job_events, "", "", "200 text/event-stream",                             \
      "Events: job, progress, preview, picture, end.")                                                                \
    X("GET", "/api/files/*", READY, 0, file_get, "size", "", "200 image/png|image/jpeg|image/webp",                   \
      "A picture; size=small: a JPEG of at most 384 pixels a side, where the picture is larger.")                     \
    X("POST", "/api/png-info", READY, BODY_PICTURES, png_info_post, "", "image/png", "200 PictureInfo",               \
      "What made a picture.")                                                                                         \
    X("GET", "/v1/models", READY, 0, openai_models, "", "", "200 Models", "The models.")                              \
    X("GET", "/v1/models/**", READY, 0, openai_model, "", "", "200 Model", "A model.")                                \
    X("POST", "/v1/images/generations", READY, BODY_JSON, openai_generations, "", "ImagesRequest",                    \
      "200 Images|text/event-stream", "Makes pictures.")                                                              \
    X("POST", "/v1/images/edits", READY, BODY_UNREAD, openai_edits, "", "multipart/form-data", "400 Error",           \
      "Not served: pictures are made from text alone.")                                                               \
    X("POST", "/v1/images/variations", READY, BODY_UNREAD, openai_variations, "", "multipart/form-data", "400 Error", \
      "Not served: pictures are made from text alone.")                                                               \
    X("POST", "/sdapi/v1/txt2img", READY, BODY_JSON, webui_txt2img, "", "Txt2ImgRequest", "200 Txt2Img",              \
      "Makes pictures.")                                                                                              \
    X("POST", "/sdapi/v1/img2img", READY, BODY_UNREAD, webui_img2img, "", "application/json", "400 Error",            \
      "Not served: pictures are made from text alone.")                                                               \
    X("GET", "/sdapi/v1/progress", READY, 0, webui_progress, "skip_current_image", "", "200 Progress",                \
      "Of the running job.")                                                                                          \
    X("POST", "/sdapi/v1/interrupt", READY, BODY_JSON, webui_interrupt, "", "", "200 Empty",                          \
      "Ends the running job, which gives the pictures that are finished.")                                            \
    X("POST", "/sdapi/v1/skip", READY, BODY_JSON, webui_skip, "", "", "200 Empty",                                    \
      "Ends the picture that is being made; the job goes on with the next.")                                          \
    X("POST", "/sdapi/v1/png-info", READY, BODY_PICTURES, webui_png_info, "", "PngInfoRequest", "200 PngInfo",        \
      "What made a picture.")                                                                                         \
    X("GET", "/sdapi/v1/options", READY, 0, webui_options_get, "", "", "200 Options", "Settings.")                    \
    X("POST", "/sdapi/v1/options", READY, BODY_JSON, webui_options_post, "", "OptionsRequest", "200 Null",            \
      "Accepts settings; the model must be ours.")                                                                    \
    X("GET", "/sdapi/v1/sd-models", READY, 0, webui_models, "", "", "200 Checkpoints", "The models.")                 \
    X("GET", "/sdapi/v1/loras", READY, 0, webui_loras, "", "", "200 Loras", "The adapters.")                          \
    X("GET", "/sdapi/v1/memory", READY, 0, webui_memory, "", "", "200 Memory", "Memory of the server, in bytes.")     \
    X("GET", "/sdapi/v1/*", READY, 0, webui_list, "", "", "200 List",                                                 \
      "Lists that clients ask for first, such as samplers.")                                                          \
    X("POST", "/sdapi/v1/refresh-checkpoints", READY, BODY_JSON, webui_nothing, "", "", "200 Null", "Does nothing.")  \
    X("POST", "/sdapi/v1/refresh-loras", READY, BODY_JSON, webui_nothing, "", "", "200 Null", "Does nothing.")

#define ROUTE_HANDLER(method, path, who, bytes, handler, query, takes, answers, summary) exchange_fn handler;
ROUTE_TABLE(ROUTE_HANDLER)
#undef ROUTE_HANDLER

/* Whether webui_list has something to tell under that name. */
bool webui_has_list(const char *name);

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

/* What was probably meant by a path at which nothing is served: the path without what is too much in front of it (a
 * proxy's prefix, a base URL's /v1 twice, a slash) or a slash at its end; or one that ends like it, where the base URL
 * lacks a part. False: there is none. */
bool route_near(const char *path, char near[ARGUMENT_ROOM]);

#endif
