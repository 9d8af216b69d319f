/* The thread that makes the pictures, one job after the other. */
#ifndef FLUX1_SERVER_WORKER_H
#define FLUX1_SERVER_WORKER_H

#include "server/inside.h"

flux1_status worker_start(server *s, flux1_error *err);
void worker_join(server *s); /* once the queue stops */

#endif
