/* A JSON value for people: nested lists as indentation, lists of like objects as tables, bytes and FLOPs with their
 * units. */
#ifndef FLUX1_CLI_READABLE_H
#define FLUX1_CLI_READABLE_H

#include "base/status.h"

/* Prints to standard output. FLUX1_ERR_FORMAT if it is not JSON. */
flux1_status readable_print(const char *json, flux1_error *err);

#endif
