/* What went wrong in the server and not in a request: the operator hears the whole sentence, and clients one that names
 * no file of the server's. */
#ifndef FLUX1_SERVER_FAILURE_H
#define FLUX1_SERVER_FAILURE_H

#include "server/inside.h"

/* Of a call of the library's or the history's, and its sentence. What the request is to blame for (FLUX1_ERR_ARGUMENT,
 * FLUX1_ERR_LIMIT, FLUX1_ERR_UNSUPPORTED) is INVALID with that sentence. All else is SERVER, and told to the operator;
 * where the sentence may name a file (a slash is in it), clients hear what failed, and what stands behind a path at its
 * beginning: "the job cannot be stored: database or disk is full"; or the status in words, where there is a slash in
 * that too. Always false. Not with the queue's lock: telling may wait. */
bool failure_fault(const server *s, fault *f, flux1_status status, const char *what, const char *sentence);

/* The same of what the history could not write: STORAGE where no room was left for it, on the disk or of a quota. */
bool failure_write(const server *s, fault *f, const flux1_error *err, const char *what);

/* To the operator alone. */
void failure_tell(const server *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
