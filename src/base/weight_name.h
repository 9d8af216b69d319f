/* diffusers' and transformers' names of weights in a folder, with the variant in any of the places where it was ever
 * put: model.fp16.safetensors, model.fp16-00001-of-00002.safetensors, model-00001-of-00002.fp16.safetensors,
 * model.safetensors.index.fp16.json. */
#ifndef FLUX1_BASE_WEIGHT_NAME_H
#define FLUX1_BASE_WEIGHT_NAME_H

#include <stddef.h>

#define WEIGHT_VARIANT_MAX 64

typedef enum weight_kind { WEIGHT_NONE, WEIGHT_WHOLE, WEIGHT_SHARD, WEIGHT_INDEX } weight_kind;

/* What a file of this name is; its variant, "" for a plain one. */
weight_kind weight_name(const char *name, char variant[WEIGHT_VARIANT_MAX]);

/* Length of "-00001-of-00003" at the end of text[0..n); 0 if it does not end so. */
size_t weight_shard_suffix(const char *text, size_t n);

#endif
