/* The contract of every entry, checked in one place.
 *
 * check_<entry>(o, …) takes the entry's own arguments and is declared in ops.h. If a model asks for what ops.h does not
 * allow, it returns FLUX1_ERR_INTERNAL with a sentence that names the entry and the operands. The dry run, which
 * precedes every real run, checks each call; the wrappers of ops.h also do so if FLUX1_CHECK_CALLS is 1 (debug and
 * sanitizer builds, the backends' tests). A backend's entry may rely on these checks. */
#ifndef FLUX1_OPS_CHECK_H
#define FLUX1_OPS_CHECK_H

#include "ops/ops.h"

/* Every entry of a real backend begins with this check of what can change from run to run: FLUX1_ERR_CANCELLED, or
 * FLUX1_ERR_INTERNAL for a weight (may be NULL) used outside its block's bracket. */
flux1_status ops_begin(const ops *o, const char *operation, const weight *w);

/* FLUX1_ERR_CANCELLED if the flag is set. A long operation ends with this check. */
flux1_status ops_cancelled(const ops *o);

/* Checks that a host tensor has the act's number of elements and type. */
flux1_status ops_host_fits(const ops *o, const char *operation, const tensor *host, act a);

#endif
