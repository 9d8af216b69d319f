/* A library that exports all of a list's functions (LIST, of ops/cuda/libraries.h), each of which answers 0: something
 * for cuda_libraries_find to find. versions.c has those that answer otherwise. */
#include "ops/cuda/libraries.h"

#ifdef BEFORE_12_8 /* what such a driver calls it */
#undef cuEventElapsedTime
#endif

__attribute__((used)) static int answer(void) { return 0; }

#define TEXT2(x) #x
#define TEXT(x) TEXT2(x)
#define EXPORT(function) __asm__(".weak " TEXT(function) "\n.set " TEXT(function) ", answer\n");
LIST(EXPORT)
