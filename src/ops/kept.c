#include "ops/kept.h"

#include "base/hash.h"
#include "tensor/scale.h"

#include <pthread.h>
#include <stdlib.h>

struct kept {
    kept_memory memory;
    void *device;
    pthread_mutex_t lock;
    pthread_cond_t filled; /* a block is whole, or was left before it was */
    kept_block *blocks;
    size_t bytes, budget; /* of all blocks; 0: as much as there is */
    ops_kept_limit *limits;
    unsigned long clock;
};

flux1_status kept_create(const kept_memory *m, void *device, kept **out, flux1_error *err)
{
    kept *k = calloc(1, sizeof *k);
    if (!k)
        return error_oom(err, sizeof *k, "the list of kept weights");
    if (pthread_mutex_init(&k->lock, NULL) != 0)
        goto no_lock;
    if (pthread_cond_init(&k->filled, NULL) != 0)
        goto no_condition;
    k->memory = *m;
    k->device = device;
    *out = k;
    return FLUX1_OK;
no_condition:
    pthread_mutex_destroy(&k->lock);
no_lock:
    free(k);
    return error_oom(err, 0, "the lock of the kept weights");
}

static size_t bytes_taken(size_t bytes) { return bytes ? bytes : 1; }

static void drop(kept *k, kept_block **at)
{
    kept_block *b = *at;
    *at = b->next;
    if (b->release) {
        b->release(b->owner);
    } else {
        k->bytes -= b->bytes;
        k->memory.give_back(k->device, b->data, bytes_taken(b->bytes));
    }
    free(b);
}

void kept_destroy(kept *k)
{
    if (!k)
        return;
    while (k->blocks)
        drop(k, &k->blocks);
    pthread_cond_destroy(&k->filled);
    pthread_mutex_destroy(&k->lock);
    free(k);
}

/* Gives back the unused block that was used longest ago; false if there is none. */
static bool drop_oldest(kept *k)
{
    kept_block **oldest = NULL;
    for (kept_block **at = &k->blocks; *at; at = &(*at)->next)
        if ((*at)->users == 0 && (!oldest || (*at)->used < (*oldest)->used))
            oldest = at;
    if (oldest)
        drop(k, oldest);
    return oldest != NULL;
}

static size_t least_budget(const kept *k)
{
    size_t least = k->limits ? k->limits->bytes : k->budget;
    for (const ops_kept_limit *w = k->limits; w; w = w->next)
        least = least < w->bytes ? least : w->bytes;
    return least;
}

/* Down to the budget, with `more` bytes on top. */
static void keep_to_budget(kept *k, size_t more)
{
    const size_t budget = least_budget(k);
    while (budget && (more > budget || k->bytes > budget - more) && drop_oldest(k))
        continue;
}

static bool take_memory(kept *k, size_t bytes, uint64_t *data)
{
    bool taken;
    while (!(taken = k->memory.take(k->device, bytes_taken(bytes), data)) && drop_oldest(k))
        continue;
    return taken;
}

static kept_block **place_of(kept *k, const uint64_t key[2])
{
    kept_block **at = &k->blocks;
    while (*at && ((*at)->key[0] != key[0] || (*at)->key[1] != key[1]))
        at = &(*at)->next;
    return at;
}

static kept_block *used(kept *k, kept_block *b)
{
    b->users++;
    b->used = ++k->clock;
    return b;
}

/* A new block; NULL without a failure where its bytes do not fit. */
static flux1_status add(kept *k, const uint64_t key[2], size_t bytes, kept_block **out, flux1_error *err)
{
    kept_block *b = calloc(1, sizeof *b);
    *out = NULL;
    if (!b)
        return error_oom(err, sizeof *b, "a block of weights");
    keep_to_budget(k, bytes);
    if (!take_memory(k, bytes, &b->data)) {
        free(b);
        return FLUX1_OK;
    }
    b->key[0] = key[0], b->key[1] = key[1];
    b->bytes = bytes;
    b->next = k->blocks;
    k->blocks = b;
    k->bytes += bytes;
    *out = used(k, b);
    return FLUX1_OK;
}

