/* TCP sockets of the control connections (control.h): nothing of what is said over them. Sockets do not block. */
#ifndef FLUX1_MESH_SOCKETS_H
#define FLUX1_MESH_SOCKETS_H

#include "mesh/control.h"

/* Makes a socket, or an end of a pipe, one that does not block, and that programs started by this one do not get. */
bool socket_prepare(int fd);

/* Listens on all addresses of one family, AF_INET or AF_INET6, at *port, or at a free one if that is 0: *port is it. */
bool socket_listen(int family, uint16_t *port, int *fd);

/* Fills in this host's addresses, up to CONTROL_ADDRESSES. */
void socket_addresses(control_address *a);

/* Begins to connect to the i-th of the addresses. -1: it cannot be reached from here. */
int socket_connect(const control_address *a, int i);

#endif
