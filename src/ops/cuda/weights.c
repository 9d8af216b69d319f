/* Blocks of weights on the GPU. A block is one piece of memory, filled when it is first begun, and kept for good if
 * there is room: the next backend that wants the same finds it by key (kept.c). Where there is none, blocks are
 * streamed through a few slots, the next one being copied while one is used. So of a model that does not fit as much
 * stays as there is room for; which blocks those are is decided one by one, in the order in which they are begun.
 *
 * Weights that a file has packed have two forms (ops_held). With HELD_AUTO a model's blocks begin decoded and become
 * packed, all of them and for good, in the first stage in which they would not fit otherwise.
 *
 * A backend has the blocks of several models, one of which is at work between two rests. Its blocks hold memory only
 * until the next rest: after that they are found again where they lie, unless somebody wanted the memory. */
#include "ops/cuda/cuda.h"

#include "base/checked.h"
#include "ops/kept.h"

#include <stdlib.h>
#include <string.h>

enum { SLOTS = 3 };

typedef struct cuda_block {
    block head;
    cuda_weight *weights, **last;
    size_t bytes;
    uint64_t key[2];
    bool packed, packs;       /* its weights lie packed where they can; one of them can */
    uint64_t keys[2][2];      /* decoded, packed: `key` is one of them */
    cuda_kept *kept;          /* held: it has a place of its own */
    int slot;                 /* streamed: where it lies, or −1 */
    unsigned long stage;      /* in which it was begun last; 0: never */
    struct cuda_block *after; /* begun behind it, the last time */
    struct cuda_block *next;  /* in creation order */
} cuda_block;

typedef struct slot {
    cuda_kept *kept; /* under a key of its own, so that its memory can be wanted while the backend rests */
    uint64_t key[2];
    cuda_block *holds;
    CUevent loaded, done; /* done: the compute stream is through with what it holds */
} slot;

struct cuda_blocks {
    cuda_block *first, **last;
    unsigned long stage; /* counts rests, from 1 */
    bool started;        /* a block has been begun in this stage */
    cuda_block *before;  /* begun last */
    slot slot[SLOTS];
    int next_slot;
    cuda_uses *uses; /* who wants to know what is begun; or NULL */
};

/* ---- creation ---- */

flux1_status cuda_blocks_create(cuda_ops *o)
{
    struct cuda_blocks *all = calloc(1, sizeof *all);
    if (!all)
        return error_oom(o->head.err, sizeof *all, "the weights' blocks");
    o->blocks = all;
    all->last = &all->first;
    all->stage = 1;
    for (int i = 0; i < SLOTS; i++) {
        all->slot[i].key[0] = (uint64_t)(uintptr_t)&all->slot[i];
        all->slot[i].key[1] = 0xA0761D6478BD642Fu;
    }
    return FLUX1_OK;
}

static void free_block(cuda_ops *o, cuda_block *b)
{
    cuda_kept_drop(o->device, b->kept);
    for (cuda_weight *w = b->weights, *next; w; w = next) {
        next = w->next;
        free(w);
    }
    free(b->head.name);
    free(b);
}

void cuda_blocks_free(cuda_ops *o)
{
    struct cuda_blocks *all = o->blocks;
    if (!all)
        return;
    for (cuda_block *b = all->first, *next; b; b = next) {
        next = b->next;
        free_block(o, b);
    }
    for (int i = 0; i < SLOTS; i++) {
        slot *s = &all->slot[i];
        cuda_kept_drop(o->device, s->kept);
        cuda_kept_forget(o->device, s->key);
        if (s->loaded)
            o->lib->cuEventDestroy(s->loaded);
        if (s->done)
            o->lib->cuEventDestroy(s->done);
    }
    free(all);
    o->blocks = NULL;
}

/* ---- what a block is made of ---- */

static size_t place(size_t *end, int64_t count, size_t element)
{
    size_t at = *end;
    *end += size_round_up((size_t)count * element, CUDA_ALIGN);
    return at;
}

/* What forms follow from. */
typedef struct forms {
    bool bf16, fp8, scales_rows, packed;
} forms;

