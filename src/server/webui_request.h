/* A request as AUTOMATIC1111's clients write it. */
#ifndef FLUX1_SERVER_WEBUI_REQUEST_H
#define FLUX1_SERVER_WEBUI_REQUEST_H

#include "server/inside.h"

/* Beside request_common_fields; the second table is of how many pictures. */
extern const request_field webui_fields[], webui_count_fields[];

/* POST /sdapi/v1/txt2img into a request that has been begun. What this server has no place for is accepted, and told in
 * the remarks where it would change the picture. model: ours, for override_settings. */
bool webui_request_read(const json_value *object, const char *model, job_request *r, remarks *n, fault *f);

/* sd_model_checkpoint names our model, as the lists of models do: "name", perhaps with a hash behind it. */
bool webui_is_model(const char *checkpoint, const char *model);

#endif
