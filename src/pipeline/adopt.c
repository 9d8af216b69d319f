#include "pipeline/adopt.h"

#include "base/arena.h"

#include <stdlib.h>
#include <time.h>

/* The blocks that have a form other than the file's. */
typedef struct forms {
    block **block;
    prepared_block *wanted;
    size_t count, largest; /* bytes */
} forms;

static void forms_free(forms *all)
{
    free(all->block);
    free(all->wanted);
}

static flux1_status find_forms(ops_device *d, ops *o, block *const *b, size_t count, forms *out)
{
    size_t room = count ? count : 1;
    *out = (forms){.block = calloc(room, sizeof *out->block), .wanted = calloc(room, sizeof *out->wanted)};
    if (!out->block || !out->wanted)
        return error_oom(o->err, room * sizeof *out->wanted, "a model's blocks");
    for (size_t i = 0; i < count; i++) {
        prepared_block *w = &out->wanted[out->count];
        size_t bytes;
        d->kind->block_key(o, b[i], w->key, &bytes);
        if (bytes == 0)
            continue;
        w->bytes = bytes;
        out->largest = bytes > out->largest ? bytes : out->largest;
        out->block[out->count++] = b[i];
    }
    return FLUX1_OK;
}

/* ---- making ---- */

static bool is_cancelled(const ops *o) { return o->cancel && atomic_load_explicit(o->cancel, memory_order_relaxed); }

/* Of a file that was cut meanwhile zeros may have been read. */
static flux1_status check_files(const loader *l)
{
    TRY(store_check_files(l->s, l->m->err));
    for (int i = 0; i < l->use_count; i++)
        TRY(store_check_files(l->uses[i].file->store, l->m->err));
    return FLUX1_OK;
}

/* False in *whole: the entry was given up, which is no failure of the run. */
static flux1_status make_forms(ops_device *d, const loader *l, const forms *all, prepared_writer *w, bool *whole)
{
    ops *o = l->m->o;
    flux1_status st = FLUX1_OK;
    arena memory; /* no malloc's, which keeps what it gets back of a few MiB */
    void *form = NULL;
    if (arena_create(all->largest, &memory, NULL) == FLUX1_OK)
        (void)arena_alloc(&memory, all->largest, &form, NULL);
    *whole = form != NULL;
    for (size_t i = 0; *whole && i < all->count; i++) {
        if (is_cancelled(o))
            st = error_set(o->err, FLUX1_ERR_CANCELLED, "cancelled");
        if (st == FLUX1_OK)
            st = d->kind->block_export(o, all->block[i], form);
        if (st == FLUX1_OK && i + 1 == all->count) /* without the last block there is no entry */
            st = check_files(l);
        *whole = st == FLUX1_OK && prepared_add(w, i, form);
    }
    arena_destroy(&memory);
    if (st == FLUX1_ERR_MEMORY) { /* a form that cannot be made for the cache may still be streamed */
        error_clear(o->err);
        st = FLUX1_OK;
    }
    return st;
}

/* Makes and stores an entry. *found: that one, or one that another process has stored meanwhile. */
static flux1_status build(prepared_folder *f, ops_device *d, const loader *l, const forms *all, const char *description,
                          prepared_entry **found, bool *busy)
{
    bool there, whole;
    flux1_status st = FLUX1_OK;
    prepared_writer *w = prepared_begin(f, all->wanted, all->count, description, &there, busy);
    if (w) {
        st = make_forms(d, l, all, w, &whole);
        there = prepared_end(w, whole);
    }
    if (there)
        *found = prepared_find(f, all->wanted, all->count, true);
    return st;
}

/* The entry, found or made. While another rank makes the same one (sp's have the same weights), or another process,
 * that is waited for on a device that computes in the host's memory: there the plan counts on forms in files. */
static flux1_status find_or_build(prepared_folder *f, ops_device *d, const loader *l, const forms *all,
                                  const char *description, prepared_entry **found)
{
    ops *o = l->m->o;
    bool busy;
    while (!(*found = prepared_find(f, all->wanted, all->count, true))) {
        TRY(build(f, d, l, all, description, found, &busy));
        if (*found || !busy || !d->kind->weights_budget)
            break;
        if (is_cancelled(o))
            return error_set(o->err, FLUX1_ERR_CANCELLED, "cancelled");
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    return FLUX1_OK;
}

/* ---- adopting ---- */

static void release_entry(void *entry) { prepared_leave(entry); }

/* As many as there is room for; the others are prepared when they are begun. */
static flux1_status adopt_all(ops_device *d, ops *o, const forms *all, prepared_entry *e, adopted *out)
{
    flux1_status st = FLUX1_OK;
    if (!(out->loan = calloc(all->count, sizeof *out->loan)))
        return error_oom(o->err, all->count * sizeof *out->loan, "a model's prepared weights");
    out->device = d;
    prepared_hold(e);
    out->entry = e;
    for (size_t i = 0; st == FLUX1_OK && i < all->count; i++) {
        const prepared_block *w = &all->wanted[i];
        prepared_hold(e);
        st = d->kind->kept_adopt(d, w->key,
                                 &(ops_lent){.bytes = prepared_data(e, i),
                                             .count = (size_t)w->bytes,
                                             .file = true,
                                             .release = release_entry,
                                             .owner = e},
                                 &out->loan[out->count], o->err);
        out->count += st == FLUX1_OK;
    }
    if (st == FLUX1_ERR_MEMORY) {
        error_clear(o->err);
        st = FLUX1_OK;
    }
    return st;
}

flux1_status adopt_blocks(prepared_folder *f, ops_device *d, const loader *l, const char *description, adopted *out)
{
    ops *o = l->m->o;
    flux1_status st = FLUX1_OK;
    forms all = {0};
    prepared_entry *e = NULL;
    *out = (adopted){0};
    if (!d->kind->block_key)
        return FLUX1_OK;
    TRY_CLEANUP(find_forms(d, o, l->made->block, l->made->count, &all));
    if (all.count == 0)
        goto cleanup;
    TRY_CLEANUP(find_or_build(f, d, l, &all, description, &e));
    if (e)
        st = adopt_all(d, o, &all, e, out);
cleanup:
    if (e)
        prepared_leave(e);
    forms_free(&all);
    if (st != FLUX1_OK)
        adopted_end(out);
    return st;
}

flux1_status adopted_intact(const adopted *a, flux1_error *err)
{
    return a->entry ? prepared_intact(a->entry, err) : FLUX1_OK;
}

void adopted_end(adopted *a)
{
    for (size_t i = 0; i < a->count; i++)
        a->device->kind->kept_reclaim(a->device, a->loan[i]);
    free(a->loan);
    if (a->entry)
        prepared_leave(a->entry);
    *a = (adopted){0};
}