/* The block of that key with one more user, once nobody fills it any more; NULL if there is none. */
static kept_block *settled(kept *k, const uint64_t key[2])
{
    kept_block *b;
    while ((b = *place_of(k, key)) && !b->whole) /* another thread fills it: gone if that fails */
        pthread_cond_wait(&k->filled, &k->lock);
    return b ? used(k, b) : NULL;
}

flux1_status kept_take(kept *k, const uint64_t key[2], size_t bytes, kept_block **out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    pthread_mutex_lock(&k->lock);
    if (!(*out = settled(k, key)))
        st = add(k, key, bytes, out, err);
    pthread_mutex_unlock(&k->lock);
    return st;
}

flux1_status kept_lend(kept *k, const uint64_t key[2], const ops_lent *lent, kept_block **out, flux1_error *err)
{
    kept_block *b = calloc(1, sizeof *b);
    if (b) {
        *b = (kept_block){
            .key = {key[0], key[1]}, .data = (uint64_t)(uintptr_t)lent->bytes, .bytes = lent->count, .whole = true};
        b->release = lent->release;
        b->owner = lent->owner;
        b->file = lent->file;
    }
    pthread_mutex_lock(&k->lock);
    *out = settled(k, key);
    if (b && !*out) {
        b->next = k->blocks;
        k->blocks = b;
        *out = used(k, b);
    }
    pthread_mutex_unlock(&k->lock);
    if (b && *out == b)
        return FLUX1_OK;
    free(b);
    lent->release(lent->owner);
    return *out ? FLUX1_OK : error_oom(err, sizeof *b, "a block of weights");
}

void kept_whole(kept *k, kept_block *b)
{
    pthread_mutex_lock(&k->lock);
    b->whole = true;
    pthread_cond_broadcast(&k->filled);
    pthread_mutex_unlock(&k->lock);
}

void kept_leave(kept *k, kept_block *b)
{
    if (!b)
        return;
    pthread_mutex_lock(&k->lock);
    b->users--;
    if (!b->whole) { /* only who fills it uses it: nobody may take it for weights */
        drop(k, place_of(k, b->key));
        pthread_cond_broadcast(&k->filled);
    } else if (b->release && b->users == 0) {
        drop(k, place_of(k, b->key));
    }
    keep_to_budget(k, 0);
    pthread_mutex_unlock(&k->lock);
}

bool kept_count(kept *k, kept_block *b)
{
    pthread_mutex_lock(&k->lock);
    const bool first = !b->counted;
    b->counted = true;
    pthread_mutex_unlock(&k->lock);
    return first;
}

void kept_uncount(kept *k, kept_block *b)
{
    pthread_mutex_lock(&k->lock);
    b->counted = false;
    pthread_mutex_unlock(&k->lock);
}

kept_block *kept_find(kept *k, const uint64_t key[2])
{
    pthread_mutex_lock(&k->lock);
    kept_block *b = *place_of(k, key);
    b = b && b->whole ? used(k, b) : NULL;
    pthread_mutex_unlock(&k->lock);
    return b;
}

void kept_budget(kept *k, size_t bytes)
{
    pthread_mutex_lock(&k->lock);
    k->budget = bytes;
    keep_to_budget(k, 0);
    pthread_mutex_unlock(&k->lock);
}

void kept_limit(kept *k, ops_kept_limit *w, size_t bytes)
{
    pthread_mutex_lock(&k->lock);
    ops_kept_limit **at = &k->limits;
    while (*at && *at != w)
        at = &(*at)->next;
    if (*at)
        *at = w->next;
    *w = (ops_kept_limit){bytes, k->limits};
    if (bytes)
        k->limits = w;
    keep_to_budget(k, 0);
    pthread_mutex_unlock(&k->lock);
}

/* ---- keys ---- */

