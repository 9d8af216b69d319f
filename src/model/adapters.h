/* Plain low-rank adapters beside the linear layers of a model that is built on a rank: their matrices are cut as the
 * layers are, and prepared in blocks of their own. The model's weights stay as they are. */
#ifndef FLUX1_MODEL_ADAPTERS_H
#define FLUX1_MODEL_ADAPTERS_H

#include "model/loader.h"
#include "weights/adapter.h"

/* In place of those that are attached. made: the model's list; m: the rank, on whose thread this is;
 * the files stay open while they are attached. After a failure
 * none are attached. */
flux1_status adapters_attach(block_list *made, mesh *m, model_part part, const adapter_use *use, int count);

#endif
