/* One layer's entry in a file of adapters: a difference ΔW [rows, cols] that is made of the file's tensors, of
 * whichever kind it is. (LyCORIS: lycoris/functional; ComfyUI: comfy/weight_adapter; PEFT: peft/tuners/lora) */
#ifndef FLUX1_WEIGHTS_ADAPTER_CHANGE_H
#define FLUX1_WEIGHTS_ADAPTER_CHANGE_H

#include "weights/adapter_names.h"
#include "weights/store.h"

#define ADAPTER_RANK_MAX 16384

/* What people call them. */
#define ADAPTER_KIND_MAP(X)       \
    X(LORA, "LoRA")               \
    X(TUCKER, "LoRA with a core") \
    X(DORA, "DoRA")               \
    X(LOHA, "LoHa")               \
    X(LOKR, "LoKr")               \
    X(DIFFERENCE, "differences")  \
    X(NORM, "norms")

typedef enum adapter_kind {
#define ADAPTER_KIND_ENUM(id, name) ADAPTER_KIND_##id,
    ADAPTER_KIND_MAP(ADAPTER_KIND_ENUM)
#undef ADAPTER_KIND_ENUM
        ADAPTER_KINDS
} adapter_kind;
const char *adapter_kind_name(adapter_kind kind);

/* A matrix [rows, cols]: `a` itself, or a·b, a·core·b, aᵀ·core·b. */
typedef struct adapter_factor {
    const store_tensor *a, *core, *b; /* core, b: may be NULL */
    bool across;                      /* aᵀ: a is [rank, rows] */
    int64_t rows, cols;
    int64_t a_rank, rank; /* a's columns (across: rows); b's rows */
} adapter_factor;

typedef enum adapter_form {
    ADAPTER_PRODUCT,   /* x */
    ADAPTER_HADAMARD,  /* x ⊙ y */
    ADAPTER_KRONECKER, /* x ⊗ y */
} adapter_form;

typedef struct adapter_change {
    const store_tensor *head; /* the tensor that messages name */
    adapter_kind kind;
    adapter_form form;
    adapter_factor x, y;
    int64_t rows, cols;            /* of ΔW; a vector has one column */
    int64_t rank;                  /* that an alpha is divided by; 0: there is none, and no alpha counts */
    float scale;                   /* alpha / rank: on ΔW and on the bias */
    const store_tensor *bias;      /* NULL, or [rows]: of a pair with biases */
    const store_tensor *magnitude; /* NULL, or DoRA's: [rows], or [cols] where by_column */
    bool by_column;
    bool of_bias; /* it is for the layer's bias, not its weight */
} adapter_change;

/* Reads the entry that tensor `head`, with this key, leads. Its other tensors are found by their names and their shapes
 * are checked; no data is read. `scale` is left at 1. *leads: false for a tensor that another one leads.
 * FLUX1_ERR_FORMAT: one is missing, or they don't fit each other. */
flux1_status adapter_change_read(const store *s, const store_tensor *head, const adapter_key *key, bool *leads,
                                 adapter_change *out, flux1_error *err);

/* Whether a tensor leads an entry of this name, the first `base` bytes of `name`. */
bool adapter_change_led(const store *s, const char *name, size_t base);

/* Whether it may run beside a linear layer: a plain pair. */
bool adapter_change_beside(const adapter_change *c);

/* The tensors that it is made of, up to ADAPTER_CHANGE_TENSORS; returns their number. */
#define ADAPTER_CHANGE_TENSORS 8
size_t adapter_change_tensors(const adapter_change *c, const store_tensor **out);

/* scale · ΔW, rows [row, row + rows), columns [col, col + cols), to out[rows·cols]. From any thread. */
flux1_status adapter_change_rows(const adapter_change *c, int64_t row, int64_t rows, int64_t col, int64_t cols,
                                 float *out, flux1_error *err);

#endif
