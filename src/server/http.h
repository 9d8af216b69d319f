/* HTTP by libmicrohttpd: connections, limits, and from a request to its route's handler. */
#ifndef FLUX1_SERVER_HTTP_H
#define FLUX1_SERVER_HTTP_H

#include "server/inside.h"

/* Serves on s->listener, which it takes. FLUX1_ERR_INTERNAL. */
flux1_status http_start(server *s, flux1_error *err);

/* No new connections from here on; those that there are go on. */
void http_quiesce(server *s);
/* When nobody waits for a job any more: waits for answers that are on their way, and ends all connections. */
void http_stop(server *s);

#endif
