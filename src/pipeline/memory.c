#include "pipeline/memory.h"

#include "base/builder.h"
#include "base/units.h"
#include "mesh/processes.h"
#include "pipeline/text_cache.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first process on the host of process i. */
static int host_of(const flux1_context *c, int i)
{
    int first = 0;
    while (strcmp(processes_info(c->processes, first)->host, processes_info(c->processes, i)->host) != 0)
        first++;
    return first;
}

/* What the host of this process may give: the least that a process there has found. */
static uint64_t host_limit(const flux1_context *c, int process)
{
    uint64_t limit = process == 0 ? c->max_memory : UINT64_MAX;
    for (int i = 0; c->processes && i < processes_count(c->processes); i++)
        if (host_of(c, i) == process && processes_info(c->processes, i)->memory < limit)
            limit = processes_info(c->processes, i)->memory;
    return limit;
}

uint64_t memory_limit(const flux1_context *c, const memory_need *n)
{
    return n->device ? c->max_device_memory : host_limit(c, n->process);
}

/* Ranks first … first + count − 1 of a plan. A device with memory of its own streams what it cannot hold. */
static void add_ranks(memory_need *n, const stage_plan *p, int first, int count)
{
    for (int r = first; p && r < first + count; r++) {
        n->activations += p->arena[r];
        n->scratch += n->device ? 0 : p->scratch[r];
        n->held += n->device ? 0 : p->held[r];
        n->mapped += n->device ? 0 : p->block[r];
        n->all += n->device ? 0 : p->mapped[r];
        n->in_steps += n->device ? 0 : p->in_steps[r];
    }
    if (p && !n->device && p->count.form_bytes > n->form)
        n->form = p->count.form_bytes;
}

/* Of a device with memory of its own the picture is not there, nor the dump, nor prompts. */
static void add_pictures(const flux1_context *c, memory_need *n, const stage_plan *p, const stage_plan *beside)
{
    if (n->device)
        return;
    n->picture += (p ? p->picture : 0) + (beside ? beside->picture : 0);
    n->dump += c->dump;
    n->texts += c->run_texts;
    n->kept += text_cache_bytes(c);
}

/* In these ranks' host memory, but for mapped weights. Prepared weights of one model are there once for all. */
static size_t held_by_samplers(const flux1_context *c, int first, int count)
{
    size_t bytes = 0;
    for (const memory_hold *h = c->device.device->info.memory ? NULL : c->holds; h; h = h->next)
        for (int r = first; r < first + count; r++)
            bytes += h->plan->arena[r] + h->plan->scratch[r] + (h->model == c->model ? 0 : h->plan->held[r]);
    return bytes;
}

/* Of the ranks on the host whose first process is `host`. */
static memory_need need_of_host(const flux1_context *c, memory_need n, int host, const stage_plan *p,
                                const stage_plan *beside)
{
    int ranks = mesh_ranks(&c->mesh), first, count;
    n.process = host;
    if (host == 0)
        add_pictures(c, &n, p, beside);
    for (int i = host; i < processes_count(c->processes); i++) {
        if (host_of(c, i) != host)
            continue;
        n.program += c->program;
        n.opened += c->opened;
        processes_ranks(c->processes, i, ranks, &first, &count);
        n.samplers += held_by_samplers(c, first, count);
        add_ranks(&n, p, first, count);
        add_ranks(&n, beside, first, count);
    }
    return n;
}

/* Negative: it lacks. */
static double to_spare(const flux1_context *c, const memory_need *n)
{
    return (double)memory_limit(c, n) - (double)memory_total(*n);
}

