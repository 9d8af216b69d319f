/* The library's messages name parameters of the C interface; hints name the options that set them. */
#ifndef FLUX1_CLI_HINTS_H
#define FLUX1_CLI_HINTS_H

#include "base/builder.h"
#include "cli/options.h"

/* Hints name options of this command only. */
void hints_command(command cmd);

/* Messages about what option `of` sets name another one from here on, which sets the same. */
void hints_instead(option_id of, option_id named);

/* Adds " (--max-memory)" to `b` where `message` is about max_memory; nothing where it names no parameter, or the option
 * itself. */
void hints_add(builder *b, const char *message);

#endif
