#include "cli/hints.h"

#include <ctype.h>
#include <string.h>

/* A word that could also be prose counts only where it is the message's first (mesh "2by4": it should be …), or behind
 * words that say what is meant. */
#define ANYWHERE NULL
#define FIRST ""
#define OF_PARTS "parts of the model are missing"

static const struct hint {
    const char *word;
    option_id option;
    const char *behind;
} hints[] = {
    {"a LoRA, which is added", OPT_LORA, ANYWHERE},
    {"cache folder", OPT_CACHE, ANYWHERE},
    {"clip", OPT_CLIP, OF_PARTS},
    {"clip_tokens", OPT_CLIP_TOKENS, FIRST},
    {"device", OPT_DEVICE, FIRST},
    {"device_weights", OPT_DEVICE_WEIGHTS, FIRST},
    {"weight_rounding", OPT_ROUND_WEIGHTS, ANYWHERE},
    {"dtype", OPT_DTYPE, FIRST},
    {"dtype", OPT_DTYPE, "would fit"},
    {"eager", OPT_CAPTURE, ANYWHERE},
    {"encoder_device", OPT_ENCODER_DEVICE, ANYWHERE},
    {"file variant", OPT_FILE_VARIANT, ANYWHERE},
    {"file_variant", OPT_FILE_VARIANT, ANYWHERE},
    {"machine", OPT_MACHINE, FIRST},
    {"max_device_memory", OPT_MAX_DEVICE_MEMORY, ANYWHERE},
    {"max_memory", OPT_MAX_MEMORY, ANYWHERE},
    {"max_sequence_length", OPT_MAX_SEQUENCE_LENGTH, ANYWHERE},
    {"mesh", OPT_MESH, FIRST},
    {"names", OPT_NAMES, FIRST},
    {"negative_prompt", OPT_NEGATIVE_PROMPT, FIRST},
    {"part", OPT_PART, FIRST},
    {"rng", OPT_RNG, FIRST},
    {"sp", OPT_SP, FIRST},
    {"several parts", OPT_PART, ANYWHERE},
    {"step_cache", OPT_STEP_CACHE, FIRST},
    {"t5", OPT_T5, OF_PARTS},
    {"threads", OPT_THREADS, FIRST},
    {"timeline", OPT_TIMELINE, FIRST},
    {"tiling", OPT_VAE_TILING, FIRST},
    {"tokenizer_2", OPT_TOKENIZERS, "needs its own"},
    {"tp", OPT_TP, FIRST},
    {"transformer", OPT_TRANSFORMER, OF_PARTS},
    {"true_cfg_scale", OPT_TRUE_CFG_SCALE, ANYWHERE},
    {"type", OPT_TYPE, FIRST},
    {"vae", OPT_VAE, OF_PARTS},
};

/* A process runs one command. */
static command current;

void hints_command(command cmd) { current = cmd; }

static struct {
    bool any;
    option_id of, named;
} instead;

void hints_instead(option_id of, option_id named)
{
    instead.any = true;
    instead.of = of;
    instead.named = named;
}

static bool in_word(char c) { return isalnum((unsigned char)c) || c == '_' || c == '-'; }

static bool mentions(const char *message, const char *word, const char *behind)
{
    const size_t n = strlen(word);
    const char *at = behind ? strstr(message, behind) : message;
    for (; at && (at = strstr(at, word)); at += n) {
        if (behind && !*behind && at != message)
            return false;
        if ((at == message || !in_word(at[-1])) && !in_word(at[n]))
            return true;
    }
    return false;
}

/* Whether the message names the option itself. */
static bool names_option(const char *message, const char *name)
{
    for (const char *at = message; (at = strstr(at, "--")); at += 2)
        if (strncmp(at + 2, name, strlen(name)) == 0 && !in_word(at[2 + strlen(name)]))
            return true;
    return false;
}

void hints_add(builder *b, const char *message)
{
    bool any = false;
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++) {
        const bool other = instead.any && instead.of == hints[i].option;
        const option_row *row = &option_rows[other ? instead.named : hints[i].option];
        if (!(row->in & 1u << current) || !mentions(message, hints[i].word, hints[i].behind) ||
            names_option(message, row->name))
            continue;
        builder_format(b, "%s--%s", any ? ", " : " (", row->name);
        any = true;
    }
    if (any)
        builder_add(b, ")");
}