memory_need memory_of(const flux1_context *c, const mesh_device *d, const stage_plan *p, const stage_plan *beside)
{
    const ops_device_info *info = &d->device->info;
    const memory_need none = {.device = info->memory > 0,
                              .bf16 = info->bf16 && d->config.arithmetic == DTYPE_F32,
                              .uncached = !c->cache && d->device->kind->block_key};
    memory_need all = none;
    if (!d->processes || none.device) {
        const int ranks = mesh_ranks(context_mesh(c, d));
        all.program = none.device ? 0 : c->program;
        all.opened = none.device ? 0 : c->opened;
        all.samplers = none.device ? 0 : held_by_samplers(c, 0, mesh_ranks(&c->mesh));
        add_pictures(c, &all, p, beside);
        add_ranks(&all, p, 0, ranks);
        add_ranks(&all, beside, 0, ranks);
        return all;
    }
    all = need_of_host(c, none, 0, p, beside);
    for (int i = 1; i < processes_count(c->processes); i++) {
        memory_need n = none;
        if (host_of(c, i) == i)
            n = need_of_host(c, none, i, p, beside);
        if (n.process == i && to_spare(c, &n) < to_spare(c, &all))
            all = n;
    }
    return all;
}

uint64_t memory_total(memory_need n)
{
    return (uint64_t)n.program + n.opened + n.latents + n.samplers + n.activations + n.picture + n.dump + n.texts +
           n.scratch + n.held + n.mapped;
}

size_t memory_beside(const flux1_context *c, const mesh_device *d, const stage_plan *taken)
{
    const memory_need n = memory_of(c, d, taken, NULL);
    uint64_t limit = memory_limit(c, &n), used = memory_total(n);
    return limit > used ? (size_t)(limit - used) : 0;
}

bool memory_fits(const flux1_context *c, memory_need n) { return memory_total(n) <= memory_limit(c, &n); }

static const char *const HINTS[] = {"a smaller picture",
                                    "decoding in tiles",
                                    "a smaller batch",
                                    "no previews",
                                    "fewer steps",
                                    "a smaller max_sequence_length",
                                    "fewer prompts in one call",
                                    "dtype bf16",
                                    "a cache folder for prepared weights"};

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

/* Beside those of the stage, what the need itself knows. In files of the cache, prepared weights would be streamed. */
static unsigned all_hints(const flux1_context *c, const memory_need *n, unsigned hints)
{
    if (!(hints & HINT_OPTIONS) && !n->device)
        return hints;
    if (n->bf16)
        hints |= HINT_DTYPE;
    if (n->uncached && n->held > memory_total(*n) - memory_limit(c, n))
        hints |= HINT_CACHE;
    return hints;
}

/* " (activations 1.20 GiB, prepared weights 95.1 MiB)": what takes it, where it is not activations alone. */
static void add_parts(builder *b, const memory_need *n)
{
    const struct {
        const char *name;
        size_t bytes;
    } part[] = {{"the program itself", n->program},
                {"the opened model", n->opened},
                {"latents", n->latents},
                {"open samplers", n->samplers},
                {"activations", n->activations},
                {"the picture", n->picture},
                {"the dump", n->dump},
                {"encoded prompts", n->texts},
                {"scratch of the threads", n->scratch},
                {"prepared weights", n->held},
                {"weights of the blocks in use", n->mapped}};
    char bytes[BYTES_TEXT];
    if (memory_total(*n) == n->activations)
        return;
    for (size_t i = 0, said = 0; i < sizeof part / sizeof *part; i++)
        if (part[i].bytes)
            builder_format(b, "%s%s %s", said++ ? ", " : " (", part[i].name,
                           format_bytes(bytes, sizeof bytes, (double)part[i].bytes));
    builder_add(b, ")");
}

flux1_status memory_check(flux1_context *c, memory_need n, unsigned hints, const char *doing, ...)
{
    char what[128], all[2 * BYTES_TEXT], limit[2 * BYTES_TEXT], *text = NULL;
    builder b = {0};
    if (memory_fits(c, n))
        return FLUX1_OK;
    va_list ap;
    va_start(ap, doing);
    vsnprintf(what, sizeof what, doing, ap);
    va_end(ap);
    format_bytes(all, sizeof all, (double)memory_total(n));
    format_bytes(limit, sizeof limit, (double)memory_limit(c, &n));
    if (strcmp(all, limit) == 0) { /* three digits do not tell them apart */
        snprintf(all, sizeof all, "%llu bytes", (unsigned long long)memory_total(n));
        snprintf(limit, sizeof limit, "%llu bytes", (unsigned long long)memory_limit(c, &n));
    }
    builder_format(&b, "%s takes %s of %s memory", what, all, n.device ? "device" : "host");
    if (n.process)
        builder_format(&b, " on %s", processes_info(c->processes, n.process)->host);
    add_parts(&b, &n);
    builder_format(&b, ", more than the %s that it may have (%s)", limit,
                   n.device ? "max_device_memory" : "max_memory");
    add_hints(&b, all_hints(c, &n, hints));
    flux1_status st = builder_take(&b, "a message", &text, &c->error);
    if (st == FLUX1_OK)
        st = error_set(&c->error, FLUX1_ERR_LIMIT, "%s", text);
    free(text);
    return st;
}

