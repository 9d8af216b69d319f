/* Blocks: made ready, held between begin and end, and listed for the stream. What of a block has a form of its own
 * (forms.h) is a block of the device's kept weights, made when any block is first begun, and found again by the next
 * backend. The packed form is used where a device was given it (kept_adopt), and never made in memory for itself: then
 * it would take memory that cannot be had back, while the file's pages can. A form that was lent is streamed as the
 * file's own pages are: read ahead, and given back where memory is short. */
#include "ops/cpu/forms.h"

#include "base/checked.h"
#include "base/file_map.h"
#include "base/large.h"
#include "base/units.h"
#include "ops/int8.h"
#include "tensor/scale.h"

#include <stdlib.h>
#include <string.h>

/* Version of forms.c: part of a block's key, so that what an older flux1 has cached is not taken. */
enum { CPU_LAYOUT = 1 };

/* ---- memory of kept weights ---- */

static bool take(void *device, size_t bytes, uint64_t *data)
{
    void *p = bytes >= LARGE_FROM ? large_alloc(bytes) : aligned_alloc(ARENA_ALIGN, size_round_up(bytes, ARENA_ALIGN));
    (void)device;
    *data = (uint64_t)(uintptr_t)p;
    return p != NULL;
}

static void give_back(void *device, uint64_t data, size_t bytes)
{
    (void)device;
    large_free((void *)(uintptr_t)data, bytes);
}

const kept_memory cpu_kept_memory = {take, give_back};

/* ---- blocks ---- */

flux1_status cpu_block_create(ops *base, const char *name, block **out)
{
    cpu_ops *o = cpu_self(base);
    cpu_block *b = calloc(1, sizeof *b);
    if (!b || !(b->head.name = strdup(name))) {
        free(b);
        return error_oom(base->err, sizeof *b, "a weight block");
    }
    kept_key(b->key, "cpu", CPU_LAYOUT, 0);
    *o->last_block = b;
    o->last_block = &b->next;
    *out = &b->head;
    return FLUX1_OK;
}

/* The stream learns of the blocks again when one is begun. */
static void unlist(cpu_ops *o)
{
    if (o->listed)
        stream_take(&o->stream, NULL);
    o->listed = false;
}

static bool is_lent(const cpu_block *b) { return b->kept && b->kept->release; }

/* Its own forms are no longer the block's. Pages of a lent one leave this process's memory, as the files' do. */
static void let_go(cpu_ops *o, cpu_block *b)
{
    unlist(o);
    if (is_lent(b) && b->kept->file)
        file_map_wont_need(cpu_kept_data(b->kept), b->kept->bytes);
    if (b->own)
        kept_uncount(o->kept, b->kept);
    kept_leave(o->kept, b->kept);
    o->own -= b->own;
    b->own = 0;
    b->kept = NULL;
    b->ready = false;
}

static void free_block(cpu_ops *o, cpu_block *b)
{
    let_go(o, b);
    for (cpu_weight *w = b->weights, *next; w; w = next) {
        next = w->next;
        free(w);
    }
    free(b->ranges);
    free(b->head.name);
    free(b);
}

void cpu_blocks_free(cpu_ops *o)
{
    for (cpu_block *b = o->blocks, *next; b; b = next) {
        next = b->next;
        free_block(o, b);
    }
}

void cpu_block_destroy(ops *base, block *head)
{
    cpu_ops *o = cpu_self(base);
    cpu_block **at = &o->blocks, *b = (cpu_block *)head;
    if (!b)
        return;
    while (*at != b)
        at = &(*at)->next;
    *at = b->next;
    if (!*at)
        o->last_block = at;
    free_block(o, b);
}

/* All blocks': around a fault the kernel may map 2 MiB, so that a weight's pages are those of its neighbours too. */
static void let_all_pages_go(const cpu_ops *o)
{
    file_map_range unneeded = {0};
    for (const cpu_block *b = o->blocks; b; b = b->next)
        for (const cpu_weight *w = b->weights; w; w = w->next) {
            cpu_gather_pages(&w->recipe, &unneeded);
            if (w->head.has_bias)
                cpu_gather_pages(&w->bias_recipe, &unneeded);
        }
    file_map_gathered(&unneeded);
}

