/* The socket that a server listens on: TCP at a host's address and port, or a Unix socket. */
#ifndef FLUX1_SERVER_LISTEN_H
#define FLUX1_SERVER_LISTEN_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* *descriptor listens; address: where, for people: "http://127.0.0.1:8080" (the port that port 0 has become), or
 * "unix:PATH". FLUX1_ERR_IO. */
flux1_status listen_tcp(const char *host, int port, int *descriptor, char *address, size_t room, flux1_error *err);

/* The file of a Unix socket. */
typedef struct listen_file {
    bool is_there;
    dev_t device;
    ino_t inode;
} listen_file;

/* A socket that nobody listens on any more is replaced; anything else at that path is left alone. */
flux1_status listen_unix(const char *path, int *descriptor, listen_file *file, char *address, size_t room,
                         flux1_error *err);

/* Removes the file, unless another one lies at that path now. Call it while the descriptor is open. */
void listen_remove(const char *path, listen_file *file);

#endif
