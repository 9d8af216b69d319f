/* The rotations of OFT and BOFT: orthogonal matrices of blocks on the diagonal, in BOFT several of them (stages) with
 * the blocks' elements farther apart from stage to stage. Files hold any matrices; a block B is made orthogonal by the
 * Cayley transform of S = skew·(B − Bᵀ), (I + S)(I − S)⁻¹. (Qiu et al., arXiv:2306.07280; Liu et al., arXiv:2311.06243;
 * LyCORIS: functional/diag_oft.py, boft.py; PEFT: tuners/oft, tuners/boft) */
#ifndef FLUX1_WEIGHTS_ADAPTER_ROTATION_H
#define FLUX1_WEIGHTS_ADAPTER_ROTATION_H

#include "tensor/tensor.h"

#define ADAPTER_STAGES_MAX 32
#define ADAPTER_TERMS_MAX 100

typedef struct adapter_rotation_form {
    bool of_rows;          /* of the weight's rows; otherwise its columns */
    bool triangle;         /* the file has what lies above each block's diagonal, row by row */
    int stages;            /* 0: this is no rotation */
    int64_t blocks, width; /* of a stage, [width, width] each; one block of columns is that of all */
    int64_t granule; /* elements that stay together where stages mix farther ones: 1, or half the width; 0: none */
    float skew;      /* for v·rotation with row vectors v: the sign of S says which way it turns */
    int terms;       /* that PEFT takes of the series I + 2S + 2S² + …; 0: the inverse itself */
    double limit;    /* of the norm of B − Bᵀ, which larger ones are made smaller to; negative: none */
    bool each;       /* … of each block, otherwise of all of them together */
} adapter_rotation_form;

typedef struct adapter_rotation adapter_rotation;

/* From the file's blocks, [stages, blocks, width, width] or [blocks, width·(width − 1)/2]. Memory is one float for each
 * element of the blocks. FLUX1_ERR_MEMORY. */
flux1_status adapter_rotation_make(const adapter_rotation_form *form, const tensor *blocks, adapter_rotation **out,
                                   flux1_error *err);

/* Elements [*first, *end) become all those that the rotation mixes with one of them. */
void adapter_rotation_reach(const adapter_rotation *r, int64_t *first, int64_t *end);

/* Elements [first, end), which are a reach, of `rows` row vectors v become those of v·rotation. work: 2 · rows · width
 */
void adapter_rotation_turn(const adapter_rotation *r, int64_t first, int64_t end, int64_t rows, float *v, float *work);

/* v: elements [first, end), a reach, of the rotation's rows from `row`. work: 2 · rows · width */
void adapter_rotation_rows(const adapter_rotation *r, int64_t row, int64_t rows, int64_t first, int64_t end, float *v,
                           float *work);

void adapter_rotation_free(adapter_rotation *r); /* NULL is fine */

#endif
