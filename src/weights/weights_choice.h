/* Which of a folder's files are its weights: one file, or shards with an index; plain, or in a variant. */
#ifndef FLUX1_WEIGHTS_WEIGHTS_CHOICE_H
#define FLUX1_WEIGHTS_WEIGHTS_CHOICE_H

#include "base/status.h"
#include "base/weight_name.h"

#include <stdbool.h>

typedef struct weights_choice {
    char *path; /* malloc'd */
    bool is_index;
    char variant[WEIGHT_VARIANT_MAX]; /* "" for plain weights */
    char *note;                       /* what was passed over, or taken for want of another; NULL: nothing. malloc'd */
} weights_choice;

/* `stems` in order, NULL-terminated: the first that is there counts. Of a single file and an index of one stem, the one
 * counts that its library takes: diffusers (diffusion_pytorch_model) the index, transformers (model) the file.
 * `variant` (NULL: the plain weights): where the folder has it. A folder that has one variant only is taken so.
 * FLUX1_ERR_MODEL if there are none, or several variants to choose from; FLUX1_ERR_IO if the folder may not be looked
 * at. weights_choice_free in any case. */
flux1_status weights_choose(const char *folder, const char *const *stems, const char *variant, weights_choice *out,
                            flux1_error *err);
void weights_choice_free(weights_choice *c);

#endif
