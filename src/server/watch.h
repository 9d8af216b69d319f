/* The thread that looks after connections that wait: whether the client is still there, and whether it should hear that
 * we are. The HTTP library does not look at a connection that it has suspended. */
#ifndef FLUX1_SERVER_WATCH_H
#define FLUX1_SERVER_WATCH_H

#include "server/inside.h"

flux1_status watch_start(server *s, flux1_error *err);
void watch_join(server *s); /* once the queue has stopped */

#endif
