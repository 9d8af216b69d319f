/* Errors are values: a status and one sentence that names the thing, the place and the way out.
 * Every fallible function takes `flux1_error *err` last and returns the status; the innermost function that knows the
 * facts writes the sentence. */
#ifndef FLUX1_BASE_STATUS_H
#define FLUX1_BASE_STATUS_H

#include "flux1.h"

#define FLUX1_MESSAGE_MAX 4096

typedef struct flux1_error {
    flux1_status status;
    int number;                      /* errno of the system call that failed; 0: none did, or it is not known */
    char message[FLUX1_MESSAGE_MAX]; /* UTF-8, cut at a character when too long; "" while status is FLUX1_OK */
} flux1_error;

/* Returns on the first failure; for functions that own nothing yet. */
#define TRY(call)                          \
    do {                                   \
        flux1_status try_status_ = (call); \
        if (try_status_ != FLUX1_OK)       \
            return try_status_;            \
    } while (0)

/* The same for functions with a single `cleanup:` exit and a local `flux1_status st`. */
#define TRY_CLEANUP(call)              \
    do {                               \
        if ((st = (call)) != FLUX1_OK) \
            goto cleanup;              \
    } while (0)

/* Writes status and sentence (printf form) and returns the status; err may be NULL. A control character, a newline too,
 * becomes a blank. */
flux1_status error_set(flux1_error *err, flux1_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the existing sentence and returns its status. For a caller that knows the file when the callee
 * knew the fault. */
flux1_status error_prefix(flux1_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Appends to the existing sentence and returns its status. */
flux1_status error_append(flux1_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Out of memory: `bytes` requested (0: unknown) for `what`. Allocates nothing. */
flux1_status error_oom(flux1_error *err, size_t bytes, const char *what);

/* A failed system call on a path, with errno and its text: `path: cannot <verb>: <reason>`. */
flux1_status error_io(flux1_error *err, const char *path, const char *verb);

/* For a caller that goes on after `from`: FLUX1_ERR_MEMORY if that was it, which nobody may go on after. */
flux1_status error_pass_memory(const flux1_error *from, flux1_error *err);

void error_clear(flux1_error *err);

const char *status_name(flux1_status status); /* "FLUX1_ERR_IO"; "FLUX1_ERR_?" for a value outside the table */
const char *status_text(flux1_status status); /* the table's third column */

#endif
