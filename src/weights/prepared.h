/* The cache of prepared weights: the forms that a device gave the blocks of a part of a model, for one rank, in a file.
 * They are found again by content (the blocks' keys), also by another process, for a copy of the model, or on another
 * host. prepared_folder.h has the folder, prepared_format.h what is in a file.
 *
 * What goes wrong here never stops a run: the caller prepares the weights itself, and the folder has a warning. All of
 * it may be called from any thread and by any number of processes at once. */
#ifndef FLUX1_WEIGHTS_PREPARED_H
#define FLUX1_WEIGHTS_PREPARED_H

#include "weights/prepared_folder.h"

/* ---- reading ---- */

/* An entry, mapped. It has one user when it comes; the last that leaves it closes it. */
typedef struct prepared_entry prepared_entry;

/* The entry of exactly these blocks (keys and bytes), after all of it was read and its checksums were found right; it
 * counts as used now. NULL: there is none. A damaged one is removed, with a warning. */
prepared_entry *prepared_find(prepared_folder *f, const prepared_block *block, size_t count);

const void *prepared_data(const prepared_entry *e, size_t block); /* aligned to PREPARED_ALIGN */
void prepared_hold(prepared_entry *e);                            /* one user more */
void prepared_leave(prepared_entry *e);                           /* one less */

/* To be asked after the data were used: FLUX1_ERR_IO if the file has become shorter, or could not be read, since it was
 * found. */
flux1_status prepared_intact(const prepared_entry *e, flux1_error *err);

/* Reads a file of the cache and compares its checksums. FLUX1_ERR_FORMAT, naming the file: it is damaged; FLUX1_ERR_IO,
 * FLUX1_ERR_MEMORY. description (may be NULL): malloc'd; also set for an entry whose blocks are damaged, else NULL.
 * With `all` false only the header is read. */
flux1_status prepared_check(const char *folder, const char *name, bool all, char **description, flux1_error *err);

/* ---- writing ---- */

typedef struct prepared_writer prepared_writer;

/* Begins an entry of these blocks. NULL: nothing is to be written, since the entry is there (*there) or another process
 * writes it, or it does not fit (disk, limit), or writing has failed before. */
prepared_writer *prepared_begin(prepared_folder *f, const prepared_block *block, size_t count, const char *description,
                                bool *there);

/* The bytes of block after block, in order; false: the entry is given up (prepared_end is still to be called). */
bool prepared_add(prepared_writer *w, const void *bytes);

/* Ends it: if all blocks were added it appears under its name, on the disk, otherwise nothing is left of it. False:
 * there is no entry. */
bool prepared_end(prepared_writer *w);

#endif
