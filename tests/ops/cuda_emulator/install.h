/* Puts the emulated GPU in place of the real one before main, unless FLUX1_TEST_GPU asks for that. */
#ifndef FLUX1_TESTS_CUDA_INSTALL_H
#define FLUX1_TESTS_CUDA_INSTALL_H

#include "ops/cuda/libraries.h"
#include "ops/cuda_emulator/emulator.h"

#include <stdlib.h>

__attribute__((constructor)) static void install_emulated_gpu(void)
{
    if (!getenv("FLUX1_TEST_GPU"))
        cuda_libraries_replace(cuda_emulator());
}

#endif
