/* What the stubs say of themselves. A library of this file alone is one that lacks everything else: too old. */
#include <stddef.h>

#define EXPORTED __attribute__((visibility("default")))

EXPORTED int cuDriverGetVersion(int *version);
EXPORTED size_t cublasLtGetVersion(void);
EXPORTED size_t cudnnGetVersion(void);
EXPORTED size_t cudnnGetCudartVersion(void);
EXPORTED int ncclGetVersion(int *version);

int cuDriverGetVersion(int *version)
{
    *version = 12040;
    return 0;
}

size_t cublasLtGetVersion(void) { return 130205; }
size_t cudnnGetVersion(void) { return 91900; }
size_t cudnnGetCudartVersion(void) { return 13010; }

int ncclGetVersion(int *version)
{
    *version = 22803;
    return 0;
}