/* splitmix64's finisher (Steele, Lea, Flood 2014) over two lanes. */
void kept_key_add(uint64_t key[2], uint64_t value)
{
    for (int i = 0; i < 2; i++) {
        uint64_t z = key[i] ^ (value + 0x9E3779B97F4A7C15u * (uint64_t)(i + 1));
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        key[i] = z ^ (z >> 31);
    }
}

void kept_key(uint64_t key[2], const char *kind, uint64_t layout, uint64_t options)
{
    key[0] = 0x9E3779B97F4A7C15u, key[1] = 0xD1B54A32D192ED03u;
    for (; *kind; kind++)
        kept_key_add(key, (unsigned char)*kind);
    kept_key_add(key, layout);
    kept_key_add(key, options);
}

/* Which bytes a tensor is: of a file with which content, or of which file in which state, and where. One that lies in
 * no file is known by its store and its address. */
static void add_source(uint64_t key[2], const store_tensor *t)
{
    const file_identity *f = &t->source;
    if (t->content && atomic_load_explicit(&t->content->known, memory_order_acquire)) {
        kept_key_add(key, t->content->hash[0]), kept_key_add(key, t->content->hash[1]);
    } else {
        kept_key_add(key, f->device), kept_key_add(key, f->inode), kept_key_add(key, f->size);
        kept_key_add(key, (uint64_t)f->seconds), kept_key_add(key, (uint64_t)f->nanoseconds);
        kept_key_add(key, (uint64_t)f->changed_seconds), kept_key_add(key, (uint64_t)f->changed_nanoseconds);
        if (!f->size)
            kept_key_add(key, t->store), kept_key_add(key, (uint64_t)(uintptr_t)t->view.data);
    }
    kept_key_add(key, t->offset);
}

/* What lies beside the values is small, and may be in another file: it is known by its own bytes. */
static void add_bytes(uint64_t key[2], const tensor *t)
{
    kept_key_add(key, t->type);
    kept_key_add(key, t->data ? hash_bytes(t->data, tensor_bytes(t)) : 0);
}

static void add_scale(uint64_t key[2], const tensor_scale *s)
{
    if (!s)
        return;
    double numbers[2] = {s->constant, s->nested_offset};
    const int64_t places[] = {s->kind, s->row, s->first, s->block, s->nested_block, s->rounded};
    kept_key_add(key, hash_bytes(places, sizeof places));
    kept_key_add(key, hash_bytes(numbers, sizeof numbers));
    kept_key_add(key, hash_bytes(s->code, sizeof s->code));
    const tensor *beside[] = {&s->factor, &s->absmax, &s->nested_code, &s->nested_absmax};
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++)
        add_bytes(key, beside[i]);
}

void kept_key_recipe(uint64_t key[2], const weight_recipe *r)
{
    const uint64_t form[] = {r->role,           (uint64_t)r->kernel, (uint64_t)r->heads, r->coarse,
                             (uint64_t)r->rows, (uint64_t)r->cols,   (uint64_t)r->count};
    for (size_t i = 0; i < sizeof form / sizeof *form; i++)
        kept_key_add(key, form[i]);
    for (int i = 0; i < r->count; i++) {
        const recipe_piece *p = &r->piece[i];
        const tensor *t = &p->source->view;
        const store_sources *from = p->source->computed_from;
        for (size_t k = 0; from && k < from->count; k++) {
            add_source(key, from->tensor[k]);
            add_scale(key, from->tensor[k]->view.scale);
        }
        kept_key_add(key, from ? from->hash : 0);
        add_source(key, p->source);
        add_scale(key, t->scale);
        kept_key_add(key, t->type);
        kept_key_add(key, (uint64_t)t->dims);
        for (int d = 0; d < t->dims; d++)
            kept_key_add(key, (uint64_t)t->shape[d]);
        const int64_t place[] = {p->source_row, p->source_col, p->row, p->col, p->rows, p->cols};
        for (size_t d = 0; d < sizeof place / sizeof *place; d++)
            kept_key_add(key, (uint64_t)place[d]);
    }
}
