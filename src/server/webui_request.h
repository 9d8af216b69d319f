/* A request as AUTOMATIC1111's clients write it. */
#ifndef FLUX1_SERVER_WEBUI_REQUEST_H
#define FLUX1_SERVER_WEBUI_REQUEST_H

#include "server/inside.h"

/* Beside request_common_fields; the second table is of how many pictures. */
extern const request_field webui_fields[], webui_count_fields[];

/* POST /sdapi/v1/txt2img into a request that has been begun. What this server has no place for is accepted, and told in
 * the remarks where it would change the picture. */
bool webui_request_read(const json_value *object, job_request *r, remarks *n, fault *f);

/* The checkpoint that a request wants; NULL: none. */
const char *webui_wanted_model(const json_value *object);

/* The model's name of an sd_model_checkpoint, which may have a hash behind it: "name [0123]". */
void webui_model_name(const char *checkpoint, char name[MODEL_NAME_ROOM]);

#endif