/* Where memory is short, the arena's pages are given back too. */
static void rest_arena(cpu_ops *o)
{
    if (!stream_is_limited(&o->stream))
        return;
    record_drop(&o->head); /* it lies there */
    arena_rest(&o->memory);
}

void cpu_rest(ops *base)
{
    cpu_ops *o = cpu_self(base);
    stream_tell(&o->stream);
    rest_arena(o);
    for (cpu_block *b = o->blocks; b; b = b->next)
        let_go(o, b);
    let_all_pages_go(o);
}

void cpu_weights_budget(ops *o, size_t bytes)
{
    cpu_self(o)->budget = bytes;
    stream_budget(&cpu_self(o)->stream, bytes);
}

void cpu_blocks_unwind(cpu_ops *o)
{
    for (cpu_block *b = o->blocks; b; b = b->next)
        b->head.held = false;
    unlist(o);
}

static void packed_key(const cpu_block *b, uint64_t key[2])
{
    memcpy(key, b->key, sizeof b->key);
    if (b->slices)
        kept_key_add(key, b->slices);
}

void cpu_block_key(ops *o, const block *b, uint64_t key[2], size_t *bytes)
{
    const cpu_block *mine = (const cpu_block *)b;
    (void)o;
    packed_key(mine, key);
    *bytes = mine->bytes + mine->slices;
}

/* ---- weights ---- */

flux1_status cpu_prepare(ops *o, block *b, const weight_recipe *r, const weight_recipe *bias, weight **out)
{
    cpu_block *into = (cpu_block *)b;
    cpu_weight *w = calloc(1, sizeof *w);
    if (!w)
        return error_oom(o->err, sizeof *w, "a weight");
    w->head = (weight){
        .role = r->role, .rows = r->rows, .cols = r->cols, .kernel = r->kernel, .has_bias = bias != NULL, .owner = b};
    w->head.file_bytes = recipe_bytes(r) + (bias ? recipe_bytes(bias) : 0);
    w->next = into->weights;
    into->weights = w; /* freed with the block, also if what follows fails */
    w->recipe = *r;
    if (bias)
        w->bias_recipe = *bias;
    let_go(cpu_self(o), into); /* it has another key now */
    TRY(cpu_form_lay_out(w, into, cpu_self(o), o->err));
    if (w->head.int8 && w->own)
        kept_key_add(into->key, (uint64_t)int8_group(w->head.int8));
    else if (cpu_is_computed(r))
        kept_key_add(into->key, cpu_form_type(r, cpu_self(o)->bf16));
    kept_key_recipe(into->key, r);
    if (bias)
        kept_key_recipe(into->key, bias);
    *out = &w->head;
    return FLUX1_OK;
}

flux1_status cpu_block_export(ops *o, block *head, void *out)
{
    const cpu_block *b = (const cpu_block *)head;
    memset(out, 0, b->bytes + b->slices); /* what lies between weights */
    TRY(cpu_forms_fill(cpu_self(o), b, out));
    for (const cpu_weight *w = b->weights; w; w = w->next)
        if (w->sliced)
            TRY(cpu_form_pack_slice(w, (unsigned char *)out + b->bytes + w->at, o->err));
    let_all_pages_go(cpu_self(o));
    return FLUX1_OK;
}

static flux1_status refuse_own(const cpu_ops *o, const cpu_block *b)
{
    char form[BYTES_TEXT], all[BYTES_TEXT];
    return error_set(
        o->head.err, FLUX1_ERR_LIMIT,
        "%s: its prepared weights (%s) are not in the cache on disk, and in memory they do not fit into the "
        "%s that the limit leaves for weights; make room in the cache, or raise the limit",
        b->head.name, format_bytes(form, sizeof form, (double)b->own),
        format_bytes(all, sizeof all, (double)o->budget));
}

