/* Values of JSON as texts, as they would stand on the command line. */
#ifndef FLUX1_CLI_VALUES_H
#define FLUX1_CLI_VALUES_H

#include "base/json.h"

#define VALUE_ROOM 40

/* A string as it is, or a number in `room`; NULL for other types, and for strings with zero bytes. */
const char *value_text(const json_value *value, char room[VALUE_ROOM]);

#endif
