/* What info and bench both say of a plan. */
#ifndef FLUX1_TOOLS_DESCRIBE_H
#define FLUX1_TOOLS_DESCRIBE_H

#include "base/json_write.h"
#include "pipeline/stages.h"

/* Members of an object: activation_bytes, picture_bytes (a decoder's latent, pixels and tiles, in the host's
 * memory, once), scratch_bytes (of the threads), and of the weights weight_bytes (of the files behind them),
 * held_weight_bytes (beside the files, in the backend's own form), mapped_weight_bytes (of the files, what must be in
 * memory at a time). All others are sums over ranks.
 */
void describe_memory(json_writer *w, const stage_plan *p);

#endif