/* A form that was to be pages of a file takes memory of the same budget, of the first rank that has it; whether there
 * is enough is seen before it is made. */
static flux1_status count_own(cpu_ops *o, cpu_block *b)
{
    if (!o->forms_in_files || !b->head.filed || is_lent(b) || !kept_count(o->kept, b->kept))
        return FLUX1_OK;
    o->own += b->bytes;
    b->own = b->bytes;
    return o->own <= o->budget ? FLUX1_OK : refuse_own(o, b);
}

static flux1_status make_form(cpu_ops *o, cpu_block *b)
{
    TRY(kept_take(o->kept, b->key, b->bytes, &b->kept, o->head.err));
    if (!b->kept)
        return error_oom(o->head.err, b->bytes, "a block of weights");
    TRY(count_own(o, b));
    if (b->kept->whole)
        return FLUX1_OK;
    TRY(cpu_forms_fill(o, b, cpu_kept_data(b->kept)));
    kept_whole(o->kept, b->kept);
    return FLUX1_OK;
}

static flux1_status make_ready(cpu_ops *o, cpu_block *b)
{
    flux1_status st = FLUX1_OK;
    uint64_t packed[2];
    packed_key(b, packed);
    if (b->slices)
        b->kept = kept_find(o->kept, packed);
    b->packed = b->kept != NULL;
    if (!b->kept && b->bytes > 0)
        st = make_form(o, b);
    if (st == FLUX1_OK)
        cpu_forms_point(b, b->kept ? cpu_kept_data(b->kept) : NULL, o->bf16);
    else
        let_go(o, b);
    b->ready = st == FLUX1_OK;
    return st;
}

/* ---- the bracket ---- */

static stream_range range_of(const matrix_piece *p)
{
    const unsigned char *data = p->packed ? p->packed->data : p->data;
    const dtype_info *info = dtype_describe(p->type);
    const int64_t count = p->rows > 0 ? (p->rows - 1) * p->ld + p->cols : 0,
                  begin = p->packed ? p->first / info->block_elements : 0,
                  end = p->packed ? i64_ceil_div(p->first + count, info->block_elements) : count;
    return (stream_range){.bytes = data + begin * info->block_bytes,
                          .count = data && count > 0 ? (size_t)((end - begin) * info->block_bytes) : 0};
}

/* Among the model's own bytes, not in the block's form. Of a table a few rows are read. */
static bool is_streamed(const cpu_block *b, const cpu_weight *w)
{
    return !w->own && !(w->sliced && b->packed) && w->head.role != WEIGHT_TABLE;
}

/* Whole row ranges: a rank's columns lie in the same pages anyway. Of columns beside each other (proj_out's [attention
 * | mlp]) that is twice the same range, or nearly, which counts once. */
static bool add_range(cpu_block *b, const stream_range *r)
{
    stream_block *m = &b->mapped;
    stream_range *last = m->ranges ? &b->ranges[m->ranges - 1] : NULL;
    if (!last || r->bytes >= last->bytes + last->count || last->bytes >= r->bytes + r->count) {
        b->ranges[m->ranges++] = *r;
        m->bytes += r->count;
        return false;
    }
    const unsigned char *end = last->bytes + last->count, *other = r->bytes + r->count;
    m->bytes -= last->count;
    last->bytes = r->bytes < last->bytes ? r->bytes : last->bytes;
    last->count = (size_t)((other > end ? other : end) - last->bytes);
    m->bytes += last->count;
    return true;
}

/* The scales that lie elsewhere in the file; no bytes where it has none that count. */
static stream_range range_of_scales(const matrix_piece *p)
{
    stream_range r = {0};
    if (p->packed && p->rows > 0)
        r.count = tensor_scale_beside(p->packed->scale, p->first, (p->rows - 1) * p->ld + p->cols, &r.bytes);
    return r;
}

