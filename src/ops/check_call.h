/* One call under examination: what the checks of check.c and check_planes.c are made of. Each rule returns FLUX1_OK, or
 * FLUX1_ERR_INTERNAL with a sentence that begins with the entry and names the operands. */
#ifndef FLUX1_OPS_CHECK_CALL_H
#define FLUX1_OPS_CHECK_CALL_H

#include "ops/check.h"

typedef struct call {
    const ops *o;
    const char *entry;
} call;

/* An operand and its name in ops.h. */
typedef struct operand {
    const char *name;
    act a;
} operand;

#define NAMED(x) ((operand){#x, x})

#define CALL(name) \
    const call *c = &(call) { o, #name }

extern const char *const call_role_names[ACT_ROLES], *const call_weight_names[];

/* "in [2 x 5, 64]": batch, rows, columns. */
typedef struct operand_text {
    char s[112];
} operand_text;
operand_text call_operand_text(const operand *x);

flux1_status call_refuse(const call *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
flux1_status call_disagree(const call *c, operand a, operand b, const char *how); /* two do not go together */
flux1_status call_outside_block(const ops *o, const char *operation, const weight *w);

/* It is there, and its window lies within its part. */
flux1_status call_window(const call *c, operand x);
flux1_status call_role(const call *c, operand x, act_role role);
flux1_status call_same_rows(const call *c, operand a, operand b); /* and batch */
flux1_status call_same_shape(const call *c, operand a, operand b);

/* An output may not lie over an input … */
flux1_status call_apart(const call *c, operand in, operand out);
/* … but for an input that is the output itself. */
flux1_status call_apart_or_same(const call *c, operand in, operand out);

/* An operand of the output's shape that may be left out. */
flux1_status call_beside(const call *c, operand x, operand out);
/* One row a step and entry of the output's batch, up to the step counter; may be left out. */
flux1_status call_table(const call *c, operand t, operand out, int64_t cols);
flux1_status call_plane(const call *c, operand x); /* a whole one */

/* A weight of this role (a q|k|v one is linear too), whose block is held. */
flux1_status call_weight(const call *c, const char *name, const weight *w, weight_role role);
flux1_status call_weight_size(const call *c, const char *name, const weight *w, int64_t rows, int64_t cols);
flux1_status call_vector(const call *c, const char *name, const weight *w, int64_t n);

flux1_status call_count(const call *c, const char *name, int64_t n); /* not negative */
/* Rows [first, first + rows) are rows of x. */
flux1_status call_row_range(const call *c, operand x, int64_t first, int64_t rows);

#endif
