/* --from: a request that repeats a picture. */
#ifndef FLUX1_CLI_FROM_H
#define FLUX1_CLI_FROM_H

#include "base/json.h"
#include "cli/cli.h"

typedef struct from_picture {
    const char *path;
    json_value *root; /* the options' texts are its own, or in `number` */
    char number[OPTION_COUNT][40];
} from_picture;

/* Gives those options of *o that are not given the values of the picture that --from names; does nothing without
 * --from. *out must outlive *o. Prints an error on failure; returns the exit status. */
int from_picture_read(options *o, from_picture *out);

/* Tells how the picture was drawn, and which option repeats that, where `dtype`, the run's (flux1_context_info), is
 * another one. It is not taken over, as another machine may not have it. Does nothing without --from. */
void from_picture_compare(const from_picture *p, const char *dtype);

void from_picture_free(from_picture *p); /* harmless on a zeroed one */

#endif
