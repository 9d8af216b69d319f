/* A request as AUTOMATIC1111's clients write it. */
#ifndef FLUX1_SERVER_WEBUI_REQUEST_H
#define FLUX1_SERVER_WEBUI_REQUEST_H

#include "server/inside.h"

/* What is said beside the request. */
typedef struct webui_wishes {
    int size, times; /* of batches, and how many */
    bool send;       /* the pictures in the answer */
    bool upscale;
} webui_wishes;

/* Beside request_common_fields; the second table is read into webui_wishes. */
extern const request_field webui_fields[], webui_wish_fields[];

/* POST /sdapi/v1/txt2img into a request that has been begun. What this server has no place for is accepted, and told in
 * the remarks where it would change the picture. */
bool webui_request_read(const json_value *object, job_request *r, webui_wishes *w, remarks *n, fault *f);

/* The checkpoint that settings want, a request's override_settings or the options; NULL: none. */
bool webui_wanted_model(const json_value *settings, const char **wanted, fault *f);

/* The model's name of an sd_model_checkpoint, which may have a hash behind it: "name [0123]". */
void webui_model_name(const char *checkpoint, char name[MODEL_NAME_ROOM]);

#endif
