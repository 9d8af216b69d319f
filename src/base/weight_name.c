#include "base/weight_name.h"

#include "base/ending.h"

#include <stdio.h>
#include <string.h>

size_t weight_shard_suffix(const char *text, size_t n)
{
    static const char form[] = "-00001-of-00003";
    const size_t length = sizeof form - 1;
    if (n < length)
        return 0;
    for (size_t i = 0; i < length; i++) {
        const char c = text[n - length + i];
        if (form[i] >= '0' && form[i] <= '9' ? c < '0' || c > '9' : c != form[i])
            return 0;
    }
    return length;
}

weight_kind weight_name(const char *name, char variant[WEIGHT_VARIANT_MAX])
{
    size_t n = strlen(name), shard = 0;
    weight_kind kind = WEIGHT_WHOLE;
    const char *stem = strncmp(name, "diffusion_pytorch_model", 23) == 0 ? name + 23
                       : strncmp(name, "model", 5) == 0                  ? name + 5
                                                                         : NULL;
    variant[0] = '\0';
    if (!stem)
        return WEIGHT_NONE;
    if (strncmp(stem, ".safetensors.index", 18) == 0 && ends_in(name, ".json")) {
        kind = WEIGHT_INDEX;
        stem += 18;
        n -= 5;
    } else if (ends_in(name, ".safetensors"))
        n -= 12;
    else
        return WEIGHT_NONE;
    size_t rest = n - (size_t)(stem - name); /* ".fp16", "-00001-of-00002.fp16", … */
    if ((shard = weight_shard_suffix(stem, rest)) > 0)
        rest -= shard;
    else if (rest >= 15 && (shard = weight_shard_suffix(stem, 15)) > 0) {
        stem += shard;
        rest -= shard;
    }
    if (rest > 0 && (stem[0] != '.' || rest == 1 || rest > WEIGHT_VARIANT_MAX || memchr(stem + 1, '.', rest - 1)))
        return WEIGHT_NONE;
    if (rest > 0)
        snprintf(variant, WEIGHT_VARIANT_MAX, "%.*s", (int)rest - 1, stem + 1);
    return kind == WEIGHT_WHOLE && shard > 0 ? WEIGHT_SHARD : kind;
}
