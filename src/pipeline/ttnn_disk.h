/* Packed weights of a part in the cache on disk (weights/prepared.h): one entry has all that the worker asks of it, of
 * all ranks. It is read, or written, while an order is carried out: what the worker asks for is read from the entry or
 * packed, and then written to a new one. Nothing here stops a run; the folder has a warning. */
#ifndef FLUX1_PIPELINE_TTNN_DISK_H
#define FLUX1_PIPELINE_TTNN_DISK_H

#include "pipeline/ttnn_pack.h"
#include "weights/prepared.h"

typedef struct ttnn_disk {
    flux1_context *c;
    const flux1_model *model;
    const ttnn_program *program;
    ttnn_part_id part;
    tile_format weights;
    pool *workers;           /* that pack what the worker does not ask for */
    prepared_folder *folder; /* NULL: there is no cache, or the model lies in no files */
    bool looked;             /* it is known what is there */
    prepared_entry *entry;   /* what is read; NULL: there is none */
    prepared_writer *writer; /* what is written; NULL: nothing is */
    ttnn_wish *wish;         /* [count] of the entry, and its blocks */
    prepared_block *block;
    size_t count;
} ttnn_disk;

/* For the part's orders; ttnn_disk_end ends it. With a cache the contents of the part's files are hashed where they are
 * not known (store_hash, whose status it is): that may take a while, once. */
flux1_status ttnn_disk_open(flux1_context *c, const flux1_model *m, const ttnn_program *p, ttnn_part_id part,
                            tile_format weights, pool *workers, ttnn_disk *out);

/* The bytes of an answer, where the entry has them. */
bool ttnn_disk_take(ttnn_disk *d, const ttnn_arrays *a, void *out);

/* The same, after they were packed: for an entry that is being made. */
void ttnn_disk_put(ttnn_disk *d, const ttnn_arrays *a, const void *bytes);

/* Behind the order. `whole`: it went well, and the new entry becomes a whole one: what the worker has not asked for
 * now, since it had it before, is packed too. Otherwise nothing is left of it. */
void ttnn_disk_end(ttnn_disk *d, bool whole);

#endif
