/* The text of a script: one line a call. docs/recording.md has the grammar.
 *
 *   [@RANK,RANK… ]NAME KEY=VALUE …      a key that is left out has its default
 *   number       7    sp(1,2)  tp(1,2)  all(1,2,3,4): by sp rank, tp rank, rank
 *   activation   a3   a3.text  a3.image  a3[ROW+ROWS]  a3:COL+COLS  a3?tp(0,1): only where it is 1
 *   weight w3, block b3, mark m3 */
#ifndef FLUX1_OPS_SCRIPT_TEXT_H
#define FLUX1_OPS_SCRIPT_TEXT_H

#include "base/builder.h"
#include "ops/script.h"

void script_write(const script *s, size_t line, builder *out);

/* Adds the line (NUL-terminated, changed while it is read) to *s. FLUX1_ERR_FORMAT: what is wrong with it. `number` is
 * kept in the line. What the numbers stand for is checked where the calls are made. */
flux1_status script_read(script *s, char *text, int number, flux1_error *err);

/* One number of the text: digits, at most 2^31 − 1. False if that is not what *text begins with. */
bool script_number(const char **text, int64_t *out);
bool script_real(const char **text, float *out); /* finite, with a point */

#endif
