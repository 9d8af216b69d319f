/* A recording's calls made: the proof that it is complete. */
#ifndef FLUX1_PIPELINE_RECORDING_PLAY_H
#define FLUX1_PIPELINE_RECORDING_PLAY_H

#include "pipeline/recording_inputs.h"

/* On the context's device, whose mesh must be the recording's. All stages are checked call by call before the first one
 * runs. FLUX1_ERR_FORMAT names the line of a call that is wrong, FLUX1_ERR_MODEL says why the model is not one that the
 * recording is of, FLUX1_ERR_LIMIT what does not fit. image (may be NULL): the picture. */
flux1_status recording_play(flux1_context *c, const flux1_model *m, const recording *r, const recording_request *q,
                            recording_results *out, flux1_image *image);

/* A rank's calls of step `step`. FLUX1_ERR_NUMERIC for NaN or infinity in what `finite` looks at. */
flux1_status recording_play_step(player *p, mesh *m, const recording *r, int64_t step);

#endif
