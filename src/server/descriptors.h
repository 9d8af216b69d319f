/* How many files and connections this process may have open at once. */
#ifndef FLUX1_SERVER_DESCRIPTORS_H
#define FLUX1_SERVER_DESCRIPTORS_H

/* Raises the soft limit towards the hard one, as far as a server needs it; a system that forbids it leaves it. */
void descriptors_raise(void);

/* Connections that leave descriptors for everything else; at most `wanted`, at least 1. */
unsigned descriptors_connections(unsigned wanted);

#endif
