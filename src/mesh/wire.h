/* The wire between processes: what the plug-in libflux1-mpi.so offers the library, which itself links no MPI. No type
 * of MPI's appears here. One thread makes all calls, init first.
 *
 * Functions that can fail return false and put the reason into why, WIRE_WHY bytes. */
#ifndef FLUX1_MESH_WIRE_H
#define FLUX1_MESH_WIRE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

enum { WIRE_VERSION = 1, WIRE_WHY = 512 };
#define WIRE_SYMBOL "flux1_wire"          /* the plug-in's only symbol: a wire_table */
#define WIRE_BYTES_MAX ((size_t)1 << 30)  /* of one message */
typedef struct wire_request wire_request; /* a transfer that can be started again and again */

typedef struct wire_table {
    int version; /* WIRE_VERSION: checked before anything else is read */
    bool (*init)(char *why);
    /* After init. tags: from 0 to tag_max; several_threads: other threads may make calls too, one at a time. */
    int (*count)(void);
    int (*index)(void);
    int (*tag_max)(void);
    bool (*several_threads)(void);
    const char *(*library)(void); /* name and version */
    /* Every process's `bytes` of mine into all [count]. Waits for at most `milliseconds`, sleeping. */
    bool (*gather)(const void *mine, void *all, size_t bytes, int milliseconds, char *why);
    /* Messages between two processes with one tag arrive in the order in which they were started. The buffer belongs
     * to the wire from start until test says done. */
    bool (*create)(bool send, int peer, int tag, void *buffer, size_t bytes, wire_request **out, char *why);
    bool (*start)(wire_request *r, char *why);
    bool (*test)(wire_request *r, bool *done, char *why); /* of one that is started */
    bool (*cancel)(wire_request *r, char *why);           /* of a receive for which nothing was sent; it ends */
    void (*destroy)(wire_request *r);                     /* not while it is started */
    /* The oldest message of that process that no started receive takes. */
    bool (*probe)(int peer, bool *found, int *tag, size_t *bytes, char *why);
    bool (*finalize)(char *why); /* waits for the other processes' */
} wire_table;

/* Opens the plug-in: in the folders of FLUX1_PLUGINS, beside the program or the library, where it was installed. It
 * stays open. FLUX1_ERR_UNSUPPORTED says where it was looked for, or what it lacks. */
flux1_status wire_open(const wire_table **out, flux1_error *err);

#endif
