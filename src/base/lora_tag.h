/* Tags of adapters in a prompt, <lora:NAME:0.8>, read by AUTOMATIC1111's own rule, and written so that it reads them.
 */
#ifndef FLUX1_BASE_LORA_TAG_H
#define FLUX1_BASE_LORA_TAG_H

#include "base/builder.h"

/* Behind the name stand the scale of the text encoders and that of the transformer, by their places or as te=0.5 and
 * unet=0.8, which count more. The first is 1 where it is not given, the second as the first. Other words do not count.
 */
typedef struct lora_tag {
    const char *begin, *end; /* the tag, in the text it was found in */
    const char *name;        /* name_bytes of it; the rule says at least 1 */
    size_t name_bytes;
    double scale;      /* of the transformer */
    double text_scale; /* of the text encoders */
    bool is_number;    /* false: a scale is no number, and both are unknown */
} lora_tag;

/* The first tag from `text` on. False: there is none. */
bool lora_tag_find(const char *text, lora_tag *out);

/* Takes the tag out of the text that it was found in; returns where that goes on. */
char *lora_tag_cut(char *text, const lora_tag *tag);

/* Adds <lora:NAME:SCALE>, behind a blank where it is not the first. False: a tag cannot have such a name. */
bool lora_tag_add(builder *b, const char *name, size_t bytes, float scale);

#endif
