/* Every value of a model's files read once. */
#ifndef FLUX1_TOOLS_VERIFY_H
#define FLUX1_TOOLS_VERIFY_H

#include "base/json_write.h"
#include "pipeline/context.h"
#include "pipeline/folder.h"

/* stores: [COMPONENTS], NULL where a part is not there. FLUX1_ERR_NUMERIC names the tensors with NaN or infinity, also
 * among those that FLUX.1 does not have; FLUX1_ERR_IO for a file that changes meanwhile. With `claimed` (the model has
 * claimed what it uses) writes "unknown_tensors", a list of those that it does not have, if there are any. */
flux1_status verify_stores(flux1_context *c, store *const *stores, bool claimed, json_writer *w);

#endif