/* ---- obeying ---- */

/* Of the limit, what is left for mapped weights. */
static uint64_t room_for_weights(const flux1_context *c, const memory_need *n)
{
    const uint64_t limit = memory_limit(c, n), fixed = memory_total(*n) - n->mapped + n->kept;
    return limit > fixed ? limit - fixed : 0;
}

bool memory_streams(const flux1_context *c, const memory_need *n)
{
    return !n->device && n->all > room_for_weights(c, n);
}

bool memory_steps_stream(const flux1_context *c, const memory_need *n)
{
    return !n->device && n->in_steps > room_for_weights(c, n);
}

/* What each of `ranks` ranks may leave in memory of its own plan's weights. */
static size_t share_of(const flux1_context *c, const memory_need *own, const memory_need *both, int ranks)
{
    const uint64_t room = room_for_weights(c, both), others = both->all - own->all;
    if (both->device || both->all <= room)
        return SIZE_MAX;
    return room > others ? (size_t)(room - others) / (size_t)ranks : 0;
}

/* Host by host, where the ranks are on several. */
static void share_out(const flux1_context *c, const mesh_device *d, const stage_plan *p, const stage_plan *beside,
                      size_t *share)
{
    const int ranks = mesh_ranks(context_mesh(c, d));
    const memory_need none = {.device = d->device->info.memory > 0};
    if (!d->processes || none.device) {
        const memory_need own = memory_of(c, d, p, NULL), both = memory_of(c, d, p, beside);
        for (int r = 0; r < ranks; r++)
            share[r] = share_of(c, &own, &both, ranks);
        return;
    }
    for (int i = 0; i < processes_count(c->processes); i++) {
        const int host = host_of(c, i);
        const memory_need own = need_of_host(c, none, host, p, NULL), both = need_of_host(c, none, host, p, beside);
        int first, count, there = 0;
        for (int k = host; k < processes_count(c->processes); k++) {
            processes_ranks(c->processes, k, ranks, &first, &count);
            there += host_of(c, k) == host ? count : 0;
        }
        processes_ranks(c->processes, i, ranks, &first, &count);
        for (int r = first; r < first + count; r++)
            share[r] = share_of(c, &own, &both, there);
    }
}

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t most(uint64_t a, uint64_t b) { return a > b ? a : b; }

static uint64_t weights_at_once(const flux1_context *c, const memory_need *n)
{
    const uint64_t room = room_for_weights(c, n);
    return n->all <= room ? most(n->all, n->mapped) : most(n->mapped, least(n->in_steps, room));
}

uint64_t memory_peak(const flux1_context *c, const memory_need *n)
{
    return memory_total(*n) - n->mapped + n->kept + weights_at_once(c, n);
}

uint64_t memory_for_unused(const flux1_context *c, const memory_need *n)
{
    const uint64_t limit = memory_limit(c, n), peak = memory_peak(c, n), spare = limit > peak ? limit - peak : 0;
    return least(spare, n->held < KEPT_UNUSED ? KEPT_UNUSED - n->held : 0);
}

static uint64_t mapped_by_samplers(const flux1_context *c)
{
    uint64_t bytes = 0;
    for (const memory_hold *h = c->holds; h; h = h->next)
        for (int r = 0; r < mesh_ranks(&c->mesh); r++)
            bytes += h->plan->mapped[r];
    return bytes;
}

