/* What a picture that a client sends says about how it was made. */
#ifndef FLUX1_SERVER_PNG_INFO_H
#define FLUX1_SERVER_PNG_INFO_H

#include "server/inside.h"

/* *facts: as flux1_picture_json has it; free it. FAULT_INVALID: no picture, or a broken one. */
bool png_info_read(server *s, const char *bytes, size_t count, json_value **facts, fault *f);

/* The same of a file. */
bool png_info_of_file(server *s, const char *path, json_value **facts, fault *f);

/* Its request (NULL: none is known) as POST /api/jobs takes it, without what that does not know. */
void png_info_put_request(json_writer *w, const char *key, const json_value *request);

#endif
