/* The decoders for AVX-512. */
#if defined(__x86_64__)
#define DECODE_AVX512
#include "ops/cpu/decode_x86.h"

#include "ops/cpu/decode_blocks.h"

const cpu_decoders cpu_decoders_avx512 = DECODERS;
#else
typedef int no_such_machine; /* a C file may not be empty */
#endif