/* Type and places of a weight's parts behind *end, which moves on. Its recipes are in it. */
static void lay_out(cuda_weight *w, const weight_recipe *r, const weight_recipe *bias, forms f, size_t *end)
{
    w->bf16 = f.bf16 && r->role != WEIGHT_VECTOR;
    w->e4m3 = f.fp8 && r->coarse && r->rows > 0 && r->cols > 0;
    w->at = *end;
    const size_t element = w->e4m3 ? 1 : w->bf16 ? 2 : 4;
    w->packed = f.packed && !w->e4m3 && cuda_packs(r, (size_t)(r->rows * r->cols) * element);
    if (w->packed)
        *end += cuda_packed_place(r, w);
    else
        place(end, r->rows * r->cols, element);
    if (w->e4m3)
        w->scales_at = place(end, f.scales_rows ? r->rows : 1, sizeof(float));
    if (bias)
        w->bias_at = place(end, bias->rows, 4);
    if (bias && f.bf16)
        w->bias_bf16_at = place(end, bias->rows, 2);
}

size_t cuda_weight_bytes(const ops_config *c, const weight_recipe *r, const weight_recipe *bias)
{
    const forms f = {.bf16 = c->arithmetic == DTYPE_BF16,
                     .fp8 = c->fp8 != FP8_NO,
                     .scales_rows = true,
                     .packed = c->held == HELD_PACKED};
    size_t bytes = 0;
    lay_out(&(cuda_weight){0}, r, bias, f, &bytes);
    return bytes;
}

static forms forms_of(const cuda_ops *o, bool packed)
{
    return (forms){.bf16 = o->bf16, .fp8 = o->fp8, .scales_rows = o->scales_rows, .packed = packed};
}

/* The block in one of its two forms, nowhere yet. */
static void take_form(const cuda_ops *o, cuda_block *b, bool packed)
{
    b->packed = packed;
    b->bytes = 0;
    for (cuda_weight *w = b->weights; w; w = w->next)
        lay_out(w, &w->recipe, w->head.has_bias ? &w->bias_recipe : NULL, forms_of(o, packed), &b->bytes);
    memcpy(b->key, b->keys[packed && b->packs], sizeof b->key);
}

/* The block's form and key, with a weight more. */
static void add_weight(const cuda_ops *o, cuda_block *b, cuda_weight *w)
{
    const weight_recipe *bias = w->head.has_bias ? &w->bias_recipe : NULL;
    size_t end = 0;
    lay_out(w, &w->recipe, bias, forms_of(o, true), &end);
    b->packs = b->packs || w->packed;
    for (int i = 0; i < 2; i++) {
        kept_key_recipe(b->keys[i], &w->recipe);
        if (bias)
            kept_key_recipe(b->keys[i], bias);
    }
    *b->last = w;
    b->last = &w->next;
    lay_out(w, &w->recipe, bias, forms_of(o, b->packed), &b->bytes);
    memcpy(b->key, b->keys[b->packed && b->packs], sizeof b->key);
}

flux1_status cuda_block_create(ops *base, const char *name, block **out)
{
    enum { FORM = 2 }; /* of a block's memory: another number where its layout changes */
    const cuda_ops *o = cuda_self(base);
    struct cuda_blocks *all = o->blocks;
    cuda_block *b = calloc(1, sizeof *b);
    if (!b || !(b->head.name = strdup(name))) {
        free(b);
        return error_oom(base->err, sizeof *b, "a weight block");
    }
    b->last = &b->weights;
    b->slot = -1;
    b->packed = o->held == HELD_PACKED;
    for (uint64_t packed = 0; packed < 2; packed++)
        kept_key(b->keys[packed], "cuda", FORM,
                 (uint64_t)o->bf16 | (uint64_t)o->fp8 << 1 | (uint64_t)o->scales_rows << 2 | packed << 3);
    take_form(o, b, b->packed);
    *all->last = b;
    all->last = &b->next;
    *out = &b->head;
    return FLUX1_OK;
}

void cuda_block_free(cuda_ops *o, block *head)
{
    struct cuda_blocks *all = o->blocks;
    cuda_block *b = (cuda_block *)head, **at = &all->first;
    while (*at != b)
        at = &(*at)->next;
    *at = b->next;
    if (!*at)
        all->last = at;
    for (cuda_block *k = all->first; k; k = k->next)
        if (k->after == b)
            k->after = NULL;
    if (all->before == b)
        all->before = NULL;
    for (int i = 0; i < SLOTS; i++)
        if (all->slot[i].holds == b)
            all->slot[i].holds = NULL;
    free_block(o, b);
}

