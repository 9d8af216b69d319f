/* One layer's entry in a file of adapters: a difference ΔW [rows, cols] that is made of the file's tensors, of
 * whichever kind it is (adapter_values.h), and of the weight W too in the kinds of adapter_relative.h. (LyCORIS:
 * lycoris/functional, lycoris/modules; ComfyUI: comfy/weight_adapter; PEFT: peft/tuners; kohya: networks/oft_flux.py)
 */
#ifndef FLUX1_WEIGHTS_ADAPTER_CHANGE_H
#define FLUX1_WEIGHTS_ADAPTER_CHANGE_H

#include "weights/adapter_names.h"
#include "weights/adapter_rotation.h"
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
    X(NORM, "norms")              \
    X(OFT, "OFT")                 \
    X(BOFT, "BOFT")               \
    X(GLORA, "GLoRA")             \
    X(IA3, "(IA)^3")              \
    X(VALUE, "whole weights")

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
    ADAPTER_GENERAL,   /* x + W·y */
    ADAPTER_REPLACED,  /* x − W */
    ADAPTER_SCALED,    /* W's rows or columns times factors, less W */
    ADAPTER_ROTATED,   /* W rotated, its rows times factors if there are any, less W */
} adapter_form;

typedef struct adapter_change {
    const store_tensor *head; /* the tensor that messages name */
    adapter_kind kind;
    adapter_form form;
    adapter_factor x, y;
    int64_t rows, cols;            /* of ΔW; a vector has one column. 0: as many as the layer has */
    int64_t rank;                  /* that an alpha is divided by; 0: there is none, and no alpha counts */
    float scale;                   /* alpha / rank: on ΔW and on the bias */
    const store_tensor *bias;      /* NULL, or [rows]: of a pair with biases */
    const store_tensor *magnitude; /* NULL, or DoRA's: [rows], or [cols] where by_column */
    bool by_column;
    const store_tensor *factors; /* NULL, or [rows], or [cols] where factors_by_column */
    bool factors_by_column;
    float factors_from;             /* what is added to each */
    adapter_rotation_form rotation; /* of the blocks x.a */
    bool of_bias;                   /* it is for the layer's bias, not its weight */
    bool companion;                 /* it belongs to the entry before it */
} adapter_change;

/* Reads the entry that tensor `head`, with this key, leads. Its other tensors are found by their names and their shapes
 * are checked; no data is read. `scale` is left at 1. *leads: false for a tensor that another one leads.
 * FLUX1_ERR_FORMAT: one is missing, or they don't fit each other. */
flux1_status adapter_change_read(const store *s, const store_tensor *head, const adapter_key *key, bool *leads,
                                 adapter_change *out, flux1_error *err);

/* Whether a tensor leads the entry that one with this key belongs to; of an alpha any entry of its name. */
bool adapter_change_led(const store *s, const char *name, const adapter_key *key);

/* One number, of whatever type: trainers write alphas as whole numbers too. False: it is none. */
bool adapter_number(const tensor *t, float *out);

/* Whether it may run beside a linear layer: a plain pair. */
bool adapter_change_beside(const adapter_change *c);

/* Whether ΔW is made of W too (adapter_relative.h); and whether a row of it is made of other rows of W. */
bool adapter_change_relative(const adapter_change *c);
bool adapter_change_mixes_rows(const adapter_change *c);

/* The tensors that it is made of, up to ADAPTER_CHANGE_TENSORS; returns their number. */
#define ADAPTER_CHANGE_TENSORS 9
size_t adapter_change_tensors(const adapter_change *c, const store_tensor **out);

#endif
