/* Devices: where backends run. A kind of device (the CPU, the reference, NVIDIA GPUs) is one row of the registry in
 * devices.c; a kind that this build does not have has no row. Other modules do not ask which kind a device is; they ask
 * what it can do.
 *
 * A device is opened by name and may be shared by all contexts of the process. Weights that it keeps (see below) belong
 * to it and outlive the backends that prepared them. */
#ifndef FLUX1_OPS_DEVICE_H
#define FLUX1_OPS_DEVICE_H

#include "ops/ops.h"

enum { OPS_FACTS = 12 };

/* One item that `info --devices` lists for a device: a text, or a number if text is empty. */
typedef struct ops_fact {
    char name[24];
    char text[96];
    int64_t number;
} ops_fact;

typedef struct ops_device_info {
    char id[24];      /* what opens it: "cpu", "cuda:1" */
    char name[128];   /* for people: "NVIDIA H200", "avx512bf16" */
    size_t memory;    /* bytes of its own; 0: it computes in the host's */
    bool bf16;        /* has bf16 arithmetic */
    bool bf16_native; /* and the hardware multiplies it: dtype AUTO chooses it */
    bool fp8;         /* has e4m3 products (together with bf16, or float32 if there is no bf16) */
    bool int8;        /* has products in int8 (int8.h) */
    bool runs_ahead;  /* work is enqueued; the host may be a step ahead */
    ops_fact fact[OPS_FACTS];
    int facts;
} ops_device_info;

/* A library that a kind of device uses. */
typedef struct ops_library {
    const char *name; /* "cuDNN" */
    char version[32]; /* "9.19.0"; "": not known */
    const char *path; /* its file; NULL where it is missing. It and the next one live as long as the process */
    const char *missing;
} ops_library;
enum { OPS_LIBRARIES = 8 };

/* A sentence for the log. */
typedef struct ops_note {
    bool warning; /* otherwise information */
    char text[1024];
} ops_note;

typedef struct ops_device ops_device;

/* What the CPU keeps beside what is needed, where memory is not wanted: a VAE's filters, but not a model decoded from 8
 * bits. */
#define KEPT_UNUSED ((size_t)512 << 20)

/* How much one context of several lets a device keep. The context's own, zeroed at first; it stays where it is while it
 * is in force. */
typedef struct ops_kept_limit {
    size_t bytes;
    struct ops_kept_limit *next; /* the device's */
} ops_kept_limit;

/* Direct exchange between devices of one kind (NCCL), with one end per rank. Its calls are those of mesh/comm.h,
 * enqueued on the backend. */
typedef struct ops_link ops_link;
enum { OPS_LINK_ID = 128 };

/* Bytes that somebody lends to a device. release(owner) is called once the device does not need them any more. */
typedef struct ops_lent {
    const void *bytes;
    size_t count;
    bool file; /* they are pages of a mapped file, which the device may give back while it does not use them */
    void (*release)(void *owner);
    void *owner;
} ops_lent;

/* What a device has of lent bytes. */
typedef struct kept_block ops_loan;

/* A kind: a table of what can be done with its devices. The link entries may be NULL: then devices of this kind
 * exchange through the host. */