static void add_weight(cpu_block *b, const cpu_weight *w, stream_range (*range)(const matrix_piece *))
{
    int64_t cols = 0; /* of the range so far */
    for (int i = 0; i < w->m.count; i++) {
        const matrix_piece *p = &w->m.piece[i];
        stream_range r = range(p);
        if (!r.count)
            continue;
        r.file = w->recipe.piece[i].source->content;
        cols = (add_range(b, &r) ? cols : 0) + p->cols;
        b->ranges[b->mapped.ranges - 1].dense = cols == p->ld;
    }
}

/* A form that was lent is read whole. */
static void add_form(cpu_block *b)
{
    const stream_range r = {
        .bytes = cpu_kept_data(b->kept), .count = b->kept->bytes, .dense = true, .file = b->kept->file};
    add_range(b, &r);
}

static flux1_status list_ranges(cpu_block *b, flux1_error *err)
{
    int count = is_lent(b) ? 1 : 0;
    for (const cpu_weight *w = b->weights; w; w = w->next)
        count += is_streamed(b, w) ? 2 * w->m.count : 0;
    if (count > b->room) {
        stream_range *more = calloc((size_t)count, sizeof *more);
        if (!more)
            return error_oom(err, 0, "a block of weights");
        free(b->ranges);
        b->ranges = more;
        b->room = count;
    }
    b->mapped = (stream_block){.range = b->ranges};
    if (is_lent(b))
        add_form(b);
    for (const cpu_weight *w = b->weights; w; w = w->next)
        if (is_streamed(b, w)) {
            add_weight(b, w, range_of);
            add_weight(b, w, range_of_scales);
        }
    return FLUX1_OK;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* Beside own forms two blocks are in memory, whatever the limit: one is read while the one before is used. The first of
 * a step comes behind the last. */
static flux1_status check_own(const cpu_ops *o)
{
    const cpu_block *first = NULL, *before = NULL, *own = NULL;
    size_t two = 0;
    for (const cpu_block *b = o->blocks; b; b = b->next) {
        if (b->own)
            own = b;
        if (b->head.idle)
            continue;
        first = first ? first : b;
        two = larger(two, b->mapped.bytes + (before ? before->mapped.bytes : 0));
        before = b;
    }
    if (before != first)
        two = larger(two, before->mapped.bytes + first->mapped.bytes);
    return !own || (o->own <= o->budget && two <= o->budget - o->own) ? FLUX1_OK : refuse_own(o, own);
}

/* All of a stage at once: the block that is begun first comes before a model's steps, and those take no memory. */
static flux1_status make_all_ready(cpu_ops *o)
{
    unlist(o); /* nothing is read while the ranges are listed again */
    stream_block *first = NULL, **last = &first;
    bool made = false;
    for (cpu_block *b = o->blocks; b; b = b->next)
        if (!b->ready && !b->head.idle) {
            TRY(make_ready(o, b));
            made = true;
        }
    if (made) /* vectors and biases were read, and what lies around them in the file came along */
        let_all_pages_go(o);
    for (cpu_block *b = o->blocks; b; b = b->next) {
        if (b->head.idle)
            continue;
        TRY(list_ranges(b, o->head.err));
        *last = &b->mapped;
        last = &b->mapped.next;
    }
    TRY(check_own(o));
    if (o->own > 0)
        stream_budget(&o->stream, o->budget - o->own);
    stream_take(&o->stream, first);
    o->listed = true;
    return FLUX1_OK;
}

flux1_status cpu_block_begin(ops *base, block *b)
{
    cpu_ops *o = cpu_self(base);
    cpu_block *mine = (cpu_block *)b;
    TRY(ops_begin(base, "block_begin", NULL));
    const bool idle = b->idle; /* and so not among the blocks that are listed */
    b->idle = false;
    if (idle || !mine->ready || !o->listed)
        TRY(make_all_ready(o));
    b->held = true;
    stream_begin(&o->stream, &mine->mapped);
    return FLUX1_OK;
}

flux1_status cpu_block_end(ops *o, block *b)
{
    b->held = false;
    stream_end(&cpu_self(o)->stream, &((cpu_block *)b)->mapped);
    return FLUX1_OK;
}
