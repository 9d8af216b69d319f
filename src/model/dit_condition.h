/* A batch's conditions, as the steps read them. */
#ifndef FLUX1_MODEL_DIT_CONDITION_H
#define FLUX1_MODEL_DIT_CONDITION_H

#include "model/dit_weights.h"

struct dit_condition {
    act context; /* RESIDUAL [batch, this rank's prompt rows, hidden]: the embedded prompts */
    act *joint;  /* TABLE [steps·batch, 6·hidden]: 2·layers of them, block by block, text before image (act_part) */
    act *single, final; /* TABLE [steps·batch, 3·hidden], [steps·batch, 2·hidden] */
    act dsigma;         /* TABLE [steps·batch, 1] */
    act tables[];
};

/* Uploads rows [rows.begin, rows.begin + rows.count) of every entry of host [batch, all rows, cols] into out. name: of
 * the input (ops.h). */
flux1_status dit_upload_rows(mesh *m, const char *name, const tensor *host, cut rows, act out);

#endif
