/* What one process tells another, described once for both directions: a function that calls parcel_… for each value
 * writes them in the process that sends and reads them, checked, in the one that receives. Numbers and texts are in the
 * parcel itself; large data are noted in it, and follow. */
#ifndef FLUX1_PIPELINE_PARCEL_H
#define FLUX1_PIPELINE_PARCEL_H

#include "tensor/tensor.h"

enum { PARCEL_BYTES = 1 << 17, PARCEL_BULKS = 16 };

typedef struct parcel {
    bool received;
    size_t size, at; /* bytes in it; read so far */
    int bulks;
    struct {
        void *data;
        size_t bytes;
    } bulk[PARCEL_BULKS]; /* where it was received, allocated: parcel_free */
    unsigned char bytes[PARCEL_BYTES];
} parcel;

/* Empty, to be written. */
void parcel_begin(parcel *p);
/* As it was received. FLUX1_ERR_COMM if it is too large to be one. */
flux1_status parcel_open(parcel *p, const void *bytes, size_t size, flux1_error *err);
/* Frees what was allocated for it. */
void parcel_free(parcel *p);

/* Each names what it is about in messages. Receiving: FLUX1_ERR_COMM for a value out of range or a parcel that is too
 * short. Sending: FLUX1_ERR_LIMIT for a value that the receiver would refuse. */
flux1_status parcel_i64(parcel *p, const char *what, int64_t lowest, int64_t highest, int64_t *v, flux1_error *err);
flux1_status parcel_int(parcel *p, const char *what, int lowest, int highest, int *v, flux1_error *err);
flux1_status parcel_u64(parcel *p, const char *what, uint64_t *v, flux1_error *err);
flux1_status parcel_bool(parcel *p, const char *what, bool *v, flux1_error *err);
flux1_status parcel_float(parcel *p, const char *what, float *v, flux1_error *err); /* finite */
flux1_status parcel_text(parcel *p, const char *what, char *text, size_t room, flux1_error *err);

/* count things of `size` bytes. Sending: *data is noted. Receiving: *data becomes memory for them, until parcel_free.
 */
flux1_status parcel_bulk(parcel *p, const char *what, int64_t count, size_t size, void **data, flux1_error *err);
/* The same for a float32 tensor of this shape, which is set where it is received. */
flux1_status parcel_tensor(parcel *p, const char *what, int dims, const int64_t *shape, tensor *t, flux1_error *err);

/* Receiving: FLUX1_ERR_COMM if something was not read. */
flux1_status parcel_end(const parcel *p, flux1_error *err);

#endif