flux1_status cuda_prepare(ops *base, block *into, const weight_recipe *r, const weight_recipe *bias, weight **out)
{
    cuda_weight *w = calloc(1, sizeof *w);
    if (!w)
        return error_oom(base->err, sizeof *w, "a weight");
    w->head = (weight){.role = r->role,
                       .rows = r->rows,
                       .cols = r->cols,
                       .kernel = r->kernel,
                       .has_bias = bias != NULL,
                       .file_bytes = recipe_bytes(r) + (bias ? recipe_bytes(bias) : 0),
                       .owner = into};
    w->recipe = *r;
    if (bias)
        w->bias_recipe = *bias;
    add_weight(cuda_self(base), (cuda_block *)into, w);
    *out = &w->head;
    return FLUX1_OK;
}

static void locate(const cuda_ops *o, cuda_block *b, CUdeviceptr data)
{
    for (cuda_weight *w = b->weights; w; w = w->next) {
        w->memory = data;
        w->data = data + w->at;
        w->scales = w->e4m3 ? data + w->scales_at : 0;
        w->bias = w->head.has_bias ? data + w->bias_at : 0;
        w->bias_bf16 = w->head.has_bias && o->bf16 ? data + w->bias_bf16_at : 0;
    }
}

static flux1_status copy_block(cuda_ops *o, const cuda_block *b, CUdeviceptr to)
{
    for (const cuda_weight *w = b->weights; w; w = w->next)
        TRY(cuda_upload_weight(o, w, to));
    return FLUX1_OK;
}

/* ---- blocks with a place of their own ---- */

/* Takes hold of a block that is on the device; false if it is not. */
static bool hold(cuda_ops *o, cuda_block *b)
{
    if (!b->kept && (b->kept = cuda_kept_find(o->device, b->key)))
        locate(o, b, b->kept->data);
    return b->kept != NULL;
}

static bool on_device(cuda_ops *o, cuda_block *b)
{
    cuda_kept *found = b->kept ? NULL : cuda_kept_find(o->device, b->key);
    cuda_kept_drop(o->device, found);
    return b->kept || found;
}

/* The form of the blocks that were begun together last (0: never) and are wanted now: packed, if those of them that are
 * not on the device do not fit there otherwise. The others give up their places then. */
static void settle(cuda_ops *o, unsigned long together)
{
    size_t missing = 0, there = cuda_kept_room(o->device);
    if (o->held != HELD_AUTO)
        return;
    for (cuda_block *b = o->blocks->first; b; b = b->next)
        if (b->stage == together && !on_device(o, b))
            missing += b->bytes;
    if (there >= CUDA_SPARE && missing <= there - CUDA_SPARE)
        return;
    for (cuda_block *b = o->blocks->first; b; b = b->next) {
        if (b->stage != together || !b->packs || b->packed || b->head.held || b->slot >= 0)
            continue;
        cuda_kept_drop(o->device, b->kept);
        b->kept = NULL;
        take_form(o, b, true);
    }
}

void cuda_block_key(ops *base, const block *head, uint64_t key[2], size_t *bytes)
{
    cuda_ops *o = cuda_self(base);
    const cuda_block *b = (const cuda_block *)head;
    if (b->packs && b->stage == 0 && !b->kept)
        settle(o, 0);
    key[0] = b->key[0], key[1] = b->key[1];
    *bytes = b->bytes;
}

/* Lets go of the block that comes last of those that were never begun, or, with `begun` too, of all: the earlier ones
 * will be wanted first. False if there is none. */
static bool let_go_of_one(cuda_ops *o, bool begun)
{
    cuda_block *last = NULL;
    for (cuda_block *b = o->blocks->first; b; b = b->next)
        if (b->kept && !b->head.held && (begun || b->stage == 0))
            last = b;
    if (!last)
        return false;
    cuda_kept_drop(o->device, last->kept);
    last->kept = NULL;
    return true;
}

/* A place for b, if it needs none that this model's blocks have; the libraries keep their spare bytes. */
static flux1_status make_place(cuda_ops *o, cuda_block *b)
{
    do
        TRY(cuda_kept_make(o->device, b->key, b->bytes, CUDA_SPARE, &b->kept, o->head.err));
    while (!b->kept && let_go_of_one(o, false));
    return FLUX1_OK;
}

