/* The decoders for arm64's NEON. */
#if defined(__aarch64__)
#include "ops/cpu/decode_neon.h"

#include "ops/cpu/decode_blocks.h"

const cpu_decoders cpu_decoders_neon = DECODERS;
#else
typedef int no_such_machine; /* a C file may not be empty */
#endif
