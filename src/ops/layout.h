/* What backends with row-major activations in float32 and bf16 have in common: which roles are bf16, and how many bytes
 * a shape takes. */
#ifndef FLUX1_OPS_LAYOUT_H
#define FLUX1_OPS_LAYOUT_H

#include "base/checked.h"
#include "ops/ops.h"

/* Whether a role is stored as bf16; bf16: the arithmetic is. */
static inline bool layout_bf16(bool bf16, act_role role)
{
    return bf16 && (role == ACT_LINEAR || role == ACT_HEADS || role == ACT_PLANE);
}

/* Bytes of the elements, rounded up to `align`. SIZE_MAX for a shape too large to address, which arenas refuse. */
static inline size_t layout_bytes(bool bf16, act_role role, const act_shape *s, size_t align)
{
    int64_t rows, count;
    size_t bytes;
    if (!i64_add(s->rows[0], s->rows[1], &rows) || !i64_mul(rows, s->batch, &rows) || !i64_mul(rows, s->cols, &count) ||
        !size_mul((size_t)count, layout_bf16(bf16, role) ? 2 : 4, &bytes) || bytes > SIZE_MAX - 4096)
        return SIZE_MAX;
    return size_round_up(bytes, align);
}

#endif
