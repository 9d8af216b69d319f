/* -v: what was chosen for a run. */
#ifndef FLUX1_CLI_VERBOSE_H
#define FLUX1_CLI_VERBOSE_H

#include "cli/shared_model.h"

/* Notes on standard error: device and kernels, arithmetic, mesh, the parts' types, the memory that each stage of a
 * picture takes. parts: of the model. */
void verbose_tell(const shared_model *s, const flux1_model_parts *parts);

#endif
