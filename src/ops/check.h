/* The contract of every entry, checked in one place.
 *
 * check_<entry>(o, …), of the entry's own arguments, declared in ops.h: FLUX1_ERR_INTERNAL with a sentence that names
 * the entry and the operands, where a model asks for what ops.h does not allow. The dry run, which comes before every
 * real run, checks each call; so do the wrappers of ops.h where FLUX1_CHECK_CALLS is 1 (debug and sanitizer builds,
 * the backends' tests). A backend's entry may rely on it. */
#ifndef FLUX1_OPS_CHECK_H
#define FLUX1_OPS_CHECK_H

#include "ops/ops.h"

/* What every entry of a real backend begins with, for these change from run to run: FLUX1_ERR_CANCELLED, or
 * FLUX1_ERR_INTERNAL for a weight (may be NULL) used outside its block's bracket. */
flux1_status ops_begin(const ops *o, const char *operation, const weight *w);

/* FLUX1_ERR_CANCELLED if the flag is set; what a long operation ends with. */
flux1_status ops_cancelled(const ops *o);

/* A tensor of the host has the act's elements, in its type. */
flux1_status ops_host_fits(const ops *o, const char *operation, const tensor *host, act a);

#endif
