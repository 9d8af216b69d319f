/* The connections that there are. The HTTP library ends one that is silent; here, one that never gets to the end of a
 * request's header is ended too, and an address has a limit. */
#ifndef FLUX1_SERVER_CONNECTIONS_H
#define FLUX1_SERVER_CONNECTIONS_H

#include "base/status.h"

#include <pthread.h>
#include <stdbool.h>
#include <sys/socket.h>

#define CONNECTIONS_PER_ADDRESS 256 /* of an IPv4 address, or the first 64 bits of an IPv6 one; not of this machine */
#define CONNECTIONS_HEADER_SECONDS 60.0
#define CONNECTIONS_HURRY_SECONDS 5.0 /* the same, where three quarters of all connections are taken */

typedef struct connection_entry connection_entry;

typedef struct connections {
    pthread_mutex_t mutex;
    pthread_cond_t end;
    pthread_t thread;
    connection_entry *first;
    unsigned count, limit;
    bool runs, ending;
} connections;

/* With a thread that looks at them each second. FLUX1_ERR_MEMORY. */
flux1_status connections_open(connections *c, unsigned limit, flux1_error *err);
void connections_close(connections *c); /* when the library has ended all; harmless where it was not opened */

/* Whether the address may have one more. */
bool connections_admit(connections *c, const struct sockaddr *address);

/* NULL: no memory; then nothing is known of this one, which is fine in all calls below. address may be NULL. */
connection_entry *connections_add(connections *c, int socket, const struct sockaddr *address);
void connections_remove(connections *c, connection_entry *e); /* while the socket is open */

/* The header of a request has come; the answer is complete, and the next one may come. */
void connections_begin(connections *c, connection_entry *e);
void connections_done(connections *c, connection_entry *e);

/* Shuts those down whose header is late at that time (clock_seconds). With the mutex held: the thread calls it. */
void connections_end_late(connections *c, double now);

#endif
