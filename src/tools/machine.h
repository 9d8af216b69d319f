/* Machines that `flux1 plan` predicts for: what their chips compute and move, and how they are joined. The built-in
 * ones are JSON texts (machine_table.c) that go through the same reader as a user's file; docs/planner.md has the
 * format. */
#ifndef FLUX1_TOOLS_MACHINE_H
#define FLUX1_TOOLS_MACHINE_H

#include "base/json_write.h"
#include "ops/device.h"

enum { MACHINE_OPERATIONS = 22, MACHINE_RATES = MACHINE_OPERATIONS, MACHINE_OPERATION = 24, MACHINE_DTYPES = 2 };

/* What is computed in: the exact arithmetic (0 f32, 1 bf16), and how products are made whose weights may be in int8. */
typedef struct machine_dtype {
    int exact;
    int8_kind int8;
} machine_dtype;

/* What a backend of that configuration computes in, and its name: "f32", "bf16", "int8", "int8-fast". */
machine_dtype machine_dtype_of(const ops_config *c);
const char *machine_dtype_name(machine_dtype type);

/* What a chip achieves in one operation (an entry's name of ops.h; "attention" stands for attention_part too; both and
 * products have names of their own in int8, machine_product and machine_attention): FLOP/s and bytes/s of what it reads
 * and writes. 0: the machine's peak, the memory's rate. weights: bytes/s at which weights are taken in, if that takes
 * time beside the arithmetic; 0: it does not. */
typedef struct machine_rate {
    char operation[MACHINE_OPERATION];
    double flops[MACHINE_DTYPES];
    double bytes, weights;
} machine_rate;

/* Seconds of an exchange among n ranks, of which each sends `bytes`: seconds + (n − 1)·hop + bytes / (rate · links). */
typedef struct machine_exchange {
    double seconds, hop;
    double rate;      /* bytes/s of one link, one way */
    double pair_rate; /* the same between two ranks; 0: rate */
} machine_exchange;

typedef enum machine_exchange_kind {
    EXCHANGE_GATHER,
    EXCHANGE_SCATTER,
    EXCHANGE_SHIFT,
    EXCHANGES
} machine_exchange_kind;

typedef struct machine {
    char name[64], about[256];
    int mesh[2];
    int chips;                   /* that the ranks share; 0: each has one */
    bool this_cpu;               /* rates and memory are this machine's CPU's, measured (machine_measure) */
    bool disturbed;              /* others had the cores while it was measured */
    bool tiles;                  /* memory is laid out in tiles of 32 × 32 cells, and the worker's (card_memory.h) */
    int banks;                   /* of a chip's memory, over which pages are spread evenly */
    bool packs;                  /* ranks exchange copies, made by pack and unpack */
    int dtype;                   /* of the arithmetic, where nobody asks: 0 f32, 1 bf16 */
    double weight_cell;          /* bytes of a matrix's cell in memory */
    int wide_cell;               /* ... of the residual's and of partial sums */
    double memory, memory_rate;  /* bytes, bytes/s of a chip */
    double launch;               /* seconds before each operation that computes */
    int grid[2];                 /* cores that share a product's tiles as rows × columns; 0: any cut is even */
    double peak[MACHINE_DTYPES]; /* FLOP/s of a chip; 0: it does not have that arithmetic */
    machine_rate rate[MACHINE_RATES];
    int rates;
    double products, collectives; /* efficiencies: what multiplies all FLOP/s, and all links' bytes/s */
    int links[2];                 /* between neighbours along each axis of the mesh */
    machine_exchange exchange[EXCHANGES];
    double overlap; /* share of a shift that may run beside computing, 0 to 1 */
} machine;

/* By name (any of a built-in machine's names), or a JSON file where the text names one. FLUX1_ERR_ARGUMENT lists the
 * names; a file's faults are FLUX1_ERR_FORMAT with file, key and reason. */
flux1_status machine_find(const char *name_or_file, machine *out, flux1_error *err);

/* Reads a machine from its JSON object; `name` is the file, for messages. */
flux1_status machine_read(const json_value *root, const char *name, machine *out, flux1_error *err);

/* The same as JSON, which machine_read takes. */
void machine_write(json_writer *w, const machine *m);

/* Whether it says how ranks exchange; or that is measured. */
bool machine_exchanges(const machine *m);
bool machine_joins(const machine *m);

/* The JSON text of a built-in machine of this name, NULL if there is none; the index-th one's name, NULL behind the
 * last. */
const char *machine_builtin(const char *name);
const char *machine_builtin_name(int index);

/* The built-in machine that is one device of this name ("NVIDIA H200"), NULL if there is none. */
const char *machine_of_device(const char *device);

/* Memory as this machine lays it out: a kind of device for dry runs, whose config.device is a machine_device. */
typedef struct machine_device {
    ops_device head;
    const machine *m;
} machine_device;
extern const ops_device_kind machine_kind;

/* The operations that a machine may have a rate for. Those that a plan has, and the names in int8:
 * "product", "product_int8" or "product_int8_fast"; "attention" or "attention_int8". */
extern const char *const machine_operations[MACHINE_OPERATIONS];
const char *machine_product(int8_kind int8);
const char *machine_attention(int8_kind int8);

/* Seconds of an operation without its launch, `*by_flops` if it is not the memory that bounds it. type: as
 * machine.dtype. share: ranks on the rank's chip. */
double machine_compute(const machine *m, int type, double share, const ops_event *e, bool *by_flops);

/* Seconds of a collective that begins and ends at once, or of a shift. links: of the mesh axes it runs over. */
double machine_exchange_seconds(const machine *m, const ops_event *e, int links);

/* Ranks that share a chip when there are `ranks`. */
static inline double machine_share(const machine *m, int ranks)
{
    return m->chips && ranks > m->chips ? (double)((ranks + m->chips - 1) / m->chips) : 1;
}

#endif
