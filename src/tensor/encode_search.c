/* The search in the compiler's own instruction set, and the choice. */
#define SEARCH encode_search_portable
#include "tensor/encode_search_kernels.h"

const encode_search *encode_search_best(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2"))
        return &encode_search_avx2;
#endif
    return &encode_search_portable;
}