static flux1_status fill_place(cuda_ops *o, cuda_block *b)
{
    flux1_status st = copy_block(o, b, b->kept->data), arrived = cuda_upload_wait(o);
    st = st == FLUX1_OK ? arrived : st;
    if (st == FLUX1_OK) {
        cuda_kept_fill(o->device, b->kept);
        locate(o, b, b->kept->data);
    } else {
        cuda_kept_drop(o->device, b->kept);
        b->kept = NULL;
    }
    return st;
}

static flux1_status begun_late(const cuda_ops *o, const cuda_block *b)
{
    return error_set(o->head.err, FLUX1_ERR_INTERNAL,
                     "block \"%s\" is begun in a step that is recorded, but was not before", b->head.name);
}

/* Uploads a block that is not on the device, if there is room for it. */
static flux1_status upload(cuda_ops *o, cuda_block *b)
{
    flux1_status st = FLUX1_OK;
    if (o->recording)
        return begun_late(o, b);
    pthread_mutex_lock(&o->device->upload_lock);
    if (!hold(o, b)) { /* nobody was faster */
        st = make_place(o, b);
        if (st == FLUX1_OK && b->kept)
            st = fill_place(o, b);
    }
    pthread_mutex_unlock(&o->device->upload_lock);
    return st;
}

flux1_status cuda_block_export(ops *base, block *head, void *out)
{
    cuda_ops *o = cuda_self(base);
    cuda_block *b = (cuda_block *)head;
    TRY(cuda_device_current(o->device, base->err));
    const bool had = b->kept != NULL;
    if (!hold(o, b))
        TRY(upload(o, b));
    if (!b->kept)
        return error_set(base->err, FLUX1_ERR_MEMORY, "device cuda:%d: no room to prepare block \"%s\" (%zu MiB)",
                         o->device->head.ordinal, head->name, b->bytes >> 20);
    flux1_status st = cuda_kept_read(o->device, b->kept, out, base->err);
    if (!had) { /* until it is begun it lies there unused */
        cuda_kept_drop(o->device, b->kept);
        b->kept = NULL;
    }
    return st;
}

/* ---- blocks that are streamed ---- */

static void empty_slots(cuda_ops *o)
{
    for (int i = 0; i < SLOTS; i++) {
        slot *s = &o->blocks->slot[i];
        if (s->holds)
            s->holds->slot = -1;
        s->holds = NULL;
        cuda_kept_drop(o->device, s->kept);
        s->kept = NULL;
    }
}

static size_t largest_block(const struct cuda_blocks *all)
{
    size_t largest = CUDA_ALIGN;
    for (const cuda_block *b = all->first; b; b = b->next)
        if ((b->stage == 0 || b->stage == all->stage) && b->bytes > largest)
            largest = b->bytes;
    return largest;
}

/* Memory of a slot: where nothing else is left, other blocks' places, and then the libraries' spare bytes. */
static flux1_status take_slot(cuda_ops *o, slot *s, size_t bytes)
{
    size_t spare = CUDA_SPARE;
    while (!s->kept) {
        TRY(cuda_kept_make(o->device, s->key, bytes, spare, &s->kept, o->head.err));
        if (s->kept || let_go_of_one(o, true))
            continue;
        if (spare == 0)
            return error_set(
                o->head.err, FLUX1_ERR_MEMORY,
                "device cuda:%d: a block of weights (they are streamed, since all of them do not fit) needs "
                "%zu MiB %d times, and there is less; ask for a smaller picture, end other programs on the "
                "GPU, or use device cpu",
                o->device->head.ordinal, bytes >> 20, SLOTS);
        spare = 0;
    }
    cuda_kept_fill(o->device, s->kept);
    return FLUX1_OK;
}

static flux1_status make_events(cuda_ops *o, slot *s)
{
    if (!s->loaded)
        TRY(cuda_check(&o->head, o->lib->cuEventCreate(&s->loaded, CU_EVENT_DISABLE_TIMING), "cannot make an event"));
    if (!s->done)
        TRY(cuda_check(&o->head, o->lib->cuEventCreate(&s->done, CU_EVENT_DISABLE_TIMING), "cannot make an event"));
    return FLUX1_OK;
}

