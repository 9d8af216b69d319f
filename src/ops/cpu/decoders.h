/* Vector decoders of the packed types, by instruction set. They give the bits that the type's decoder in
 * tensor/decode.h gives (a NaN may have another payload), and never more elements than asked for: a block of 256 is
 * decoded by quarters, so that no k block of a product decodes part of one twice. */
#ifndef FLUX1_OPS_CPU_DECODERS_H
#define FLUX1_OPS_CPU_DECODERS_H

#include "tensor/tensor.h"

/* `count` of the type's units, from unit `first` of the blocks at `data`: count · unit values to out. */
typedef void cpu_decode_fn(const unsigned char *data, int64_t first, int64_t count, float *out);

typedef struct cpu_decoder {
    int unit; /* elements; 0: none, tensor_decode has to do it */
    cpu_decode_fn *run;
} cpu_decoder;

enum { CPU_DECODE_UNIT_MAX = 64 };

typedef struct cpu_decoders {
    cpu_decoder of[DTYPE_COUNT];
    void (*multiply)(float factor, float constant, int64_t count, float *values); /* value · factor · constant */
    /* code[value] · absmax, rounded to F32, F16 or BF16. Values are 0 to 15 */
    void (*look_up)(const float code[16], float absmax, dtype rounded, int64_t count, float *values);
} cpu_decoders;

extern const cpu_decoders cpu_decoders_avx2, cpu_decoders_avx512, cpu_decoders_neon;

#endif
