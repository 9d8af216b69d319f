/* A picture as answers have it. */
#ifndef FLUX1_SERVER_PICTURE_TEXT_H
#define FLUX1_SERVER_PICTURE_TEXT_H

#include "server/inside.h"

/* Puts its file as base64. False: it is gone or cannot be read; nothing is put, and f says so (FAULT_SERVER). */
bool picture_text_put(json_writer *w, const char *key, const server *s, const job_picture *p, fault *f);

/* The same of picture i of the job_finished ones of a job that has ended, be there a file or not. */
bool picture_text_put_finished(json_writer *w, const char *key, const server *s, const job *j, int i, fault *f);

#endif
