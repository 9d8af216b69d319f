/* The compiled kernels (CMake's FATBIN) as bytes of this program. */
extern const unsigned char cuda_kernels_fatbin[];

__asm__(".section .rodata\n"
        ".hidden cuda_kernels_fatbin\n"
        ".globl cuda_kernels_fatbin\n"
        ".balign 16\n"
        "cuda_kernels_fatbin:\n"
        ".incbin \"" FATBIN "\"\n"
        ".balign 16\n"
        ".previous\n");
