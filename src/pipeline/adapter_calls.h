/* What flux1_adapter_open does, for the tools that open adapters themselves. */
#ifndef FLUX1_PIPELINE_ADAPTER_CALLS_H
#define FLUX1_PIPELINE_ADAPTER_CALLS_H

#include "pipeline/adapter_set.h"
#include "pipeline/context.h"

/* Locates the file that the user has named and opens it for the model, with one user. Logs where it lies, if that is
 * elsewhere, and what of it does not apply. */
flux1_status adapter_open_named(flux1_context *c, const flux1_model *m, const char *name, struct flux1_adapter **out);

/* Logs what of a file does not apply, if something does not. */
void adapter_warn(flux1_context *c, const char *name, const adapter_file *f);

#endif
