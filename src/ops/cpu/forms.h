/* The forms that weights have on a CPU. Matrices stay where the file is mapped. What has to be in another form (vectors
 * in float32, 3×3 filters in the order ky, kx, in, types that the kernels do not read) lies in its block's memory. No
 * form depends on the instruction set; that of computed matrices (merged adapters) depends on the arithmetic, that of
 * products in int8 on their kind.
 *
 * A rank's columns of a matrix are strided pieces of the file's rows, so reading them touches nearly all of its pages.
 * A block with such weights has a second form, the packed one: the slices, dense, behind the first form. */
#ifndef FLUX1_OPS_CPU_FORMS_H
#define FLUX1_OPS_CPU_FORMS_H

#include "base/file_map.h"
#include "ops/cpu/cpu.h"

/* Whether some of it is made by a function (DTYPE_COMPUTED). */
bool cpu_is_computed(const weight_recipe *r);

/* The type of a form that is no int8: a filter's is the file's, computed matrices (merged adapters) have that of the
 * products. bf16: the arithmetic is. */
dtype cpu_form_type(const weight_recipe *r, bool bf16);

/* Which form the weight gets, and where in the block's memory, which grows by it: b->bytes, b->slices.
 * FLUX1_ERR_LIMIT. */
flux1_status cpu_form_lay_out(cpu_weight *w, cpu_block *b, const cpu_ops *o, flux1_error *err);

/* All forms of the block but the slices, to `data` of b->bytes; the files' pages behind them are let go. */
flux1_status cpu_forms_fill(cpu_ops *o, const cpu_block *b, unsigned char *data);

/* The rows of a slice, one after the other. The pages around it are let go. */
flux1_status cpu_form_pack_slice(const cpu_weight *w, unsigned char *out, flux1_error *err);

/* The block's weights point into `data`, its form (where b->packed with the slices), and into the file. NULL: the block
 * has no form. */
void cpu_forms_point(cpu_block *b, const unsigned char *data, bool bf16);

/* Gathers the files' pages behind it (file_map_gathered), to leave this process's memory, so that the next stage's take
 * their place instead of being added. They stay in the page cache while nobody wants its memory, and what is used again
 * is found there. */
void cpu_gather_pages(const weight_recipe *r, file_map_range *unneeded);

#endif
