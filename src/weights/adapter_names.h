/* The keys of LoRA files: what each tensor is, and which layers of FLUX.1 it is for. The families (kohya, diffusers and
 * PEFT, ai-toolkit, ComfyUI, OneTrainer, XLabs, fal, DiffSynth) differ in prefixes and endings, and in whether the
 * layers between them have diffusers' names or Black Forest Labs'. */
#ifndef FLUX1_WEIGHTS_ADAPTER_NAMES_H
#define FLUX1_WEIGHTS_ADAPTER_NAMES_H

#include "weights/names.h"

typedef enum adapter_role {
    ADAPTER_NONE,      /* no ending that adapters have */
    ADAPTER_DOWN,      /* [rank, in] */
    ADAPTER_UP,        /* [out, rank] */
    ADAPTER_MID,       /* between them [rank, rank] */
    ADAPTER_UP_BIAS,   /* [out], of a pair */
    ADAPTER_ALPHA,     /* a number */
    ADAPTER_MAGNITUDE, /* DoRA: length of each row, or column, of the changed weight */
    ADAPTER_HADA_1A,   /* LoHa: (1a·1b) ⊙ (2a·2b), or with cores (1aᵀ·t1·1b) ⊙ (2aᵀ·t2·2b) */
    ADAPTER_HADA_1B,
    ADAPTER_HADA_2A,
    ADAPTER_HADA_2B,
    ADAPTER_HADA_T1,
    ADAPTER_HADA_T2,
    ADAPTER_LOKR_1, /* LoKr: 1 ⊗ 2, where 1 may be 1a·1b, and 2 may be 2a·2b or 2aᵀ·t2·2b */
    ADAPTER_LOKR_1A,
    ADAPTER_LOKR_1B,
    ADAPTER_LOKR_2,
    ADAPTER_LOKR_2A,
    ADAPTER_LOKR_2B,
    ADAPTER_LOKR_T2,
    ADAPTER_OFT_BLOCKS, /* LyCORIS: blocks that rotate rows, of OFT in one stage, of BOFT in several */
    ADAPTER_OFT_PARTS,  /* kohya's, of the part of a fused layer whose number the ending has */
    ADAPTER_OFT_RESCALE,
    ADAPTER_OFT_TRIANGLE, /* PEFT's OFT, and OneTrainer's: blocks that rotate columns, what lies above their diagonal */
    ADAPTER_BOFT_BLOCKS,  /* PEFT's BOFT, of columns */
    ADAPTER_BOFT_SCALE,
    ADAPTER_GLORA_A1, /* W·a1·a2 + b1·b2; in older files W·a2·a1 + b2·b1 */
    ADAPTER_GLORA_A2,
    ADAPTER_GLORA_B1,
    ADAPTER_GLORA_B2,
    ADAPTER_IA3_PLACE,  /* LyCORIS' (IA)^3: whether the layer's input is scaled, or its output */
    ADAPTER_IA3_WEIGHT, /* … and by how much more than 1 */
    ADAPTER_IA3_VECTOR, /* PEFT's: by how much */
    ADAPTER_DIFF,       /* what is added to a weight */
    ADAPTER_DIFF_BIAS,  /* … to a bias */
    ADAPTER_NORM,       /* as ADAPTER_DIFF, of a norm */
    ADAPTER_NORM_BIAS,
    ADAPTER_VALUE,      /* PEFT's, of a module that was trained whole: what takes the weight's place */
    ADAPTER_VALUE_BIAS, /* … the bias's */
    ADAPTER_OTHER       /* of a kind that is not applied */
} adapter_role;

typedef struct adapter_key {
    adapter_role role;
    size_t base;      /* bytes of the key in front of the ending */
    const char *pair; /* ADAPTER_DOWN: the ending of its up, and the other way round */
    const char *kind; /* ADAPTER_OTHER: what such adapters are called */
} adapter_key;

adapter_key adapter_key_read(const char *name);

/* Whether PEFT's wrapper stands in front. */
bool adapter_key_wrapped(const char *name);

/* Of a name with the role ADAPTER_OFT_PARTS: which part, from 0. */
int adapter_part_number(const char *name);

/* The endings of a role other than ADAPTER_DOWN and ADAPTER_UP: the first of them for index 0, and so on; then NULL. */
const char *adapter_ending(adapter_role role, size_t index);
const char *adapter_down_ending(size_t index); /* of ADAPTER_DOWN */

#define ADAPTER_TARGETS_MAX 4

/* Layers that one pair of matrices is for: each takes `count` of `of` equal shares of up's rows, from share `first`. */
typedef struct adapter_targets {
    model_part part;
    int count;
    int order; /* of two entries for one layer, of different orders, the smaller counts: files have both spellings */
    char name[ADAPTER_TARGETS_MAX][NAME_BYTES_MAX]; /* diffusers' */
    const name_row *row[ADAPTER_TARGETS_MAX];       /* NULL: all rows */
} adapter_targets;

/* Of the key's first `length` bytes; count is 0 if no map of FLUX.1 knows it. */
void adapter_targets_find(const char *base, size_t length, adapter_targets *out);

/* What model a key seems to be of that is not FLUX.1's; NULL if there is no telling. alike: only of models whose files
 * have layers of FLUX.1's names and shapes beside this one. */
const char *adapter_stranger(const char *name, bool alike);

#endif
