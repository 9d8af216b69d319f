/* Debian's static libraries are compiled for programs: they read the C library's `stderr` in a way that a shared
 * library cannot. In the wheel's library the linker lets them read this one (--wrap=stderr). libpng and libjpeg use it
 * where no handler of errors is set, which flux1 always does. */
#include <stdio.h>

extern FILE *__real_stderr;
FILE *__wrap_stderr;

__attribute__((constructor)) static void take_stderr(void) { __wrap_stderr = __real_stderr; }
