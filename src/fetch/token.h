/* The user's token for the hub. */
#ifndef FLUX1_FETCH_TOKEN_H
#define FLUX1_FETCH_TOKEN_H

#include "base/status.h"

/* HF_TOKEN, HUGGING_FACE_HUB_TOKEN, or what is in hub_token_path (where "hf auth login" puts it), without blanks and
 * line ends around it; malloc'd, NULL if there is none or HF_HUB_DISABLE_IMPLICIT_TOKEN is set. *source says where it
 * was found, for messages. FLUX1_ERR_ARGUMENT if it cannot be a token: it is not repeated in the message. */
flux1_status token_find(char **token, const char **source, flux1_error *err);

#endif
