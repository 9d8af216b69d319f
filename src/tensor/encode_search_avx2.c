/* The search for AVX2. */
#if defined(__x86_64__)
#define SEARCH encode_search_avx2
#include "tensor/encode_search_kernels.h"
#else
typedef int no_such_machine; /* a C file may not be empty */
#endif