/* Slots that a block of `bytes` goes into. */
static flux1_status make_slots(cuda_ops *o, size_t bytes)
{
    struct cuda_blocks *all = o->blocks;
    if (all->slot[0].kept && all->slot[SLOTS - 1].kept && all->slot[0].kept->bytes >= bytes)
        return FLUX1_OK;
    bytes = largest_block(all);
    for (int i = 0; i < SLOTS; i++)
        if (all->slot[i].holds && all->slot[i].holds->head.held)
            return error_set(o->head.err, FLUX1_ERR_INTERNAL, "block \"%s\" is held while larger ones are begun",
                             all->slot[i].holds->head.name);
    TRY(cuda_check(&o->head, o->lib->cuStreamSynchronize(o->stream), "the GPU reports a failure"));
    TRY(cuda_upload_wait(o));
    empty_slots(o);
    for (int i = 0; i < SLOTS; i++) {
        slot *s = &all->slot[i];
        TRY(make_events(o, s));
        s->kept = cuda_kept_find(o->device, s->key); /* of the last stage */
        if (s->kept && s->kept->bytes < bytes) {
            cuda_kept_drop(o->device, s->kept);
            s->kept = NULL;
        }
        if (!s->kept)
            cuda_kept_forget(o->device, s->key);
    }
    for (int i = 0; i < SLOTS; i++)
        TRY(take_slot(o, &all->slot[i], bytes));
    return FLUX1_OK;
}

static slot *next_slot(struct cuda_blocks *all)
{
    for (int i = 0; i < SLOTS; i++) {
        slot *s = &all->slot[all->next_slot];
        if (!s->holds || !s->holds->head.held)
            return s;
        all->next_slot = (all->next_slot + 1) % SLOTS;
    }
    return NULL;
}

/* Copies b into the next slot, once the block that lies there has been used. */
static flux1_status fetch(cuda_ops *o, cuda_block *b)
{
    struct cuda_blocks *all = o->blocks;
    TRY(make_slots(o, b->bytes));
    slot *s = next_slot(all);
    if (!s)
        return error_set(o->head.err, FLUX1_ERR_INTERNAL, "block \"%s\" is begun while %d others are held",
                         b->head.name, SLOTS);
    if (s->holds) {
        s->holds->slot = -1;
        TRY(cuda_upload_after(o, s->done));
    }
    s->holds = NULL;
    TRY(copy_block(o, b, s->kept->data));
    TRY(cuda_upload_record(o, s->loaded));
    s->holds = b;
    b->slot = all->next_slot;
    all->next_slot = (all->next_slot + 1) % SLOTS;
    return FLUX1_OK;
}

static flux1_status begin_streamed(cuda_ops *o, cuda_block *b)
{
    if (b->slot < 0)
        TRY(fetch(o, b));
    locate(o, b, o->blocks->slot[b->slot].kept->data);
    return cuda_check(&o->head, o->lib->cuStreamWaitEvent(o->stream, o->blocks->slot[b->slot].loaded, 0),
                      "cannot wait for an event");
}

/* The host has time for the block that comes next; one that may find a place of its own waits until it is begun. */
static flux1_status fetch_ahead(cuda_ops *o, cuda_block *b)
{
    cuda_block *n = b->after ? b->after : b->next;
    if (!n || n->head.held || n->slot >= 0 || (n->stage != 0 && n->stage != o->blocks->stage))
        return FLUX1_OK;
    if (hold(o, n) || cuda_kept_room(o->device) >= n->bytes + CUDA_SPARE)
        return FLUX1_OK;
    return fetch(o, n);
}

/* ---- the bracket ---- */

/* The model at work is the one that `first` belongs to: the blocks that were begun together with it, or where it is new
 * those that never were. They are taken where they lie before anything is allocated, since that may cost a block its
 * place. */
static void start_stage(cuda_ops *o, const cuda_block *first)
{
    struct cuda_blocks *all = o->blocks;
    const unsigned long together = first->stage;
    all->started = true;
    settle(o, together);
    for (cuda_block *b = all->first; b; b = b->next) {
        if (b->stage != together)
            continue;
        hold(o, b);
        b->stage = together ? all->stage : 0;
    }
}

/* The largest of its packed weights, as it is decoded. */
static size_t most_values(const cuda_ops *o, const cuda_block *b)
{
    size_t most = 0;
    for (const cuda_weight *w = b->weights; w; w = w->next)
        most = cuda_packed_values(o, w) > most ? cuda_packed_values(o, w) : most;
    return most;
}

