/* Requests that others may read otherwise than the HTTP library does: a proxy in front of it, or who looks at a path
 * for its end. */
#ifndef FLUX1_SERVER_FRAMING_H
#define FLUX1_SERVER_FRAMING_H

#include "server/fault.h"

#include <stddef.h>

struct MHD_Connection;

/* By the headers: there is one length of the body, in one way, and one host (RFC 9112, 3.2, 5.1 and 6.3). Otherwise
 * FAULT_INVALID, and what follows on this connection must not be read. */
bool framing_check(struct MHD_Connection *connection, fault *f);

/* Of paths, and of names and values in a query; in place, returns the new length. As the library's own, but %00 stays
 * as it was written, since a path or a value would end there. */
size_t framing_unescape(void *user, struct MHD_Connection *connection, char *text);

#endif