uint64_t memory_for_texts(const flux1_context *c, const memory_need *n)
{
    const uint64_t limit = memory_limit(c, n), total = memory_total(*n), all = n->all + mapped_by_samplers(c),
                   unstreamed = total - n->mapped + most(all, n->mapped);
    return unstreamed < limit ? limit - unstreamed : limit > total ? (limit - total) / 16 : 0;
}

/* Prompts of earlier runs, which lie in the process that leads, take no memory that is wanted. */
static flux1_status keep_texts_that_fit(flux1_context *c, const mesh_device *d, const stage_plan *p,
                                        const stage_plan *beside)
{
    const memory_need none = {.device = d->device->info.memory > 0}, n = d->processes && !none.device
                                                                             ? need_of_host(c, none, 0, p, beside)
                                                                             : memory_of(c, d, p, beside);
    return n.device ? FLUX1_OK : text_cache_limit(c, memory_for_texts(c, &n));
}

/* Prepared weights that nobody uses take no memory that is wanted. */
static void keep_what_fits(flux1_context *c, const mesh_device *d, const memory_need *n)
{
    if (!n->device && d->kind->kept_limit)
        d->kind->kept_limit(d->device, &c->kept, (size_t)(n->held + memory_for_unused(c, n) + 1)); /* 0 is no limit */
}

bool memory_has_room(const flux1_context *c, const memory_need *n, uint64_t more)
{
    const uint64_t limit = memory_limit(c, n), taken = memory_peak(c, n) + KEPT_UNUSED;
    return taken <= limit && more <= limit - taken;
}

/* On the host what a larger stage has touched of its arena stays, which this stage has not planned: it may where there
 * is room for it too, beside `more` bytes. */
static bool all_may_stay(const flux1_context *c, const mesh_device *d, const memory_need *n, const stage_plan *p,
                         const size_t *reserve, uint64_t more)
{
    if (n->device)
        return true;
    for (int r = 0; r < mesh_ranks(context_mesh(c, d)); r++)
        more += reserve[r] > p->arena[r] ? reserve[r] - p->arena[r] : 0;
    return !d->processes && memory_has_room(c, n, more);
}

static size_t decoding_bytes(const flux1_context *c, const stage_plan *p)
{
    size_t bytes = p->picture;
    for (int r = 0; r < mesh_ranks(&c->mesh); r++)
        bytes += p->arena[r] + p->scratch[r] + p->held[r] + p->block[r];
    return bytes;
}

memory_need memory_of_sampler(const flux1_context *c, const stage_plan *denoise, const stage_plan *decode)
{
    memory_need n = memory_of(c, &c->device, denoise, decode);
    size_t most = decoding_bytes(c, decode), own = most;
    for (const memory_hold *h = n.device ? NULL : c->holds; h; h = h->next)
        most = h->decoding > most ? h->decoding : most;
    n.samplers += most - own;
    return n;
}

void memory_hold_on(flux1_context *c, memory_hold *h, const flux1_model *m)
{
    h->model = m->source.number;
    h->decoding = decoding_bytes(c, h->beside);
    h->next = c->holds;
    c->holds = h;
}

void memory_let_go(flux1_context *c, memory_hold *h)
{
    memory_hold **at = &c->holds;
    while (*at && *at != h)
        at = &(*at)->next;
    if (*at)
        *at = h->next;
}

void memory_hold_rest(memory_hold *h)
{
    if (h->lowered)
        mesh_weights_budget(h->session->mesh, h->plan->block);
}

flux1_status memory_hold_again(flux1_context *c, memory_hold *h)
{
    size_t *share;
    if (!h->lowered)
        return FLUX1_OK;
    for (memory_hold *other = c->holds; other; other = other->next)
        if (other != h) {
            other->lowered = true;
            memory_hold_rest(other);
        }
    if (c->holds != h || h->next) {
        memory_need n = memory_of(c, &c->device, NULL, NULL);
        for (int r = 0; r < mesh_ranks(&c->mesh); r++)
            n.mapped += h->plan->block[r];
        return text_cache_limit(c, memory_for_texts(c, &n));
    }
    if (!(share = calloc((size_t)mesh_ranks(&c->mesh), sizeof *share)))
        return error_oom(&c->error, 0, "the plan");
    c->holds = NULL; /* beside its own plan it does not count */
    const flux1_status st = keep_texts_that_fit(c, &c->device, h->plan, h->beside);
    share_out(c, &c->device, h->plan, h->beside, share);
    c->holds = h;
    if (st == FLUX1_OK)
        mesh_weights_budget(h->session->mesh, share);
    h->lowered = st != FLUX1_OK;
    free(share);
    return st;
}

