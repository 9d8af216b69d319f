#include "cli/values.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *value_text(const json_value *value, char room[VALUE_ROOM])
{
    if (json_is_string(value))
        return strlen(json_string_value(value)) == json_string_length(value) ? json_string_value(value) : NULL;
    if (json_is_integer(value))
        snprintf(room, VALUE_ROOM, "%" PRId64, value->integer);
    else if (json_is(value, JSON_UNSIGNED))
        snprintf(room, VALUE_ROOM, "%" PRIu64, value->large);
    else if (json_is_real(value))
        snprintf(room, VALUE_ROOM, "%.9g", json_number_value(value));
    else
        return NULL;
    return room;
}
