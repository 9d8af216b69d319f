/* The cache of prepared weights: the forms that a device gave the blocks of a part of a model, in a file: for one rank,
 * or for all ranks where one process feeds them (Tenstorrent's cards). They are found again by content (the blocks'
 * keys), also by another process, for a copy of the model, or on another host. prepared_folder.h has the folder,
 * prepared_format.h what is in a file.
 *
 * What goes wrong here never stops a run: the caller prepares the weights itself, and the folder has a warning. All of
 * it may be called from any thread and by any number of processes at once. */
#ifndef FLUX1_WEIGHTS_PREPARED_H
#define FLUX1_WEIGHTS_PREPARED_H

#include "weights/prepared_folder.h"

#include <stdatomic.h>

/* ---- reading ---- */

/* An entry, mapped. It has one user when it comes; the last that leaves it closes it. */
typedef struct prepared_entry prepared_entry;

/* The entry of exactly these blocks (keys and bytes); it counts as used now. NULL: there is none. A damaged one is
 * removed, with a warning. With `all` every block was read and its checksum found right; without, the header alone was
 * read, and blocks are taken by prepared_read. */
prepared_entry *prepared_find(prepared_folder *f, const prepared_block *block, size_t count, bool all);

/* Of an entry that was found with `all`; aligned to PREPARED_ALIGN. */
const void *prepared_data(const prepared_entry *e, size_t block);

/* Copies a block's bytes to `out`. FLUX1_ERR_FORMAT: they are not those that were stored, FLUX1_ERR_IO: they cannot be
 * read; the caller then makes them anew and leaves the entry by prepared_discard. */
flux1_status prepared_read(const prepared_entry *e, size_t block, void *out, flux1_error *err);

void prepared_hold(prepared_entry *e);  /* one user more */
void prepared_leave(prepared_entry *e); /* one less */

/* Its only user leaves it because of `problem`: a damaged entry is removed, with a warning. */
void prepared_discard(prepared_folder *f, prepared_entry *e, const flux1_error *problem);

/* To be asked after the data were used: FLUX1_ERR_IO if the file has become shorter, or could not be read, since it was
 * found. */
flux1_status prepared_intact(const prepared_entry *e, flux1_error *err);

/* Reads a file of the cache and compares its checksums. FLUX1_ERR_FORMAT, naming the file: it is damaged, or no file;
 * FLUX1_ERR_IO, FLUX1_ERR_MEMORY. description (may be NULL): malloc'd; also set for an entry whose blocks are damaged,
 * else NULL. With `all` false only the header is read. cancel (may be NULL) becomes other than 0: FLUX1_ERR_CANCELLED
 * after the block that is being read. */
flux1_status prepared_check(const char *folder, const char *name, bool all, const atomic_int *cancel,
                            char **description, flux1_error *err);

/* ---- writing ---- */

typedef struct prepared_writer prepared_writer;

/* Begins an entry of these blocks. NULL: nothing is to be written, since the entry is there (*there), another process
 * or rank writes it (*busy, unless it has not done so for two minutes: ask again, it will be there), or it does not fit
 * (disk, limit), or something that is no file has its name or the temporary one, or writing has failed before. */
prepared_writer *prepared_begin(prepared_folder *f, const prepared_block *block, size_t count, const char *description,
                                bool *there, bool *busy);

/* The bytes of a block, each once and in any order; false: the entry is given up (prepared_end is still to be called).
 */
bool prepared_add(prepared_writer *w, size_t block, const void *bytes);
bool prepared_has(const prepared_writer *w, size_t block); /* whether it was added */

/* Ends it: if all blocks were added, and it is to be kept, it appears under its name, on the disk; otherwise nothing is
 * left of it. False: there is no entry. */
bool prepared_end(prepared_writer *w, bool keep);

#endif