typedef struct ops_device_kind {
    const char *name;   /* "cuda" */
    const char *syntax; /* how its devices are named, for messages: "cuda, cuda:N (the N-th GPU, from 0)" */
    /* How many there are. If a driver or library is missing: 0 and FLUX1_OK, with the reason in err. */
    flux1_status (*count)(int *count, flux1_error *err);
    flux1_status (*describe)(int ordinal, ops_device_info *out, flux1_error *err);
    flux1_status (*open)(int ordinal, ops_device **out, flux1_error *err);
    void (*close)(ops_device *d);
    /* A backend on c->device, which outlives it. */
    flux1_status (*create)(const ops_config *c, ops **out);
    const ops_sizing *sizing; /* for the dry run */
    /* Bytes of the device's own memory that activations and weights could have if everything unused were freed. NULL:
     * the device computes in the host's memory. */
    size_t (*free_memory)(ops_device *d);

    /* Kept weights: blocks in the device's own form, which outlive the backend that prepared them and are found again
     * by key. All entries are there, or none: then this kind keeps nothing; kept_limit alone may be NULL.
     * kept_budget   bytes that blocks may hold when no backend needs them; the oldest are freed first. 0: as much as
     *               there is. At first 0, on the CPU KEPT_UNUSED. Blocks that are needed count, but are never freed
     * kept_limit    the same for one context of several: the least of them counts, in place of kept_budget's. 0 ends
     *               it. NULL: the device has memory of its own
     * block_key     of a block whose weights are all prepared: a key of its contents and form, and its bytes (0: it has
     *               no form other than the file's). The key is of the file's content once that is hashed
     *               (weights/store.h), so that it is the same in other processes. A rank's columns of a matrix, which
     *               the CPU otherwise reads among the other columns of the mapped file, are part of this form
     * block_export  writes the block's form, of block_key's bytes, to `out`; makes it if the device does not hold it.
     *               Waits. FLUX1_ERR_MEMORY if it cannot be made beside what is needed now
     * kept_adopt    the reverse: takes bytes that block_export gave on a device whose block_key gives the same key. A
     *               block of that key then needs nothing else to be made ready. A device with memory of its own copies
     *               them: *loan is NULL, and they are released. One that computes in the host's memory uses them where
     *               they are, aligned to 4096, and counts no memory for them; they are released when the loan has been
     *               reclaimed and no backend uses them. Bytes of a key that is there already are released.
     *               FLUX1_ERR_MEMORY if they do not fit beside what is needed now, or into the budget: released too
     * kept_reclaim  ends a loan; NULL is fine */
    void (*kept_budget)(ops_device *d, size_t bytes);
    void (*kept_limit)(ops_device *d, ops_kept_limit *w, size_t bytes);
    void (*block_key)(ops *o, const block *b, uint64_t key[2], size_t *bytes);
    flux1_status (*block_export)(ops *o, block *b, void *out);
    flux1_status (*kept_adopt)(ops_device *d, const uint64_t key[2], const ops_lent *bytes, ops_loan **loan,
                               flux1_error *err);
    void (*kept_reclaim)(ops_device *d, ops_loan *loan);

    /* Bytes of the mapped files' weights, and of forms that were lent as pages of files, that this backend may leave in
     * memory, from the next block on; SIZE_MAX, as at first: all. With less, blocks are read while the one before
     * computes, and given back when they are done; two of them are there at a time whatever the number says. No block
     * is begun. NULL: the device has memory of its own, or reads weights as they come. */
    void (*weights_budget)(ops *o, size_t bytes);

    /* The libraries that devices of this kind use, whether or not there is a device; their number. NULL: none. */
    int (*libraries)(ops_library out[OPS_LIBRARIES]);
    /* The next note of this process that nobody has heard, false if there is none. NULL: there is never one. */
    bool (*next_note)(ops_note *out);

    bool (*link_possible)(void);
    flux1_status (*link_id)(unsigned char *id, flux1_error *err); /* one for all ranks of a link, OPS_LINK_ID bytes */
    /* Does not wait for the other ranks; the first use does. o outlives the link. */
    flux1_status (*link_create)(ops *o, const unsigned char *id, int size, int rank, ops_link **out);
    void (*link_destroy)(ops_link *l); /* NULL is fine */
    void (*link_abort)(ops_link *l);   /* from any thread: current calls end, later ones return FLUX1_ERR_COMM */
    flux1_status (*link_all_gather)(ops_link *l, const void *send, void *recv, size_t bytes);
    flux1_status (*link_reduce_scatter)(ops_link *l, const float *send, float *recv, size_t count);
    flux1_status (*link_shift_begin)(ops_link *l, const void *send, void *recv, size_t bytes, int distance);
    flux1_status (*link_shift_end)(ops_link *l);
} ops_device_kind;

/* Every kind's device begins with this. */
struct ops_device {
    const ops_device_kind *kind;
    int ordinal;
    ops_device_info info;
};

/* The registry, ended by NULL; the first row is the default. */
extern const ops_device_kind *const ops_device_kinds[];
extern const ops_device_kind ops_cpu_device, ops_ref_device;

/* "cpu", "ref", "cuda", "cuda:1": the kind and the ordinal. FLUX1_ERR_UNSUPPORTED lists what this build has. NULL or
 * "": the first. */
flux1_status ops_device_find(const char *name, const ops_device_kind **kind, int *ordinal, flux1_error *err);
void ops_device_close(ops_device *d); /* NULL is fine */

#endif
