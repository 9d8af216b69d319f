#include "pipeline/ttnn_disk.h"

#include "base/json_write.h"
#include "pipeline/recording_inputs.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- opened ---- */

static store *store_of(const ttnn_disk *d) { return d->model->store[recording_part(ttnn_first_stage(d->part))]; }

/* The content of the part's files, and of those that are merged into them. */
static flux1_status hash_all(const ttnn_disk *d, bool *known)
{
    const atomic_int *cancel = &d->c->cancel;
    const adapter_set *s = &d->program->adapters;
    TRY(store_hash(store_of(d), cancel, known, &d->c->error));
    for (int i = 0; i < s->count && *known; i++)
        TRY(store_hash(s->adapter[i]->file->store, cancel, known, &d->c->error));
    return FLUX1_OK;
}

flux1_status ttnn_disk_open(flux1_context *c, const flux1_model *m, const ttnn_program *p, ttnn_part_id part,
                            tile_format weights, pool *workers, ttnn_disk *out)
{
    bool known = false;
    *out = (ttnn_disk){.c = c, .model = m, .program = p, .part = part, .weights = weights, .workers = workers};
    if (c->cache)
        TRY(hash_all(out, &known));
    out->folder = known ? c->cache : NULL;
    return FLUX1_OK;
}

/* What `flux1 cache list` says about the entry. */
static char *describe(const ttnn_disk *d)
{
    static const char *const parts[] = {
        [TTNN_TEXT_CLIP] = "clip", [TTNN_TEXT_T5] = "t5", [TTNN_DENOISER] = "dit", [TTNN_DECODER] = "vae"};
    json_writer w = {.style = JSON_LINE};
    flux1_error ignored = {0};
    char *out = NULL, slice[48];
    const recording *r = &d->program->r;
    const bool packed = d->part == TTNN_TEXT_T5 || d->part == TTNN_DENOISER;
    snprintf(slice, sizeof slice, "all of sp %d, tp %d", r->mesh.sp, r->mesh.tp);
    json_begin_object(&w, NULL);
    json_put_string(&w, "model", d->model->path);
    json_put_string(&w, "part", parts[d->part]);
    json_put_string(&w, "slice", slice);
    json_put_string(&w, "device", "ttnn");
    json_put_string(&w, "dtype", packed && d->weights == TILE_BFP8 ? "bfp8" : "bf16");
    json_put_integer(&w, "adapters", d->program->adapters.count);
    json_end_object(&w);
    return json_take(&w, "an entry of the cache", &out, &ignored) == FLUX1_OK ? out : NULL;
}

/* ---- what is there ---- */

static flux1_status list_blocks(ttnn_disk *d)
{
    flux1_error ignored = {0};
    for (size_t i = 0; i < d->count; i++) {
        ttnn_arrays a;
        TRY(ttnn_arrays_find(d->program, &d->wish[i], &a, &ignored));
        ttnn_arrays_key(&a, d->block[i].key);
        d->block[i].bytes = a.bytes;
        ttnn_arrays_free(&a);
    }
    return FLUX1_OK;
}

static bool list_wishes(ttnn_disk *d)
{
    d->count = ttnn_wishes(d->program, d->part, d->weights, NULL);
    d->wish = calloc(d->count, sizeof *d->wish);
    d->block = calloc(d->count, sizeof *d->block);
    if (d->count == 0 || !d->wish || !d->block)
        return false;
    ttnn_wishes(d->program, d->part, d->weights, d->wish);
    return list_blocks(d) == FLUX1_OK;
}

/* False: there is none to be begun; *there: another process has just made it. */
static bool begin(ttnn_disk *d, bool *there)
{
    bool busy;
    char *text = describe(d);
    *there = false;
    if (text)
        d->writer = prepared_begin(d->folder, d->block, d->count, text, there, &busy);
    free(text);
    return d->writer != NULL;
}

static void look(ttnn_disk *d)
{
    bool there;
    d->looked = true;
    if (!list_wishes(d) || (d->entry = prepared_find(d->folder, d->block, d->count, false)))
        return;
    if (!begin(d, &there) && there)
        d->entry = prepared_find(d->folder, d->block, d->count, false);
}

/* The number of its block; d->count: it has none, and neither is there a cache. */
static size_t find(ttnn_disk *d, const ttnn_arrays *a)
{
    uint64_t key[2];
    if (!d->folder)
        return d->count;
    if (!d->looked)
        look(d);
    if (!d->entry && !d->writer)
        return d->count;
    ttnn_arrays_key(a, key);
    size_t i = 0;
    while (i < d->count &&
           (d->block[i].key[0] != key[0] || d->block[i].key[1] != key[1] || d->block[i].bytes != a->bytes))
        i++;
    return i;
}

/* ---- read and written ---- */

/* A damaged entry goes, and another takes its place. */
static void replace(ttnn_disk *d, const flux1_error *problem)
{
    bool there;
    prepared_discard(d->folder, d->entry, problem);
    d->entry = NULL;
    begin(d, &there);
}

bool ttnn_disk_take(ttnn_disk *d, const ttnn_arrays *a, void *out)
{
    flux1_error problem = {0};
    const size_t i = find(d, a);
    if (i == d->count || !d->entry)
        return false;
    if (prepared_read(d->entry, i, out, &problem) == FLUX1_OK)
        return true;
    replace(d, &problem);
    return false;
}

void ttnn_disk_put(ttnn_disk *d, const ttnn_arrays *a, const void *bytes)
{
    const size_t i = find(d, a);
    if (i < d->count && d->writer && !prepared_has(d->writer, i))
        prepared_add(d->writer, i, bytes);
}

/* ---- ended ---- */

static flux1_status add_packed(ttnn_disk *d, size_t i, flux1_error *err)
{
    ttnn_arrays a;
    TRY(ttnn_arrays_find(d->program, &d->wish[i], &a, err));
    unsigned char *bytes = malloc(a.bytes);
    flux1_status st =
        bytes ? ttnn_arrays_pack(&a, d->workers, bytes, err) : error_oom(err, a.bytes, "packing a weight");
    if (st == FLUX1_OK && !prepared_add(d->writer, i, bytes))
        st = FLUX1_ERR_IO;
    free(bytes);
    ttnn_arrays_free(&a);
    return st;
}

/* Of a file that was cut meanwhile zeros may have been read. */
static bool files_are_whole(const ttnn_disk *d)
{
    flux1_error ignored = {0};
    const adapter_set *s = &d->program->adapters;
    bool whole = store_check_files(store_of(d), &ignored) == FLUX1_OK;
    for (int i = 0; i < s->count; i++)
        whole = whole && store_check_files(s->adapter[i]->file->store, &ignored) == FLUX1_OK;
    return whole;
}

/* Adds what the worker has not asked for; false: that cannot be done. */
static bool complete(ttnn_disk *d)
{
    flux1_error ignored = {0};
    bool good = true;
    for (size_t i = 0; i < d->count && good; i++)
        good = prepared_has(d->writer, i) ||
               (!atomic_load_explicit(&d->c->cancel, memory_order_relaxed) && add_packed(d, i, &ignored) == FLUX1_OK);
    return good && files_are_whole(d);
}

void ttnn_disk_end(ttnn_disk *d, bool whole)
{
    if (d->writer)
        prepared_end(d->writer, whole && complete(d));
    if (d->entry)
        prepared_leave(d->entry);
    free(d->wish);
    free(d->block);
    *d = (ttnn_disk){0};
}
