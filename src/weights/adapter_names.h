/* The keys of LoRA files: what each tensor is, and which layers of FLUX.1 it is for. The families (kohya, diffusers and
 * PEFT, ai-toolkit, ComfyUI, OneTrainer, XLabs, fal, DiffSynth) differ in prefixes and endings, and in whether the
 * layers between them have diffusers' names or Black Forest Labs'. */
#ifndef FLUX1_WEIGHTS_ADAPTER_NAMES_H
#define FLUX1_WEIGHTS_ADAPTER_NAMES_H

#include "weights/names.h"

typedef enum adapter_role {
    ADAPTER_NONE,  /* no ending that adapters have */
    ADAPTER_DOWN,  /* [rank, in] */
    ADAPTER_UP,    /* [out, rank] */
    ADAPTER_ALPHA, /* a number */
    ADAPTER_OTHER  /* of a kind that is not low-rank alone */
} adapter_role;

typedef struct adapter_key {
    adapter_role role;
    size_t base;      /* bytes of the key in front of the ending */
    const char *pair; /* ADAPTER_DOWN: the ending of its up, and the other way round */
    const char *kind; /* ADAPTER_OTHER: what such adapters are called */
} adapter_key;

adapter_key adapter_key_read(const char *name);

#define ADAPTER_TARGETS_MAX 4

/* Layers that one pair of matrices is for: each takes `count` of `of` equal shares of up's rows, from share `first`. */
typedef struct adapter_targets {
    model_part part;
    int count;
    char name[ADAPTER_TARGETS_MAX][NAME_BYTES_MAX]; /* diffusers' */
    const name_row *row[ADAPTER_TARGETS_MAX];       /* NULL: all rows */
} adapter_targets;

/* Of the key's first `length` bytes; count is 0 if no map of FLUX.1 knows it. */
void adapter_targets_find(const char *base, size_t length, adapter_targets *out);

/* What model a key seems to be of that is not FLUX.1's; NULL if there is no telling. */
const char *adapter_stranger(const char *name);

#endif
