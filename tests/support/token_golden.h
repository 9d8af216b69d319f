/* Shared by the tokenizer tests: the oracle's ids (tests/data/tokens, made by tools/oracle/tokens.py) and tokenizers
 * made of texts in memory. */
#ifndef TESTS_SUPPORT_TOKEN_GOLDEN_H
#define TESTS_SUPPORT_TOKEN_GOLDEN_H

#include "text/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef flux1_status golden_tokenize(const void *tokenizer, const char *prompt, size_t bytes, int length, int32_t *ids,
                                     int *used, bool *truncated, flux1_error *err);

/* Every prompt's ids, count and cut mark equal the oracle's `name`; what follows is padding. */
void golden_check(const char *name, const void *tokenizer, golden_tokenize *tokenize, int32_t vocabulary);

/* SHARED_DATA is not part of the repository: tests on it skip where it is absent. */
void skip_without(const char *path);

/* ---- tokenizers of texts in memory ---- */

/* All files named as in a folder, none there. */
void files_name(tokenizer_files *f);
/* `f` holds a copy of these bytes; NULL: the file is absent. */
void file_set(text_file *f, const char *name, const char *bytes, size_t size);
void file_set_text(text_file *f, const char *name, const char *text);
void file_load(text_file *f, const char *path);

/* One line that has these words. */
void assert_message(const flux1_error *err, const char *words);

#endif
