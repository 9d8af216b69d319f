#include "pipeline/memory.h"

#include "base/builder.h"
#include "base/units.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

memory_need memory_of(const mesh_device *d, const stage_plan *p)
{
    const ops_device_info *info = &d->device->info;
    bool own = info->memory > 0;
    /* a device with memory of its own streams what it cannot hold */
    return (memory_need){.activations = p->memory,
                         .scratch = own ? 0 : p->count.own_bytes,
                         .held = own ? 0 : p->count.held_bytes,
                         .mapped = own ? 0 : p->count.block_bytes,
                         .device = own,
                         .bf16 = info->bf16 && d->config.arithmetic == DTYPE_F32};
}

uint64_t memory_total(memory_need n) { return (uint64_t)n.activations + n.scratch + n.held + n.mapped; }

memory_need memory_sum(memory_need a, memory_need b)
{
    return (memory_need){.activations = a.activations + b.activations,
                         .scratch = a.scratch + b.scratch,
                         .held = a.held + b.held,
                         .mapped = a.mapped + b.mapped,
                         .device = a.device,
                         .bf16 = a.bf16 || b.bf16};
}

static uint64_t limit_of(const flux1_context *c, bool device) { return device ? c->max_device_memory : c->max_memory; }

size_t memory_beside(const flux1_context *c, const mesh_device *d, memory_need taken)
{
    uint64_t limit = limit_of(c, d->device->info.memory > 0), used = memory_total(taken);
    return limit > used ? (size_t)(limit - used) : 0;
}

bool memory_fits(const flux1_context *c, memory_need n) { return memory_total(n) <= limit_of(c, n.device); }

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

/* " (activations 1.20 GiB, prepared weights 95.1 MiB)": what takes it, where it is not activations alone. */
static void add_parts(builder *b, const memory_need *n)
{
    const struct {
        const char *name;
        size_t bytes;
    } part[] = {{"activations", n->activations},
                {"scratch of the threads", n->scratch},
                {"prepared weights", n->held},
                {"weights of the blocks in use", n->mapped}};
    char bytes[BYTES_TEXT];
    if (!n->scratch && !n->held && !n->mapped)
        return;
    for (size_t i = 0, said = 0; i < sizeof part / sizeof *part; i++)
        if (part[i].bytes)
            builder_format(b, "%s%s %s", said++ ? ", " : " (", part[i].name,
                           format_bytes(bytes, sizeof bytes, (double)part[i].bytes));
    builder_add(b, ")");
}

flux1_status memory_check(flux1_context *c, memory_need n, unsigned hints, const char *doing, ...)
{
    char what[128], all[BYTES_TEXT], limit[BYTES_TEXT], *text = NULL;
    builder b = {0};
    if (memory_fits(c, n))
        return FLUX1_OK;
    va_list ap;
    va_start(ap, doing);
    vsnprintf(what, sizeof what, doing, ap);
    va_end(ap);
    builder_format(&b, "%s takes %s of %s memory", what, format_bytes(all, sizeof all, (double)memory_total(n)),
                   n.device ? "device" : "host");
    add_parts(&b, &n);
    builder_format(&b, ", more than the %s that it may have (%s)",
                   format_bytes(limit, sizeof limit, (double)limit_of(c, n.device)),
                   n.device ? "max_device_memory" : "max_memory");
    add_hints(&b, n.bf16 ? hints | HINT_DTYPE : hints);
    flux1_status st = builder_take(&b, "a message", &text, &c->error);
    if (st == FLUX1_OK)
        st = error_set(&c->error, FLUX1_ERR_LIMIT, "%s", text);
    free(text);
    return st;
}
