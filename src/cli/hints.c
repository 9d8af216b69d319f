#include "cli/hints.h"

#include <ctype.h>
#include <string.h>

/* A word that could also be prose counts only where the message begins with it: mesh "2by4": it should be … */
static const struct hint {
    const char *word;
    option_id option;
    bool only_first;
} hints[] = {
    {"cache folder", OPT_CACHE, false},
    {"clip_tokens", OPT_CLIP_TOKENS, true},
    {"device", OPT_DEVICE, true},
    {"device_weights", OPT_DEVICE_WEIGHTS, true},
    {"weight_rounding", OPT_ROUND_WEIGHTS, true},
    {"dtype", OPT_DTYPE, true},
    {"eager", OPT_CAPTURE, false},
    {"encoder_device", OPT_ENCODER_DEVICE, false},
    {"file_variant", OPT_FILE_VARIANT, false},
    {"machine", OPT_MACHINE, true},
    {"max_device_memory", OPT_MAX_DEVICE_MEMORY, false},
    {"max_memory", OPT_MAX_MEMORY, false},
    {"max_sequence_length", OPT_MAX_SEQUENCE_LENGTH, false},
    {"mesh", OPT_MESH, true},
    {"rng", OPT_RNG, true},
    {"sp", OPT_SP, true},
    {"step_cache", OPT_STEP_CACHE, true},
    {"threads", OPT_THREADS, true},
    {"timeline", OPT_TIMELINE, true},
    {"tiling", OPT_VAE_TILING, true},
    {"tp", OPT_TP, true},
    {"true_cfg_scale", OPT_TRUE_CFG_SCALE, false},
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

static bool mentions(const char *message, const char *word, bool only_first)
{
    size_t n = strlen(word);
    for (const char *at = message; (at = strstr(at, word)); at += n) {
        if (only_first && at != message)
            return false;
        if ((at == message || !in_word(at[-1])) && !in_word(at[n]))
            return true;
    }
    return false;
}

void hints_add(builder *b, const char *message)
{
    bool any = false;
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++) {
        const bool other = instead.any && instead.of == hints[i].option;
        const option_row *row = &option_rows[other ? instead.named : hints[i].option];
        if (!(row->in & 1u << current) || !mentions(message, hints[i].word, hints[i].only_first) ||
            (strstr(message, "--") && strstr(message, row->name)))
            continue;
        builder_format(b, "%s--%s", any ? ", " : " (", row->name);
        any = true;
    }
    if (any)
        builder_add(b, ")");
}
