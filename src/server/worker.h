/* The threads that make the pictures, one job after the other each. */
#ifndef FLUX1_SERVER_WORKER_H
#define FLUX1_SERVER_WORKER_H

#include "server/inside.h"

flux1_status workers_start(server *s, flux1_error *err);
void workers_join(server *s); /* once the queue stops */

#endif
