/* Which adapters of the folder a model can have: found out by the errands' thread, a file between two errands, so that
 * an errand waits for one file at most. Who is told waits for the folder's metadata alone (readdir, stat). */
#ifndef FLUX1_SERVER_LOOKS_H
#define FLUX1_SERVER_LOOKS_H

#include "server/inside.h"

/* Each file and what is known of it for that model (used meanwhile), at once. Where there are files that nobody has
 * examined yet, that is begun. */
void looks_tell(server *s, served_model *m, loras_tell *tell, void *user);

/* Begins to examine them, unless that is under way. */
void looks_begin(server *s, served_model *m);

#endif
