/* Host tables of the transformer that follow from sizes and sigmas alone. */
#ifndef FLUX1_MODEL_DIT_TABLES_H
#define FLUX1_MODEL_DIT_TABLES_H

#include "model/config.h"

#define TIME_CHANNELS 256

/* Sinusoidal embedding of a phase t (1000·σ or 1000·guidance): out[0..127] = cos(t·f_i), out[128..255] = sin(t·f_i),
 * f_i = 10000^(−i/128). f equals torch's bit for bit: phases reach 30,000, so its last bit matters. */
void time_embedding(float t, float out[TIME_CHANNELS]);

/* (cos, sin) pairs, head_dim values a row, of rows that lie at ids [rows, 3]: axis a turns pair d by
 * ids[a]·10000^(−2d/axes[a]), in double, rounded once. */
void rope_table(const dit_config *c, const float *ids, int64_t rows, float *out);

#endif
