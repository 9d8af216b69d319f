/* Devices: where backends run. A kind of device (the CPU, the reference, NVIDIA GPUs, …) is one row of the registry in
 * devices.c; a kind that this build does not have has no row. Nothing outside ops/ asks which kind a device is: it asks
 * what a device can do.
 *
 * A device is opened by name, counted, and shared by all contexts of the process; weights that backends prepare belong
 * to it and outlive them. */
#ifndef FLUX1_OPS_DEVICE_H
#define FLUX1_OPS_DEVICE_H

#include "ops/ops.h"

enum { OPS_FACTS = 12 };

/* Something that `info --devices` tells of a device: a text, or a number where text is empty. */
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
    bool bf16_native; /* and the hardware multiplies it: dtype auto takes it */
    bool fp8;         /* has e4m3 products (beside bf16, or float32 where there is no bf16) */
    bool int8;
    bool runs_ahead; /* work is enqueued: the host may be a step ahead */
    ops_fact fact[OPS_FACTS];
    int facts;
} ops_device_info;

typedef struct ops_device ops_device;

/* Direct exchange between devices of one kind (NCCL), one end a rank; the calls of mesh/comm.h, enqueued on the
 * backend. */
typedef struct ops_link ops_link;
enum { OPS_LINK_ID = 128 };

/* A kind: a table like ops_table, of what is done with its devices. Any of the link entries may be NULL: then devices
 * of this kind exchange through the host. */
typedef struct ops_device_kind {
    const char *name;   /* "cuda" */
    const char *syntax; /* how devices of it are named, for messages: "cuda, cuda:N (the N-th GPU, from 0)" */
    /* How many there are. 0 with a reason in err (FLUX1_OK is returned all the same) where a driver or library is
     * missing. */
    flux1_status (*count)(int *count, flux1_error *err);
    flux1_status (*describe)(int ordinal, ops_device_info *out, flux1_error *err);
    flux1_status (*open)(int ordinal, ops_device **out, flux1_error *err);
    void (*close)(ops_device *d);
    /* A backend on c->device, which outlives it. */
    flux1_status (*create)(const ops_config *c, ops **out);
    const ops_sizing *sizing; /* for the dry run */
    /* Bytes that activations and weights could have if everything unused were given back; of the device's own memory.
     * NULL: the host's. */
    size_t (*free_memory)(ops_device *d);

    /* Kept weights: blocks in the device's own form, which outlive the backend that prepared them and are found again
     * by key. All four entries are there, or none: then this kind keeps nothing.
     * kept_budget   bytes that blocks which no backend needs now may hold, the oldest being given back first; 0: as
     * much as there is (as at first, but for the CPU, which has 512 MiB). What is needed counts, but is never given
     * back block_key     of a block whose weights are all prepared: what it holds, in which form, and how many bytes
     * kept_export   the bytes of the block of that key to `out`; waits. FLUX1_ERR_ARGUMENT unless the device holds it,
     *               whole, with exactly `bytes`
     * kept_adopt    the reverse: `n` bytes that kept_export gave on a device whose block_key gives the same key. A
     * block of that key then needs no upload. Nothing happens if it is there already; FLUX1_ERR_MEMORY if there is no
     * room beside what is needed now and the budget */
    void (*kept_budget)(ops_device *d, size_t bytes);
    void (*block_key)(ops *o, const block *b, uint64_t key[2], size_t *bytes);
    flux1_status (*kept_export)(ops_device *d, const uint64_t key[2], void *out, size_t bytes, flux1_error *err);
    flux1_status (*kept_adopt)(ops_device *d, const uint64_t key[2], const void *bytes, size_t n, flux1_error *err);

    bool (*link_possible)(void);
    flux1_status (*link_id)(unsigned char *id, flux1_error *err); /* one for all ranks of a link, OPS_LINK_ID bytes */
    /* Returns before the other ranks have come; they are waited for at the first use. o outlives the link. */
    flux1_status (*link_create)(ops *o, const unsigned char *id, int size, int rank, ops_link **out);
    void (*link_destroy)(ops_link *l); /* NULL is fine */
    void (*link_abort)(ops_link *l);   /* from any thread: what is under way ends, what comes returns FLUX1_ERR_COMM */
    flux1_status (*link_all_gather)(ops_link *l, const void *send, void *recv, size_t bytes);
    flux1_status (*link_reduce_scatter)(ops_link *l, const float *send, float *recv, size_t count);
    flux1_status (*link_shift_begin)(ops_link *l, const void *send, void *recv, size_t bytes, int distance);
    flux1_status (*link_shift_end)(ops_link *l);
} ops_device_kind;

/* What every kind's device begins with. */
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
flux1_status ops_device_open(const char *name, ops_device **out, flux1_error *err);
void ops_device_close(ops_device *d); /* NULL is fine */

#endif