static flux1_status note(cuda_ops *o, cuda_block *b)
{
    cuda_uses *u = o->blocks->uses;
    if (!u)
        return FLUX1_OK;
    u->streamed = u->streamed || !b->kept;
    for (size_t i = 0; i < u->count; i++)
        if (u->use[i].b == &b->head)
            return FLUX1_OK;
    if (u->count == u->room) {
        size_t room = u->room ? 2 * u->room : 64;
        cuda_use *use = realloc(u->use, room * sizeof *use);
        if (!use)
            return error_oom(o->head.err, room * sizeof *use, "a step's blocks");
        u->use = use;
        u->room = room;
    }
    u->use[u->count++] = (cuda_use){&b->head, b->kept ? b->kept->data : 0, most_values(o, b) ? o->decoded : 0};
    return FLUX1_OK;
}

/* Before weights take the memory; for all blocks at once, so that it need not move. */
static flux1_status room_to_decode(cuda_ops *o, const cuda_block *b)
{
    size_t bytes = most_values(o, b);
    if (bytes <= o->decoded_bytes)
        return FLUX1_OK;
    if (o->recording)
        return begun_late(o, b);
    for (const cuda_block *k = o->blocks->first; k; k = k->next)
        bytes = most_values(o, k) > bytes ? most_values(o, k) : bytes;
    return cuda_packed_room(o, bytes);
}

flux1_status cuda_block_begin(ops *base, block *head)
{
    cuda_ops *o = cuda_self(base);
    cuda_block *b = (cuda_block *)head;
    struct cuda_blocks *all = o->blocks;
    TRY(cuda_begin(base, "block_begin", NULL));
    if (head->held)
        return error_set(base->err, FLUX1_ERR_INTERNAL, "block \"%s\" is begun twice", head->name);
    if (!all->started)
        start_stage(o, b);
    b->stage = all->stage;
    if (all->before)
        all->before->after = b;
    all->before = b;
    TRY(room_to_decode(o, b));
    if (b->slot < 0 && !hold(o, b))
        TRY(upload(o, b));
    if (!b->kept)
        TRY(begin_streamed(o, b));
    TRY(note(o, b));
    head->held = true;
    return FLUX1_OK;
}

flux1_status cuda_block_end(ops *base, block *head)
{
    cuda_ops *o = cuda_self(base);
    cuda_block *b = (cuda_block *)head;
    head->held = false;
    if (b->kept || b->slot < 0)
        return FLUX1_OK;
    TRY(cuda_check(base, o->lib->cuEventRecord(o->blocks->slot[b->slot].done, o->stream), "cannot record an event"));
    return fetch_ahead(o, b);
}

/* What was enqueued with a block that was begun and not ended may still read it. */
void cuda_blocks_unwind(cuda_ops *o)
{
    for (cuda_block *b = o->blocks->first; b; b = b->next) {
        if (b->head.held && b->slot >= 0)
            o->lib->cuEventRecord(o->blocks->slot[b->slot].done, o->stream);
        b->head.held = false;
    }
    o->blocks->before = NULL;
}

void cuda_rest(ops *base)
{
    cuda_ops *o = cuda_self(base);
    struct cuda_blocks *all = o->blocks;
    bool streams = false;
    if (cuda_device_current(o->device, NULL) == FLUX1_OK)
        o->lib->cuStreamSynchronize(o->stream); /* whoever takes a block's memory must not find it in use */
    cuda_upload_rest(o);
    for (cuda_block *b = all->first; b; b = b->next) {
        streams = streams || (b->head.held && b->slot >= 0);
        if (b->head.held || !b->kept)
            continue;
        cuda_kept_drop(o->device, b->kept);
        b->kept = NULL;
    }
    if (!streams)
        empty_slots(o);
    all->stage++;
    all->started = false;
    all->before = NULL;
}

void cuda_blocks_watch(cuda_ops *o, cuda_uses *uses) { o->blocks->uses = uses; }

static bool same_places(const cuda_ops *o, const cuda_block *b, const cuda_use *use)
{
    return b->kept->data == use->at && (!use->decoded || use->decoded == o->decoded);
}

bool cuda_blocks_hold(cuda_ops *o, const cuda_uses *uses, bool same_place)
{
    struct cuda_blocks *all = o->blocks;
    for (size_t i = 0; i < uses->count; i++) {
        cuda_block *b = (cuda_block *)uses->use[i].b;
        if (!all->started)
            start_stage(o, b);
        if (!hold(o, b) || (same_place && !same_places(o, b, &uses->use[i])))
            return false;
        b->stage = all->stage;
    }
    return true;
}
