/* The two text encoders: CLIP-L for one pooled vector, T5 for a sequence. Inputs and results are host tensors. All
 * ranks of the mesh share heads and features (mesh_flat). (transformers: models/clip, models/t5.) */
#ifndef FLUX1_MODEL_ENCODERS_H
#define FLUX1_MODEL_ENCODERS_H

#include "model/config.h"
#include "model/loader.h"

typedef struct clip clip;
typedef struct t5 t5;

flux1_status clip_create(loader *l, const clip_config *c, clip **out);
void clip_destroy(clip *model);

/* What CLIP is given. Its attention is causal, so rows behind the pooled one change nothing. */
typedef struct clip_input {
    const int32_t *ids;
    int64_t length; /* of them, at most the config's positions */
    int64_t rows;   /* how many are computed, from the first on: more than clip_pooled_row, and the last layer only for
                       that one. 0: all of them in every layer, so that the calls are the same for any ids */
} clip_input;

/* pooled [1, hidden] = final_layer_norm(last layer)[clip_pooled_row]. Ranks that pass a `pooled` (others NULL) get the
 * result. FLUX1_ERR_NUMERIC names the block; rows that are not computed are not looked at. */
flux1_status clip_encode(clip *model, mesh *m, const clip_input *in, tensor *pooled, model_tick *tick, void *user);

/* Of which token that row is: see clip_config.eos. */
int64_t clip_pooled_row(const clip_config *c, const int32_t *ids, int64_t length);

/* As few rows for clip_input as these ids need, in steps. A prompt's vector does not depend on how many more are
 * computed. */
int64_t clip_rows(const clip_config *c, const int32_t *ids, int64_t length);

flux1_status t5_create(loader *l, const t5_config *c, t5 **out);
void t5_destroy(t5 *model);

/* embeds [1, length, d_model]: last hidden state of every token. There is no mask: padding is attended to, so the
 * length changes the result. Otherwise as clip_encode. */
flux1_status t5_encode(t5 *model, mesh *m, const int32_t *ids, int64_t length, tensor *embeds, model_tick *tick,
                       void *user);

/* The relative bias of heads [heads.begin, heads.begin + heads.count): values [heads.count, 2·length − 1], from the
 * most negative position on. bias: the weight "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight".
 */
#define T5_BIAS_TENSOR "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
flux1_status t5_bias_values(const t5_config *c, const weight_recipe *bias, cut heads, int64_t length, float *values,
                            flux1_error *err);

#endif
