#include "image/metadata.h"

#include "base/builder.h"

#include <inttypes.h>
#include <string.h>

/* The web UI's rule for quoting, and for what would not survive its parser's stripping: spaces at an end, a quote in
 * front. */
static void add_value(builder *b, const char *value)
{
    size_t n = strlen(value);
    bool quote = n == 0 || strpbrk(value, ",:\n\r") || strchr(" \t\"", value[0]) || strchr(" \t", value[n - 1]);
    if (quote)
        builder_json_string(b, value);
    else
        builder_add(b, value);
}

flux1_status metadata_parameters(const image_metadata *m, char **out, flux1_error *err)
{
    builder b = {0};
    builder_add(&b, m->prompt);
    builder_format(&b, "\nSteps: %d, Sampler: Euler, Schedule type: Simple, CFG scale: 1", m->steps);
    if (m->has_guidance) {
        builder_add(&b, ", Distilled CFG Scale: ");
        builder_float(&b, m->guidance);
    }
    builder_format(&b, ", Seed: %" PRIu64 ", Size: %dx%d", m->seed, m->width, m->height);
    if (m->model && m->model[0]) {
        builder_add(&b, ", Model: ");
        add_value(&b, m->model);
    }
    builder_format(&b, ", Version: flux1 %s", m->version);
    return builder_take(&b, "a picture's parameters", out, err);
}

static void add_member(builder *b, const char *key, const char *value)
{
    if (!value)
        return;
    builder_format(b, ", \"%s\": ", key);
    builder_json_string(b, value);
}

flux1_status metadata_json(const image_metadata *m, char **out, flux1_error *err)
{
    builder b = {0};
    builder_add(&b, "{\"prompt\": ");
    builder_json_string(&b, m->prompt);
    builder_format(&b, ", \"width\": %d, \"height\": %d, \"steps\": %d", m->width, m->height, m->steps);
    if (m->has_guidance) {
        builder_add(&b, ", \"guidance\": ");
        builder_float(&b, m->guidance);
    }
    builder_format(&b, ", \"seed\": %" PRIu64, m->seed);
    if (m->max_sequence_length > 0)
        builder_format(&b, ", \"max_sequence_length\": %d", m->max_sequence_length);
    add_member(&b, "model", m->model);
    add_member(&b, "dtype", m->dtype);
    add_member(&b, "device", m->device);
    add_member(&b, "mesh", m->mesh);
    add_member(&b, "version", m->version);
    builder_add(&b, "}");
    return builder_take(&b, "a picture's parameters", out, err);
}
