/* Prepared weights from the cache on disk: a model that was built on a rank gets its blocks' forms from there, or they
 * are made now and stored, so that the next process finds them. */
#ifndef FLUX1_PIPELINE_ADOPT_H
#define FLUX1_PIPELINE_ADOPT_H

#include "model/loader.h"
#include "ops/device.h"
#include "weights/prepared.h"

/* What a device uses of an entry. */
typedef struct adopted {
    ops_device *device;
    prepared_entry *entry; /* NULL: none */
    ops_loan **loan;
    size_t count;
} adopted;

/* For the blocks of one part, which `l` has built, on device d, on the rank's thread. description: a JSON object, for
 * people. Where the cache cannot help, nothing is adopted and blocks are prepared when they are begun; the folder has a
 * warning if something is wrong. Fails with FLUX1_ERR_CANCELLED, and where weights cannot be prepared. */
flux1_status adopt_blocks(prepared_folder *f, ops_device *d, const loader *l, const char *description, adopted *out);
/* prepared_intact of the entry, if there is one. */
flux1_status adopted_intact(const adopted *a, flux1_error *err);
void adopted_end(adopted *a); /* after the blocks are destroyed, before the device is closed; harmless if zeroed */

#endif
