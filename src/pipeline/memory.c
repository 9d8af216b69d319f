#include "pipeline/memory.h"

#include "base/builder.h"
#include "base/units.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

memory_need memory_of(const mesh_device *d, const stage_plan *p)
{
    bool own = d->device->info.memory > 0;
    /* a device with memory of its own streams what it cannot hold: only the host keeps what it prepares */
    size_t weights = own ? 0 : p->count.held_bytes + p->count.block_bytes;
    return (memory_need){.activations = p->memory, .weights = weights, .device = own};
}

memory_need memory_sum(memory_need a, memory_need b)
{
    return (memory_need){a.activations + b.activations, a.weights + b.weights, a.device};
}

static uint64_t limit_of(const flux1_context *c, bool device) { return device ? c->max_device_memory : c->max_memory; }

size_t memory_beside(const flux1_context *c, const mesh_device *d, memory_need taken)
{
    uint64_t limit = limit_of(c, d->device->info.memory > 0), used = (uint64_t)taken.activations + taken.weights;
    return limit > used ? (size_t)(limit - used) : 0;
}

bool memory_fits(const flux1_context *c, memory_need n)
{
    return (uint64_t)n.activations + n.weights <= limit_of(c, n.device);
}

static const char *const HINTS[] = {"a smaller picture", "decoding in tiles", "a smaller batch",
                                    "no previews",       "fewer steps",       "a smaller max_sequence_length",
                                    "dtype bf16"};

static void add_hints(builder *b, unsigned hints)
{
    int count = 0, said = 0;
    for (size_t i = 0; i < sizeof HINTS / sizeof *HINTS; i++)
        count += hints >> i & 1;
    for (size_t i = 0; i < sizeof HINTS / sizeof *HINTS; i++)
        if (hints >> i & 1) {
            builder_format(b, "%s%s", said == 0 ? "; " : said + 1 == count ? " or " : ", ", HINTS[i]);
            said++;
        }
    if (count)
        builder_add(b, " would take less");
}

flux1_status memory_check(flux1_context *c, memory_need n, unsigned hints, const char *doing, ...)
{
    char what[128], all[32], activations[32], weights[32], limit[32];
    const char *whose = n.device ? "device" : "host";
    builder b = {0};
    if (memory_fits(c, n))
        return FLUX1_OK;
    va_list ap;
    va_start(ap, doing);
    vsnprintf(what, sizeof what, doing, ap);
    va_end(ap);
    format_bytes(all, sizeof all, (double)n.activations + (double)n.weights);
    format_bytes(activations, sizeof activations, (double)n.activations);
    format_bytes(weights, sizeof weights, (double)n.weights);
    format_bytes(limit, sizeof limit, (double)limit_of(c, n.device));
    if (c->device.config.arithmetic == DTYPE_F32 && c->device.device->info.bf16)
        hints |= HINT_DTYPE;
    builder_format(&b, "%s takes %s of %s memory", what, all, whose);
    if (n.weights)
        builder_format(&b, " (activations %s, weights %s)", activations, weights);
    builder_format(&b, ", more than the %s that it may have (max_%smemory)", limit, n.device ? "device_" : "");
    add_hints(&b, hints);
    char *text = NULL;
    flux1_status st = builder_take(&b, "a message", &text, &c->error);
    if (st == FLUX1_OK)
        st = error_set(&c->error, FLUX1_ERR_LIMIT, "%s", text);
    free(text);
    return st;
}
