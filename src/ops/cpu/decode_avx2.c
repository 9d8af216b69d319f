/* The decoders for AVX2. */
#if defined(__x86_64__)
#include "ops/cpu/decode_x86.h"

#include "ops/cpu/decode_blocks.h"

const cpu_decoders cpu_decoders_avx2 = DECODERS;
#else
typedef int no_such_machine; /* a C file may not be empty */
#endif