/* Arenas and scratch, on a host. */
static uint64_t computing_bytes(const flux1_context *c, const mesh_device *d, const size_t *arenas, const stage_plan *p)
{
    uint64_t bytes = 0;
    for (int r = 0; d->device->info.memory == 0 && r < mesh_ranks(context_mesh(c, d)); r++)
        bytes += arenas[r] + p->scratch[r];
    return bytes;
}

/* What sessions that nobody uses have left of their last stages is in no plan: it stays where there is room for all of
 * it, and is given back otherwise. */
static flux1_status rest_unused(flux1_context *c, const session *s, const memory_need *n, uint64_t *stays)
{
    uint64_t all = 0;
    *stays = 0;
    for (const session *o = c->sessions; o; o = o->next)
        all += o == s || o->busy ? 0 : o->touched;
    if (n->device || all == 0)
        return FLUX1_OK;
    if (memory_has_room(c, n, all)) {
        *stays = all;
        return FLUX1_OK;
    }
    size_t *none = calloc((size_t)mesh_ranks(&c->mesh), sizeof *none);
    flux1_status st = none ? FLUX1_OK : error_oom(&c->error, 0, "the plan");
    for (session *o = c->sessions; st == FLUX1_OK && o; o = o->next)
        if (o != s && !o->busy && o->touched > 0) {
            st = session_reserve(c, o, none, none);
            o->touched = 0;
        }
    free(none);
    return st;
}

/* Where the weights of all do not stay beside this stage, those of open samplers leave. */
static void lower_samplers(flux1_context *c, const memory_need *n, const stage_plan *p)
{
    const uint64_t all = n->all + mapped_by_samplers(c);
    for (memory_hold *h = n->device || all <= room_for_weights(c, n) ? NULL : c->holds; h; h = h->next)
        if (h->beside != p) { /* its own decoder has room beside it */
            h->lowered = true;
            memory_hold_rest(h);
        }
}

flux1_status memory_reserve(flux1_context *c, session *s, const stage_plan *p, const stage_plan *beside,
                            const size_t *reserve)
{
    TRY(keep_texts_that_fit(c, s->device, p, beside));
    const memory_need n = memory_of(c, s->device, p, beside);
    uint64_t unused;
    TRY(rest_unused(c, s, &n, &unused));
    size_t *share = calloc((size_t)mesh_ranks(context_mesh(c, s->device)), sizeof *share);
    if (!share)
        return error_oom(&c->error, 0, "the plan");
    share_out(c, s->device, p, beside, share);
    keep_what_fits(c, s->device, &n);
    lower_samplers(c, &n, p);
    if (!reserve || !all_may_stay(c, s->device, &n, p, reserve, unused))
        reserve = p->arena;
    s->touched = computing_bytes(c, s->device, reserve, p);
    const flux1_status st = session_reserve(c, s, reserve, share);
    free(share);
    return st;
}

void memory_tell(flux1_context *c, const mesh_device *d, const char *doing, const stage_plan *p,
                 const stage_plan *beside)
{
    const memory_need n = memory_of(c, d, p, beside);
    char peak[BYTES_TEXT], all[BYTES_TEXT], part[BYTES_TEXT];
    if (!memory_streams(c, &n))
        return;
    format_bytes(peak, sizeof peak, (double)memory_peak(c, &n));
    format_bytes(all, sizeof all, (double)n.all);
    format_bytes(part, sizeof part, (double)weights_at_once(c, &n));
    context_log(c, FLUX1_LOG_INFO,
                "memory: %s takes %s at most; of %s of mapped weights %s are in memory at a time, the others are "
                "read when they are needed",
                doing, peak, all, part);
}
