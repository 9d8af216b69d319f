/* Files of rules for flux1 convert: any text is rules whose types the format has, or one sentence with the line. */
#include "fuzz.h"

#include "tools/convert.h"

#include <stdlib.h>
#include <string.h>

static void parse(const char *text, bool is_gguf)
{
    convert_rules rules;
    flux1_error err = {0};
    if (convert_rules_parse(text, "f", is_gguf, &rules, &err) == FLUX1_OK) {
        for (size_t i = 0; i < rules.count; i++)
            if (!rules.rule[i].pattern[0] || (is_gguf && rules.rule[i].type->file_type < 0))
                abort();
        convert_rules_find(&rules, "double_blocks.0.img_attn.qkv.weight", "transformer_blocks.0.attn.to_q.weight");
    } else if (strncmp(err.message, "f: line ", 8) != 0 && strcmp(err.message, "f: there is no rule in it") != 0)
        abort();
    convert_rules_free(&rules);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    parse(text, false);
    parse(text, true);
    free(text);
    return 0;
}
